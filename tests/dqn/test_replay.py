"""Replay against its contract, and against a plain model that keeps everything in lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.dqn.errors import LearningError
from trimtab.dqn.replay import Replay
from trimtab.errors import CheckpointError, UsageError

GAMMA = 0.5


def observation(tags):
    """One server, one feature: the tag itself, so that a sampled row says which one it is."""
    return np.asarray(tags, np.float32).reshape(-1, 1, 1)


def mask(streams):
    return np.ones((streams, 1), np.bool_)


def add(replay, tags):
    return replay.add(observation(tags), mask(len(tags)), np.zeros(len(tags), np.int64))


def credit(replay, ids, rewards, valid=True):
    replay.credit(np.asarray(ids, np.int64), np.asarray(rewards, np.float32), np.full(len(ids), valid))


def one_episode(replay, rewards, first_tag=0, terminated=None):
    """One stream: observations first_tag, first_tag + 1, ... and a closing one."""
    replay.begin(1)
    for step, reward in enumerate(rewards):
        credit(replay, add(replay, [first_tag + step]), [reward])
    replay.finish(observation([first_tag + len(rewards)]), mask(1), terminated)


def sampled(replay, n_step=1, batch=400, seed=0):
    """{tag: (reward, discount, next tag)} of all rows that ever come up."""
    b = replay.sample(np.random.default_rng(seed), batch, n_step, GAMMA)
    rows = zip(b.obs.flatten().tolist(), b.reward.tolist(), b.discount.tolist(), b.next_obs.flatten().tolist(), strict=True)
    return {int(tag): (reward, discount, int(following)) for tag, reward, discount, following in rows}


def test_n_step_windows_sum_rewards_and_shorten_at_the_end_of_an_episode():
    replay = Replay(16, 1, 1)
    one_episode(replay, [1.0, 2.0, 4.0, 8.0])
    assert sampled(replay, n_step=3) == {
        0: (1 + 2 * 0.5 + 4 * 0.25, 0.125, 3),
        1: (2 + 4 * 0.5 + 8 * 0.25, 0.125, 4),
        2: (4 + 8 * 0.5, 0.25, 4),  # two decisions left: bootstraps from the closing row with gamma^2
        3: (8.0, 0.5, 4),
    }


def test_a_true_end_cuts_the_bootstrap_and_a_time_limit_does_not():
    replay = Replay(16, 1, 1)
    one_episode(replay, [1.0, 2.0], terminated=np.array([True]))
    assert {tag: discount for tag, (_, discount, _) in sampled(replay, n_step=2).items()} == {0: 0.0, 1: 0.0}


def test_slots_reused_after_a_true_end_bootstrap_again():
    replay = Replay(3, 1, 1)
    one_episode(replay, [1.0, 2.0], terminated=np.array([True]))
    one_episode(replay, [1.0, 2.0], first_tag=10)
    assert {discount for _, discount, _ in sampled(replay).values()} == {0.5}


def test_streams_do_not_mix():
    replay = Replay(32, 1, 1)
    replay.begin(2)
    for step in range(3):
        credit(replay, add(replay, [step, 100 + step]), [1.0, 10.0])
    replay.finish(observation([3, 103]), mask(2))
    rows = sampled(replay, n_step=2)
    assert rows[1] == (1.5, 0.25, 3)
    assert rows[101] == (15.0, 0.25, 103)


def test_rewards_out_of_order_are_sampled_only_below_the_oldest_pending():
    replay = Replay(32, 1, 1)
    replay.begin(1)
    ids = np.concatenate([add(replay, [step]) for step in range(5)])
    credit(replay, ids[[3, 1]], [3.0, 1.0])
    assert replay.watermark == 0
    assert not replay.ready(1, 1)
    credit(replay, ids[[0]], [0.0])
    assert replay.watermark == 2
    assert set(sampled(replay)) == {0, 1}
    credit(replay, ids[[2]], [2.0])
    assert replay.watermark == 4
    assert set(sampled(replay)) == {0, 1, 2, 3}
    assert set(sampled(replay, n_step=2)) == {0, 1, 2}, "row 3 lacks the reward of row 4"


def test_the_newest_decision_waits_for_its_next_observation():
    replay = Replay(8, 1, 1)
    replay.begin(1)
    credit(replay, add(replay, [0]), [1.0])
    assert not replay.ready(1, 1)
    replay.finish(observation([1]), mask(1))
    assert sampled(replay) == {0: (1.0, 0.5, 1)}


def test_windows_with_an_unmeasurable_outcome_are_dropped():
    replay = Replay(16, 1, 1)
    replay.begin(1)
    for step in range(5):
        credit(replay, add(replay, [step]), [np.nan if step == 2 else 1.0], valid=step != 2)
    replay.finish(observation([5]), mask(1))
    assert set(sampled(replay, n_step=1)) == {0, 1, 3, 4}
    assert set(sampled(replay, n_step=2)) == {0, 3, 4}


def test_rewards_may_arrive_after_the_episode_and_the_next_one_has_begun():
    replay = Replay(16, 1, 1)
    replay.begin(1)
    ids = add(replay, [0])
    replay.finish(observation([1]), mask(1))
    replay.begin(3)
    add(replay, [10, 11, 12])
    credit(replay, ids, [7.0])
    assert sampled(replay) == {0: (7.0, 0.5, 1)}


def test_an_abandoned_episode_keeps_its_whole_windows_only():
    replay = Replay(16, 1, 1)
    replay.begin(1)
    for step in range(3):
        credit(replay, add(replay, [step]), [1.0])
    replay.begin(1)
    credit(replay, add(replay, [10]), [1.0])
    assert set(sampled(replay)) == {0, 1}


def test_a_reward_for_an_overwritten_row_is_ignored():
    replay = Replay(4, 1, 1)
    replay.begin(1)
    ids = np.concatenate([add(replay, [step]) for step in range(6)])
    assert replay.watermark == 2, "overwritten decisions no longer hold the watermark"
    credit(replay, ids, np.arange(6.0))
    assert sampled(replay) == {tag: (tag, 0.5, tag + 1) for tag in (2, 3, 4)}


def test_ring_wraps_in_the_middle_of_a_step():
    replay = Replay(5, 1, 1)
    replay.begin(2)
    for step in range(4):
        credit(replay, add(replay, [step, 100 + step]), [step, 100 + step])
    rows = sampled(replay)
    assert rows == {2: (2.0, 0.5, 3), 101: (101.0, 0.5, 102), 102: (102.0, 0.5, 103)}
    assert len(replay) == 5


def test_sampling_is_uniform_over_whole_windows():
    replay = Replay(64, 1, 1)
    for episode in range(5):
        one_episode(replay, [1.0] * 4, first_tag=10 * episode)
    tags = replay.sample(np.random.default_rng(0), 20_000, 3, GAMMA).obs.flatten().numpy()
    counts = np.unique(tags, return_counts=True)[1]
    assert len(counts) == 20
    assert ((counts - 1000) ** 2 / 1000).sum() < 45  # chi-square, 19 degrees of freedom: p < 0.001


def test_rare_whole_windows_are_found_and_none_is_an_error():
    replay = Replay(4096, 1, 1)
    replay.begin(1)
    for step in range(4000):
        credit(replay, add(replay, [step]), [1.0], valid=step == 1234)
    assert replay.ready(1, 1)
    assert not replay.ready(2, 1)
    assert set(sampled(replay)) == {1234}
    with pytest.raises(LearningError, match="no whole window"):
        sampled(replay, n_step=2)


def test_misuse_is_named():
    replay = Replay(8, 1, 1)
    with pytest.raises(UsageError, match=r"replay_capacity is 8.*at least 10"):
        replay.begin(5)
    with pytest.raises(LearningError, match="1 observations for 0 open streams"):
        add(replay, [0])
    replay.begin(1)
    ids = add(replay, [0])
    with pytest.raises(LearningError, match="ids given so far: 0 to 0"):
        credit(replay, [3], [1.0])
    with pytest.raises(LearningError, match="decision 0 is not finite"):
        credit(replay, ids, [np.inf])
    credit(replay, ids, [1.0])
    with pytest.raises(LearningError, match="decision 0 was rewarded before"):
        credit(replay, ids, [1.0])


def test_state_of_another_size_is_refused():
    with pytest.raises(CheckpointError, match="stored replay holds 8 rows"):
        Replay(9, 1, 1).load_state_dict(Replay(8, 1, 1).state_dict())


class Model:
    """The contract in plain Python: every row ever made, in a list."""

    def __init__(self, capacity):
        self.capacity, self.rows, self.last = capacity, [], []

    def append(self, streams, kind):
        ids = list(range(len(self.rows), len(self.rows) + streams))
        for stream, row in enumerate(ids):
            if self.last[stream] is not None:
                self.rows[self.last[stream]]["next"] = row
            self.rows.append({"kind": kind, "reward": None, "next": None})
        self.last = ids
        return ids

    def credit(self, row, reward):
        self.rows[row].update(kind="credited" if reward is not None else "dropped", reward=reward)

    def windows(self, n_step):
        oldest = max(0, len(self.rows) - self.capacity)
        alive = range(oldest, len(self.rows))
        watermark = next((i for i in alive if self.rows[i]["kind"] == "pending"), len(self.rows))
        found = {i: self.window(i, n_step, watermark) for i in range(oldest, watermark) if self.rows[i]["kind"] == "credited"}
        return {i: w for i, w in found.items() if w is not None}

    def window(self, row, n_step, watermark):
        total, factor = 0.0, 1.0
        for _ in range(n_step):
            if self.rows[row]["kind"] == "closing":
                break
            if row >= watermark or self.rows[row]["kind"] != "credited" or self.rows[row]["next"] is None:
                return None
            total, factor, row = total + factor * self.rows[row]["reward"], factor * GAMMA, self.rows[row]["next"]
        return total, factor, row


class Pair:
    """The replay and its model, driven together; tags are ids."""

    def __init__(self, capacity):
        self.replay, self.model, self.pending, self.streams = Replay(capacity, 1, 1), Model(capacity), [], 0

    def begin(self, streams):
        self.streams = streams
        self.replay.begin(streams)
        self.model.last = [None] * streams

    def step(self):
        ids = self.model.append(self.streams, "pending")
        assert add(self.replay, ids).tolist() == ids
        self.pending += ids

    def finish(self):
        ids = self.model.append(self.streams, "closing")
        self.replay.finish(observation(ids), mask(self.streams))
        self.streams = 0

    def credit(self, which, reward):
        row = self.pending.pop(which % len(self.pending))
        credit(self.replay, [row], [0.0 if reward is None else reward], valid=reward is not None)
        self.model.credit(row, reward)

    def reload(self):
        copy = Replay(self.replay.capacity, 1, 1)
        copy.load_state_dict(self.replay.state_dict())
        self.replay = copy


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(1, 3)),
        st.tuples(st.just("step")),
        st.tuples(st.just("step")),
        st.tuples(st.just("finish")),
        st.tuples(st.just("reload")),
        st.tuples(st.just("credit"), st.integers(0, 50), st.sampled_from([None, -1.0, 0.0, 2.0, 4.0])),
        st.tuples(st.just("credit"), st.just(0), st.sampled_from([-1.0, 2.0])),
    ),
    max_size=60,
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(capacity=st.integers(6, 20), n_step=st.integers(1, 4), operations=OPERATIONS)
def test_replay_equals_the_plain_model(capacity, n_step, operations):
    pair = Pair(capacity)
    for name, *arguments in operations:
        if (name in ("step", "finish") and pair.streams == 0) or (name == "credit" and not pair.pending):
            continue
        getattr(pair, name)(*arguments)
    expected = pair.model.windows(n_step)
    assert pair.replay.ready(len(expected), n_step) or not expected
    assert not pair.replay.ready(len(expected) + 1, n_step)
    if expected:
        assert sampled(pair.replay, n_step=n_step, batch=500) == expected

"""Training: rows, columns, and rewards that come late to the decisions that earned them."""

from dataclasses import replace

import numpy as np
import pytest

from builders import scenario, server
from tiny_runs import LEARNER, SpyWorld, shorten
from trimtab.core.request_log import FAILED, SERVED
from trimtab.core.reward import own_response
from trimtab.core.scenario import Fault
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.config import DQNConfig
from trimtab.experiments.loop import play
from trimtab.experiments.seeding import TRAINING_OFFSET, policy_seeds
from trimtab.experiments.train import Stage, Trainer, training_columns
from trimtab.policies import catalogue
from trimtab.problems.base import Credits
from trimtab.problems.routing.problem import Routing
from trimtab.problems.routing.world import TWIN_WARMUP, fixed_twin

COLUMNS = (
    "episode, phase, backend, episode_length, total_reward, average_reward, gini_coefficient, utilization_std, optimal_decision_rate, "
    "mean_latency_ms, p95_latency_ms, p99_latency_ms, error_rate, epsilon, loss, q_mean, wall_s"
)
# One request a second to servers that serve in one second; one of them crashes, so that some requests fail and some fail late.
CALM = scenario(server(slots=2), server(slots=1, speed=0.5, queue_limit=1000), rate_rps=1.0)
STORMY = replace(CALM, faults=(Fault("server-2", "crash", TWIN_WARMUP, TWIN_WARMUP + 40.0),))


class SpyAgent(DQNAgent):
    """Remembers which ids stand for which decisions, and every reward it was given."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.episodes = []  # a list of ids [B] a decision, for each batch
        self.rewards = {}

    def begin(self, streams):
        super().begin(streams)
        self.episodes.append([])

    def observe(self, obs, mask, actions):
        ids = super().observe(obs, mask, actions)
        self.episodes[-1].append(ids)
        return ids

    def credit(self, ids, rewards, valid):
        super().credit(ids, rewards, valid)
        assert not set(ids.tolist()) & set(self.rewards), "a decision is rewarded once"
        self.rewards |= dict(zip(ids.tolist(), rewards.tolist(), strict=True))


def agent_of(seed=0, **changes):
    return SpyAgent(DQNConfig(**{**LEARNER, **changes}), len(Routing.features), 2, seed)


def trained(world, episodes, *, agent=None, heuristic=None, seed=0):
    """(rows, spied world, agent) of a training run."""
    spied, agent = SpyWorld(world), agent or agent_of()
    rows = [row for batch in Trainer(Routing(), agent, seed, heuristic).run([Stage(spied, episodes)]) for row in batch]
    return rows, spied, agent


@pytest.fixture(autouse=True)
def short(monkeypatch):
    shorten(monkeypatch.setattr)


def test_columns_are_the_documented_ones():
    assert training_columns(Routing()) == tuple(COLUMNS.split(", "))


def test_rows_come_in_order_with_every_column():
    rows, _, _ = trained(fixed_twin(CALM), 45)
    assert [row["episode"] for row in rows] == list(range(1, 46))
    for row in rows:
        assert set(training_columns(Routing())) <= set(row)
        assert (row["phase"], row["backend"], row["episode_length"]) == (1, "twin", 12)
        assert row["average_reward"] == pytest.approx(row["total_reward"] / 12)


def test_phases_follow_the_curriculum():
    rows, _, _ = trained(fixed_twin(CALM), 180)
    lengths = [(row["phase"], row["episode_length"]) for row in rows]
    assert lengths == [(1, 12)] * 100 + [(2, 16)] * 60 + [(3, 20)] * 20


def test_a_stage_may_have_a_phase_of_its_own():
    agent = agent_of()
    stages = [Stage(fixed_twin(CALM), 10), Stage(fixed_twin(CALM), 15, phase=4)]
    rows = [row for batch in Trainer(Routing(), agent, 0).run(stages) for row in batch]
    assert [row["phase"] for row in rows] == [1] * 10 + [4] * 5
    assert [row["episode"] for row in rows] == list(range(1, 16))


def test_the_same_seed_gives_the_same_rows():
    runs = [trained(fixed_twin(CALM), 60)[0] for _ in range(2)]
    # As text, in which nan equals nan.
    first, second = ([str({name: cell for name, cell in row.items() if name != "wall_s"}) for row in rows] for rows in runs)
    assert first == second


def test_another_seed_gives_other_episodes():
    first, second = (trained(fixed_twin(CALM), 20, seed=seed)[0] for seed in (0, 1))
    assert [row["total_reward"] for row in first] != [row["total_reward"] for row in second]


@pytest.mark.parametrize("world", [CALM, STORMY], ids=["calm", "crash"])
def test_every_decision_gets_the_reward_of_its_own_request(world):
    _, spied, agent = trained(fixed_twin(world), 40)
    assert len(agent.episodes) == len(spied.envs) == 2
    failures = 0
    for env, ids in zip(spied.envs, agent.episodes, strict=True):
        log, counted = env.logs[0], slice(TWIN_WARMUP, TWIN_WARMUP + len(ids))
        latency, status = log.latency_s[:, counted], log.status[:, counted]
        unit_s = world.fleet_service_s()
        expected, valid = own_response(latency.ravel(), status.ravel(), np.full(latency.size, unit_s))
        given = np.array([agent.rewards[one] for one in np.stack(ids, axis=1).ravel().tolist()])
        assert valid.all()
        np.testing.assert_allclose(given, expected)
        failures += int((status == FAILED).sum())
    assert (failures > 0) == (world is STORMY)


def test_the_total_of_a_row_is_the_sum_of_its_rewards():
    rows, _, agent = trained(fixed_twin(STORMY), 20)
    ids = np.stack(agent.episodes[0])  # [D, B]
    for b, row in enumerate(rows):
        assert row["total_reward"] == pytest.approx(sum(agent.rewards[one] for one in ids[:, b].tolist()))


def test_warm_up_decisions_are_not_learned_from():
    _, spied, agent = trained(fixed_twin(CALM), 20)
    assert agent.decisions == 20 * 12
    assert (spied.envs[0].logs[0].status[:, :TWIN_WARMUP] == SERVED).all()


def test_integral_rewards_come_once_each_and_belong_to_their_interval():
    _, spied, agent = trained(fixed_twin(CALM, reward="integral"), 20)
    log, ids = spied.envs[0].logs[0], np.stack(agent.episodes[0])  # [D, B]
    unit_s = CALM.fleet_service_s()
    assert set(agent.rewards) == set(ids.ravel().tolist())
    for b in (0, 7):
        for decision in range(len(ids)):
            request = TWIN_WARMUP + decision
            start, stop = log.scheduled_s[b, request], log.scheduled_s[b, request + 1]
            sent = slice(0, request + 1)
            inside = np.clip(np.minimum(log.completed_s[b, sent], stop) - np.maximum(log.scheduled_s[b, sent], start), 0.0, None)
            assert agent.rewards[int(ids[decision, b])] == pytest.approx(-inside.sum() / unit_s)


def test_a_heuristic_with_full_weight_decides_until_something_better_is_learned():
    config = {"epsilon_start": 0.0, "epsilon_end": 0.0, "heuristic_weight": 1.0, "heuristic_decisions": 0}
    rows, _, _ = trained(fixed_twin(CALM), 20, agent=agent_of(**config), heuristic=catalogue.build("sed-online"))
    policy, env = catalogue.build("sed-online"), fixed_twin(CALM).training_env(12, 20)
    numbers = [TRAINING_OFFSET + i for i in range(20)]
    policy.reset(policy_seeds(0, numbers))
    for _ in play(env, policy.select, 0, numbers):
        pass
    env.drain()
    assert [row["total_reward"] for row in rows] == [row["total_reward"] for row in env.metrics()]


def test_training_never_plays_an_episode_of_evaluation():
    _, spied, _ = trained(fixed_twin(CALM), 45, seed=3)
    played = [number for env in spied.envs for _, numbers in env.resets for number in numbers]
    assert played == [TRAINING_OFFSET + i for i in range(45)]
    assert {seed for env in spied.envs for seed, _ in env.resets} == {3}


def test_a_live_fleet_learns_between_episodes_alone():
    """In the middle of an episode a gradient step would make the next requests late."""
    agent, moments = agent_of(), []
    learn = agent.learn
    agent.learn = lambda: moments.append(len(agent.episodes[-1])) or learn()

    class Live(SpyWorld):
        def training_env(self, decisions, batch):
            env = super().training_env(decisions, 1)
            env.realtime, env.batch = True, 1
            return env

    rows = [row for batch in Trainer(Routing(), agent, 0).run([Stage(Live(fixed_twin(CALM)), 3)]) for row in batch]
    assert len(rows) == 3, "one episode at a time"
    assert moments == [12, 12, 12]


def test_unmeasurable_outcomes_reach_the_agent_as_such():
    agent, seen = agent_of(), []
    agent.credit = lambda ids, rewards, valid: seen.append(valid)

    class Leaving(SpyWorld):
        def training_env(self, decisions, batch):
            env = super().training_env(decisions, batch)
            credits = env.credits
            env.credits = lambda: Credits(*(one := credits())[:3], np.zeros(len(one.valid), dtype=np.bool_))
            return env

    list(Trainer(Routing(), agent, 0).run([Stage(Leaving(fixed_twin(CALM)), 2)]))
    assert sum(len(valid) for valid in seen) == 24
    assert not np.concatenate(seen).any()

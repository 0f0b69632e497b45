"""Copies of routing episodes: what they go on with is what the episode itself would go on with, and it never notices."""

import numpy as np
import pytest

from builders import columns, scenario, server
from trimtab.core.observation import observation
from trimtab.core.request_log import FAILED
from trimtab.core.reward import FAILURE_COST
from trimtab.core.scenario import Fault, RequestClass
from trimtab.core.tally import Tallies
from trimtab.errors import UsageError
from trimtab.problems.routing.env import RoutingEnv
from trimtab.problems.routing.world import family_twin, fixed_twin

CLASSES = (RequestClass("a", 0.6, 0.010), RequestClass("b", 0.4, 0.030))
SERVERS, EPISODES = 3, 3
FAULTS = (  # around the branch, which is at about 0.5 s: over, under way and still to come
    Fault("server-1", "crash", 0.25, 0.35),
    Fault("server-1", "crash", 0.7, 0.8),
    Fault("server-2", "error_share", 0.4, 5.0, share=0.3),
    Fault("server-3", "freeze", 0.45, 0.6),
    Fault("server-3", "slowdown", 0.1, 5.0, factor=3.0),
    Fault("server-1", "leave", 0.95, 1.1),
)
BRANCH_AT, ON = 100, 90
ROWS = np.array([2, 0, 2, 1, 2])


def world(faults=(), **rest):
    servers = (
        server(2, {"a": 1.0, "b": 0.5}, queue_limit=6, contention=0.2),
        server(1, {"a": 0.5, "b": 2.0}, queue_limit=50),
        server(3, {"a": 0.7, "b": 0.6}),
    )
    rest = {"requests": 200, "warmup": 20, "rate_rps": 200.0, "overhead_s": 0.002} | rest
    return scenario(*servers, classes=CLASSES, faults=faults, **rest)


WORLDS = {
    "calm": lambda: fixed_twin(world()),
    "faults": lambda: fixed_twin(world(FAULTS)),
    "family": lambda: family_twin("grey"),
}


def actions(servers, episodes=EPISODES, requests=220):
    return np.random.default_rng(3).integers(0, servers, (episodes, requests))


def started(kind, at=BRANCH_AT):
    """An environment after `at` decisions by chance, and all its decisions [B, N], those to come too."""
    env = WORLDS[kind]().evaluation_env(EPISODES)
    view = env.reset(5, range(EPISODES))
    chosen = actions(view.slots.shape[1])
    for n in range(at):
        view = env.step(chosen[:, n].copy())
    return env, view, chosen


def told(view):
    """Everything that a view says, by name, copied."""
    truth, reports = view.oracle()._asdict(), view.reports()._asdict()
    plain = {name: getattr(view, name) for name in ("now_s", "request_class", "available", "slots", "service_rate_rps", "in_flight")}
    known = {f"oracle.{name}": one for name, one in truth.items()} | {f"reports.{name}": one for name, one in reports.items()}
    return {name: one.copy() for name, one in (plain | known | {"observation": observation(view)}).items()}


def require_rows(found, whole, rows, what):
    """That every array of one record is that of the other, at these rows; of the other only as many columns as there are."""
    for name, one in found.items():
        other = whole[name][rows]
        if one.ndim > 1 and one.shape[1] < other.shape[1]:
            other = other[:, : one.shape[1]]
        assert np.array_equal(one, other), (what, name)


def settled(log, count):
    """What became of the first `count` requests."""
    names = ("scheduled_s", "request_class", "server", "status", "latency_s", "service_s", "queue_s", "completed_s")
    return {name: getattr(log, name)[:, :count] for name in names}


@pytest.mark.parametrize("kind", list(WORLDS))
@pytest.mark.parametrize("rows", [ROWS, np.arange(EPISODES), np.array([1])], ids=["repeated", "all", "one"])
def test_a_branch_with_the_same_decisions_is_the_episode_itself(kind, rows):
    env, _, chosen = started(kind)
    branch = env.branch(rows, ON)
    for n in range(BRANCH_AT, BRANCH_AT + ON):
        there, here = env.step(chosen[:, n].copy()), branch.step(chosen[rows, n].copy())
        require_rows(settled(branch.fleet.log, n + 1), settled(env.fleet.log, n + 1), rows, n)
        if here is None:
            assert n == BRANCH_AT + ON - 1, "after so many requests, and no earlier"
            break
        require_rows(told(here), told(there), rows, n)
        done = branch.fleet.log.completed
        assert np.array_equal(done, env.fleet.log.completed[rows])
        for b, row in enumerate(rows):
            assert np.array_equal(branch.fleet.log.order[b, : done[b]], env.fleet.log.order[row, : done[b]])
    assert here is None


@pytest.mark.parametrize("kind", list(WORLDS))
def test_the_ledger_of_a_branch_holds_what_that_of_the_episode_holds(kind):
    """Times of dispatch too: the observation is made of a part of it only."""
    env, _, chosen = started(kind)
    branch = env.branch(ROWS, ON)
    for n in range(BRANCH_AT, BRANCH_AT + 30):
        there, here = env.step(chosen[:, n].copy()), branch.step(chosen[ROWS, n].copy())
        require_rows(columns(here.ledger), columns(there.ledger), ROWS, n)


def test_the_faults_of_these_tests_are_met():
    env, view, chosen = started("faults")
    branch, members = env.branch(ROWS, ON), []
    while view is not None:
        members.append(view.available.all())
        view = branch.step(chosen[ROWS, BRANCH_AT + len(members) - 1].copy())
    log, sent = branch.fleet.log, slice(BRANCH_AT, BRANCH_AT + ON)
    assert not all(members), "one leaves"
    for one in range(2):
        assert (log.status[:, sent][log.server[:, sent] == one] == FAILED).any()
    assert log.queue_s[:, sent][log.server[:, sent] == 2].max() > 0.05, "frozen"


@pytest.mark.parametrize("kind", list(WORLDS))
def test_the_episode_never_notices(kind):
    """Neither at once nor later."""
    (env, view, chosen), (control, _, _) = started(kind), started(kind)
    before = {name: one.copy() for name, one in (columns(view.ledger) | env.fleet.log._asdict()).items()}
    branch = env.branch(ROWS, ON)
    here = branch.step(np.zeros(len(ROWS), dtype=np.int64))
    while here is not None:
        here = branch.step(np.ones(len(ROWS), dtype=np.int64))
    branch.drain()
    for name, one in (columns(view.ledger) | env.fleet.log._asdict()).items():
        assert np.array_equal(one, before[name]), name
    for n in range(BRANCH_AT, BRANCH_AT + 60):
        require_rows(told(env.step(chosen[:, n].copy())), told(control.step(chosen[:, n].copy())), np.arange(EPISODES), n)
    for one, other in zip(env.credits(), control.credits(), strict=True):
        assert np.array_equal(one, other), "the copies' outcomes are nobody's reward"


def test_branches_of_one_episode_go_apart():
    env, _, _ = started("calm")
    branch = env.branch(np.array([0, 0]), 40)
    view, choice = branch, np.array([0, 2])
    while view is not None:
        view = branch.step(choice)
    log = branch.fleet.log
    assert np.array_equal(log.latency_s[0, :BRANCH_AT], log.latency_s[1, :BRANCH_AT]), "what was sent before is common"
    assert np.array_equal(log.work_s[0], log.work_s[1]), "and so are the requests to come"
    assert not np.array_equal(log.latency_s[0, BRANCH_AT:], log.latency_s[1, BRANCH_AT:])


def test_a_branch_knows_of_no_request_beyond_its_own():
    env, _, _ = started("faults")
    branch = env.branch(ROWS, ON)
    assert branch.fleet.log.scheduled_s.shape == (len(ROWS), BRANCH_AT + ON)
    assert branch.left == ON


def test_left_counts_down_and_holds_the_closing_arrival():
    env = fixed_twin(world()).evaluation_env(1)
    view = env.reset(0, [0])
    for n in range(3):
        assert env.left == 220 - n
        view = env.step(np.array([0]))
    assert view is not None
    training = fixed_twin(world()).training_env(10, 1)
    training.reset(0, [0])
    assert training.left == training.plan.arrivals == training.plan.warmup + 11


def test_all_that_is_left_can_be_branched_and_no_more():
    env, _, _ = started("calm")
    assert env.branch(np.array([0]), 120).left == 120
    with pytest.raises(UsageError, match=r"121 requests from number 100 on, and the episode has 220"):
        env.branch(np.array([0]), 121)
    with pytest.raises(UsageError, match="121 requests"):
        env.costs_of_choices(np.ones((EPISODES, SERVERS), dtype=np.bool_), Shortest(), 121)


class Live:
    """Any fleet that is not simulated."""

    def __init__(self, fleet):
        self._fleet = fleet

    def __getattr__(self, name):
        return getattr(self._fleet, name)


def test_live_servers_cannot_be_copied():
    twin = fixed_twin(world()).evaluation_env(1)

    def build(seed, numbers):
        fleet, drawn = twin._build(seed, numbers)
        return Live(fleet), drawn

    env = RoutingEnv(build, twin.plan, 1)
    env.reset(0, [0])
    with pytest.raises(UsageError, match=r"live servers cannot be copied.*--learning td"):
        env.branch(np.array([0]), 5)


class Shortest:
    """Fewest requests in flight among the members, the first of equals."""

    name = "shortest"

    def __init__(self):
        self.seeds = []

    def reset(self, seeds):
        self.seeds.append(seeds.copy())

    def select(self, view):
        return np.argmin(np.where(view.available, view.in_flight, 1000), axis=1)


def rewards_after(kind, at, episode, choice, decisions, exponent):
    """Sum of (-reward) to a power of this choice and what follows it, played in an environment of its own, by the credits alone."""
    env, _, _ = started(kind, at)
    policy, first, actions = Shortest(), env.plan.warmup, np.full(EPISODES, choice)
    for _ in range(decisions):
        view = env.step(actions)
        actions = policy.select(view)
    env.drain()
    found = env.credits()
    counted = (found.episode == episode) & (found.decision >= at - first) & (found.decision < at - first + decisions)
    assert counted.sum() == decisions
    return ((-found.reward[counted]) ** exponent).sum()


@pytest.mark.parametrize("kind", ["calm", "faults"])
@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_costs_are_minus_the_rewards_of_playing_that_choice(kind, exponent):
    env, _, _ = started(kind)
    tried = np.array([[True, False, True], [False, True, True], [False, False, False]])
    costs = env.costs_of_choices(tried, Shortest(), 40, exponent)
    assert np.array_equal(np.isnan(costs), ~tried)
    for episode, choice in np.argwhere(tried):
        assert costs[episode, choice] == pytest.approx(rewards_after(kind, BRANCH_AT, episode, choice, 40, exponent))


def test_costs_are_counted_in_the_warm_up_too():
    env, _, _ = started("calm", at=10)
    costs = env.costs_of_choices(np.ones((EPISODES, SERVERS), dtype=np.bool_), Shortest(), 30)
    assert np.isfinite(costs).all()
    log = played_log("calm", at=10, choice=1, decisions=30)
    unit = world().fleet_service_s()
    assert costs[:, 1] == pytest.approx(log.latency_s[:, 10:40].sum(axis=1) / unit)


def played_log(kind, at, choice, decisions):
    env, _, _ = started(kind, at)
    policy, actions = Shortest(), np.full(EPISODES, choice)
    for _ in range(decisions):
        actions = policy.select(env.step(actions))
    return env.fleet.log


def test_the_last_decision_of_an_episode_has_costs():
    env, _, _ = started("calm", at=219)
    tried = np.ones((EPISODES, SERVERS), dtype=np.bool_)
    costs = env.costs_of_choices(tried, Shortest(), 1)
    env.step(np.full(EPISODES, 2))
    env.drain()
    assert costs[:, 2] == pytest.approx(env.fleet.log.latency_s[:, 219] / world().fleet_service_s())


def test_rewards_by_the_integral_change_nothing_about_costs():
    tried, found = np.ones((EPISODES, SERVERS), dtype=np.bool_), []
    for reward in ("response", "integral"):
        env = fixed_twin(world(FAULTS), reward=reward).evaluation_env(EPISODES)
        env.reset(5, range(EPISODES))
        for n in range(60):
            env.step(actions(SERVERS)[:, n].copy())
        found.append(env.costs_of_choices(tried, Shortest(), 30))
    assert np.array_equal(*found)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 1.4])
def test_a_failed_request_costs_what_a_failure_costs(exponent):
    env = fixed_twin(world([Fault("server-2", "fail_fast", 0.0)])).evaluation_env(2)
    env.reset(0, [0, 1])
    costs = env.costs_of_choices(np.tile([True, True, False], (2, 1)), Shortest(), 1, exponent)
    assert costs[:, 1] == pytest.approx([FAILURE_COST**exponent] * 2)
    assert (costs[:, 0] < 10.0**exponent).all()


@pytest.mark.parametrize("kind", list(WORLDS))
def test_asking_for_costs_is_repeatable_and_leaves_the_episode_as_it_was(kind):
    (env, view, chosen), (control, _, _) = started(kind), started(kind)
    tried = view.available.copy()
    first, second = (env.costs_of_choices(tried, Shortest(), 50, 1.4) for _ in range(2))
    assert np.array_equal(first, second, equal_nan=True)
    assert np.isfinite(first[tried]).all()
    for n in range(BRANCH_AT, BRANCH_AT + 60):
        require_rows(told(env.step(chosen[:, n].copy())), told(control.step(chosen[:, n].copy())), np.arange(EPISODES), n)
    env.drain()
    control.drain()
    require_rows(env.fleet.log._asdict(), control.fleet.log._asdict(), np.arange(EPISODES), "log")
    for one, other in zip(env.credits(), control.credits(), strict=True):
        assert np.array_equal(one, other)


def test_costs_of_an_episode_do_not_depend_on_what_is_tried_beside_it():
    env, _, _ = started("faults")
    every = env.costs_of_choices(np.ones((EPISODES, SERVERS), dtype=np.bool_), Shortest(), 40)
    for episode in range(EPISODES):
        for choice in range(SERVERS):
            alone = np.zeros((EPISODES, SERVERS), dtype=np.bool_)
            alone[episode, choice] = True
            assert env.costs_of_choices(alone, Shortest(), 40)[episode, choice] == pytest.approx(every[episode, choice], rel=1e-12)


def test_all_copies_of_an_episode_have_the_same_chance():
    env, _, _ = started("calm")
    policy, tried = Shortest(), np.array([[True, True, False], [False, True, True], [True, False, True]])
    env.costs_of_choices(tried, policy, 5)
    assert [one.tolist() for one in policy.seeds] == [[0, 0, 1, 1, 2, 2]]


def test_copies_are_not_counted_among_the_decisions():
    env, tallies = fixed_twin(world()).evaluation_env(EPISODES), Tallies()
    env.count_into(tallies, "anybody")
    env.reset(0, range(EPISODES))
    for _ in range(10):
        env.step(np.zeros(EPISODES, dtype=np.int64))
    env.costs_of_choices(np.ones((EPISODES, SERVERS), dtype=np.bool_), Shortest(), 20)
    ((_, tally),) = list(tallies)
    assert tally.decisions.sum() == 10 * EPISODES

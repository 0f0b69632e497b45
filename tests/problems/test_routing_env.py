"""The environment: who is told what, when, and that every reward finds its decision."""

import numpy as np
import pytest

from builders import scenario, server
from trimtab.core.request_log import FAILED, UNMEASURED
from trimtab.core.reward import FAILURE_COST
from trimtab.core.scenario import Fault, RequestClass
from trimtab.errors import UsageError
from trimtab.fleets.base import Episodes
from trimtab.problems.routing.env import Plan
from trimtab.problems.routing.world import TWIN_WARMUP, draw_episodes, family_twin, fixed_twin

CLASSES = (RequestClass("a", 0.6, 0.010), RequestClass("b", 0.4, 0.030))


def tiny(faults=(), **rest):
    servers = (server(2, {"a": 1.0, "b": 0.5}), server(1, {"a": 0.5, "b": 2.0}, queue_limit=500))
    return scenario(*servers, classes=CLASSES, faults=faults, rate_rps=90.0, **{"requests": 80, "warmup": 20} | rest)


def play(env, seed=0, episodes=(0, 1, 2), rng_seed=1, collect=None):
    """Random choices to the end; all credits as lists of (decision, reward, valid) by episode."""
    rng, found = np.random.default_rng(rng_seed), [[] for _ in episodes]
    view = env.reset(seed, list(episodes))
    while view is not None:
        if collect is not None:
            collect(env, view)
        view = env.step(rng.integers(0, view.slots.shape[1], view.now_s.size))
        gather(env, found)
    if env.plan.closing:
        env.closing()
    gather(env, found)
    env.drain()
    gather(env, found)
    return found


def gather(env, found):
    for episode, decision, reward, valid in zip(*env.credits(), strict=True):
        found[episode].append((int(decision), float(reward), bool(valid)))


def test_views_are_those_of_the_arrivals():
    world, seen = fixed_twin(tiny()), []
    env = world.evaluation_env(3)
    play(env, collect=lambda env, view: seen.append((env.warming, view.now_s.copy(), view.request_class.copy(), view.in_flight.sum())))
    assert len(seen) == 100
    assert [warming for warming, *_ in seen] == [True] * 20 + [False] * 80
    log = env.fleet.log
    assert np.array_equal(np.stack([now for _, now, _, _ in seen], axis=1), log.scheduled_s)
    assert np.array_equal(np.stack([kind for _, _, kind, _ in seen], axis=1), log.request_class)
    assert seen[0][3] == 0
    assert max(inside for *_, inside in seen) > 3


def test_what_a_view_declares():
    view = fixed_twin(tiny()).evaluation_env(2).reset(0, [0, 1])
    assert view.slots.tolist() == [[2, 1]] * 2
    assert view.service_rate_rps[0] == pytest.approx(tiny().service_rate_rps())
    assert view.available.all()
    assert view.oracle().mean_service_s[1].tolist() == tiny().mean_service_s().tolist()


def test_the_ledger_knows_only_what_has_completed():
    """At each arrival: sent less completed by then, from the log after the fact."""
    seen = []
    env = fixed_twin(tiny()).evaluation_env(3)
    play(env, collect=lambda env, view: seen.append((view.now_s.copy(), view.in_flight.copy(), view.ledger.samples.sum(axis=(1, 2)))))
    log = env.fleet.log
    for n, (now, in_flight, samples) in enumerate(seen):
        for b in range(3):
            done = log.completed_s[b, :n] <= now[b]
            assert samples[b] == done.sum()
            assert in_flight[b].tolist() == np.bincount(log.server[b, :n][~done], minlength=2).tolist()


def test_every_counted_decision_is_credited_once_with_its_own_response_time():
    env = fixed_twin(tiny()).evaluation_env(3)
    found = play(env)
    log, unit = env.fleet.log, tiny().fleet_service_s()
    for b, credits in enumerate(found):
        assert sorted(decision for decision, _, _ in credits) == list(range(80))
        assert all(valid for _, _, valid in credits)
        for decision, reward, _ in credits:
            assert reward == pytest.approx(-log.latency_s[b, 20 + decision] / unit)


def test_credits_come_late_in_order_of_completion():
    env = fixed_twin(tiny()).evaluation_env(2)
    found = play(env, episodes=(0, 1))
    for b, credits in enumerate(found):
        ends = [env.fleet.log.completed_s[b, 20 + decision] for decision, _, _ in credits]
        assert ends == sorted(ends)
    assert [decision for decision, _, _ in found[0]] != sorted(decision for decision, _, _ in found[0])


def test_the_closing_arrival_of_a_training_episode_is_never_credited():
    env = fixed_twin(tiny()).training_env(40, 2)
    assert env.plan.arrivals == TWIN_WARMUP + 41
    found = play(env, episodes=(0, 1))
    assert all(sorted(decision for decision, _, _ in credits) == list(range(40)) for credits in found)
    assert (env.fleet.log.server[:, -1] == -1).all()


def test_a_failure_is_credited_as_such():
    env = fixed_twin(tiny([Fault("server-2", "fail_fast", 0.0)])).evaluation_env(1)
    (credits,) = play(env, episodes=(0,))
    failed = env.fleet.log.status[0, 20:] == FAILED
    assert failed.any()
    for decision, reward, valid in credits:
        assert valid
        assert (reward == -FAILURE_COST) == failed[decision]


def test_an_unmeasured_outcome_is_not_to_be_learned_from():
    env = fixed_twin(tiny()).evaluation_env(1)
    view = env.reset(0, [0])
    while view is not None:
        view = env.step(np.array([0]))
    env.drain()
    env.fleet.log.status[0, 50] = UNMEASURED
    credits = env.credits()
    assert credits.decision[~credits.valid].tolist() == [30]


def test_metrics_hold_the_sum_of_the_credits():
    env = fixed_twin(tiny([Fault("server-1", "error_share", 0.0, share=0.2)])).evaluation_env(3)
    found = play(env)
    for row, credits in zip(env.metrics(), found, strict=True):
        assert row["total_reward"] == pytest.approx(sum(reward for _, reward, _ in credits))
        assert row["average_reward"] == pytest.approx(row["total_reward"] / 80)
        assert row["requests"] == 80
        assert 0 < row["error_rate"] < 0.5


def test_the_integral_reward_is_the_time_in_the_system_up_to_the_last_interval():
    """Sum over an episode = - total time in system / unit, less what is spent after the closing arrival, when nobody decides."""
    env = fixed_twin(tiny(warmup=0), reward="integral").training_env(60, 3)
    env = type(env)(env._build, Plan(0, 60, closing=True, reward="integral"), 3)
    found = play(env)
    log, unit = env.fleet.log, tiny().fleet_service_s()
    for b, credits in enumerate(found):
        assert [decision for decision, _, _ in credits] == list(range(60))
        closing_s = log.scheduled_s[b, 60]
        until = np.minimum(log.completed_s[b, :60], closing_s)
        total = sum(reward for _, reward, _ in credits)
        assert total == pytest.approx(-(until - log.scheduled_s[b, :60]).sum() / unit)
        after_s = (log.completed_s[b, :60] - until).sum()
        assert total == pytest.approx(-(log.latency_s[b, :60].sum() - after_s) / unit)
        assert after_s > 0


def test_the_integral_reward_leaves_the_warm_up_out():
    env = fixed_twin(tiny(), reward="integral").evaluation_env(2)
    found = play(env, episodes=(0, 1))
    for credits in found:
        assert [decision for decision, _, _ in credits] == list(range(79))  # the last decision has no interval: nobody arrives after it


def test_the_same_seed_is_the_same_episode_whatever_came_before_and_beside():
    env = fixed_twin(tiny([Fault("server-1", "error_share", 0.0, share=0.2)])).evaluation_env(3)
    play(env, episodes=(4, 5, 6))
    alone = fixed_twin(tiny([Fault("server-1", "error_share", 0.0, share=0.2)])).evaluation_env(1)
    for place, number in enumerate((4, 5, 6)):
        view = alone.reset(0, [number])
        for n in range(100):
            view = alone.step(env.fleet.log.server[place : place + 1, n].astype(np.int64))
        alone.drain()
        for name in ("scheduled_s", "work_s", "status", "latency_s"):
            assert np.array_equal(getattr(alone.fleet.log, name)[0], getattr(env.fleet.log, name)[place]), name
        assert view is None


def test_other_seeds_and_numbers_are_other_episodes():
    plan = Plan(5, 20, closing=False)
    one, other = (draw_episodes([tiny()] * 2, plan, seed, [0, 1]) for seed in (0, 1))
    assert isinstance(one, Episodes)
    assert one.arrival_s.shape == (2, 25)
    drawn = [*one.arrival_s, *other.arrival_s]
    assert len({tuple(row) for row in drawn}) == 4
    assert len({*one.chance, *other.chance}) == 4


def test_a_family_gives_every_episode_a_fleet_of_its_own():
    env = family_twin("affinity").training_env(10, 4)
    view = env.reset(0, [0, 1, 2, 3])
    assert len({tuple(row) for row in view.service_rate_rps}) == 4
    again = family_twin("affinity").training_env(10, 2).reset(0, [3, 1])
    assert np.array_equal(again.service_rate_rps, view.service_rate_rps[[3, 1]])


def test_the_twin_cannot_be_calibrated(tmp_path):
    world = fixed_twin(tiny())
    with pytest.raises(UsageError, match="calibration measures live servers"):
        world.calibrate(tmp_path / "calibrated.toml")
    assert world.episode_s() == 0.0
    assert world.describe() == {"backend": "twin", "scenario": "tiny"}


def test_probes_go_out_behind_their_request_and_are_counted():
    env = fixed_twin(tiny()).evaluation_env(2)
    view, told = env.reset(0, [0, 1]), 0
    while view is not None:
        answers = view.probes.answers()
        told += int((answers.stop - answers.start).sum())
        view.probes.ask(np.array([[0, 1, -1], [1, -1, -1]]))
        view = env.step(np.array([0, 1]))
    assert told == 99 * 3, "the last ones are answered after the end"
    env.drain()
    rates = [row["probes_per_second"] for row in env.metrics()]
    assert rates == pytest.approx([200, 100] / env.fleet.log.scheduled_s[:, -1])


def test_who_never_probes_has_no_such_figure():
    env = fixed_twin(tiny()).evaluation_env(1)
    play(env, episodes=(0,))
    assert "probes_per_second" not in env.metrics()[0]


def test_reports_follow_what_has_completed():
    env = fixed_twin(tiny()).evaluation_env(1)
    view, late = env.reset(0, [0]), 0
    while view is not None:
        late += 1
        if late % 7 == 0:
            reports, done = view.reports(), env.fleet.log.order[0, : env.fleet.log.completed[0]]
            assert reports.outcomes[0].tolist() == np.bincount(env.fleet.log.server[0, done], minlength=2).tolist()
        view = env.step(np.array([late % 2]))

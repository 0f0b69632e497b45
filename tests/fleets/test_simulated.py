"""The twin's server model, case by case by hand, and what must hold in every scenario."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import drive, episodes, scenario, server, twin_log
from trimtab.core.request_log import FAILED, SERVED
from trimtab.core.scenario import Fault, RequestClass
from trimtab.errors import UsageError
from trimtab.fleets import twin_kernels
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.fleets.twin_state import build_model, build_state

FOREVER = float("inf")


def fault(kind, start_s=0.0, end_s=FOREVER, number=1, **rest):
    return Fault(f"server-{number}", kind, start_s, end_s, **rest)


def ends(log):
    return log.completed_s[0].tolist()


# Slots and queue


def test_one_slot_serves_in_order_of_arrival():
    log = twin_log(scenario(server(1)), [0, 1, 2, 10], [3, 1, 1, 2])
    assert ends(log) == [3, 4, 5, 12]
    assert log.latency_s[0].tolist() == [3, 3, 3, 2]
    assert log.queue_s[0].tolist() == [0, 2, 2, 0]
    assert log.service_s[0].tolist() == [3, 1, 1, 2]
    assert log.status[0].tolist() == [SERVED] * 4
    assert log.order[0].tolist() == [0, 1, 2, 3]


def test_two_slots_let_a_short_request_finish_first_but_start_in_order():
    log = twin_log(scenario(server(2)), [0, 0.5, 1, 1], [5, 1, 2, 1])
    assert log.queue_s[0].tolist() == [0, 0, 0.5, 2.5]  # slots are free at 1.5 and, after request 2, at 3.5
    assert ends(log) == [5, 1.5, 3.5, 4.5]
    assert log.order[0].tolist() == [1, 2, 3, 0]


def test_service_time_is_work_over_the_speed_of_server_and_class():
    classes = (RequestClass("a", 0.5, 1.0), RequestClass("b", 0.5, 1.0))
    world = scenario(server(speed={"a": 2.0, "b": 0.5}), server(speed={"a": 1.0, "b": 4.0}), classes=classes)
    log = twin_log(world, [0, 10, 20, 30], [1, 1, 1, 2], [[0, 0, 1, 1]], request_class=[0, 1, 0, 1])
    assert log.service_s[0].tolist() == [0.5, 2, 1, 0.5]
    assert log.server[0].tolist() == [0, 0, 1, 1]


def test_beyond_the_queue_limit_a_request_fails_at_once():
    log = twin_log(scenario(server(1, queue_limit=2)), [0, 1, 2, 3, 4.5], [4, 4, 4, 4, 4])
    assert log.status[0].tolist() == [SERVED, SERVED, SERVED, FAILED, SERVED]  # one left the queue at 4
    assert ends(log) == [4, 8, 12, 3, 16]
    assert (log.latency_s[0, 3], log.service_s[0, 3], log.queue_s[0, 3]) == (0, 0, 0)


def test_a_queue_limit_of_zero_leaves_slots_only():
    log = twin_log(scenario(server(2, queue_limit=0)), [0, 0, 0, 1, 1.5], [1, 2, 1, 1, 1])
    assert log.status[0].tolist() == [SERVED, SERVED, FAILED, SERVED, FAILED]
    assert ends(log) == [1, 2, 0, 2, 1.5]


def test_overhead_is_added_to_every_answer_and_holds_no_slot():
    log = twin_log(scenario(server(1, queue_limit=1), overhead_s=0.25), [0, 0, 0], [1, 1, 1])
    assert log.latency_s[0].tolist() == [1.25, 2.25, 0.25]
    assert log.queue_s[0].tolist() == [0, 1, 0]


def test_contention_counts_busy_slots_when_the_service_starts_and_stays_fixed():
    log = twin_log(scenario(server(3, contention=0.5)), [0, 0, 0, 1.25], [1, 1, 1, 1])
    # Alone 1; with one other 1.5; with two 2. At 1.25 two others are busy, the first slot is free.
    assert log.service_s[0].tolist() == [1, 1.5, 2, 2]


def test_contention_of_a_queued_request_is_that_of_its_start():
    log = twin_log(scenario(server(2, contention=1.0)), [0, 0, 0.1], [1, 2, 1])
    assert log.service_s[0].tolist() == [1, 4, 2]  # starts at 1, when the second is still busy
    assert ends(log) == [1, 4, 3]


# Faults


def test_slowdown_multiplies_services_that_start_inside_it():
    faults = (fault("slowdown", 1, 5, factor=4), fault("slowdown", 2, 3, factor=2))
    log = twin_log(scenario(server(9), faults=faults), [0.9, 1, 2.5, 3, 4.9, 5], [1] * 6)
    assert log.service_s[0] == pytest.approx([1, 4, 8, 4, 4, 1])


def test_slowdown_goes_by_the_start_of_a_queued_service_not_by_its_arrival():
    log = twin_log(scenario(server(1), faults=[fault("slowdown", 2, 4, factor=10)]), [0, 1], [3, 1])
    assert log.service_s[0].tolist() == [3, 10]


def test_a_freeze_stretches_a_service_and_holds_the_queue():
    log = twin_log(scenario(server(1), faults=[fault("freeze", 1, 4)]), [0, 0.5, 2], [2, 1, 1])
    assert ends(log) == pytest.approx([5, 6, 7])
    assert log.status[0].tolist() == [SERVED] * 3


def test_a_request_that_arrives_at_an_idle_frozen_server_starts_when_it_thaws():
    log = twin_log(scenario(server(2), faults=[fault("freeze", 1, 4)]), [2, 3, 3.5], [1, 1, 1])
    assert ends(log) == [5, 5, 6]
    assert log.queue_s[0].tolist() == [2, 1, 1.5]


def test_overlapping_freezes_are_one_long_freeze():
    faults = (fault("freeze", 1, 3), fault("freeze", 2, 4))
    assert ends(twin_log(scenario(server(1), faults=faults), [0], [2])) == [5]
    assert ends(twin_log(scenario(server(1), faults=faults), [1.5], [2])) == [6]
    nested = (fault("freeze", 1, 6), fault("freeze", 2, 3), fault("freeze", 6.5, 7.5))
    assert ends(twin_log(scenario(server(1), faults=nested), [0], [2])) == [8]


def test_a_crash_fails_what_is_inside_and_refuses_until_its_end():
    log = twin_log(scenario(server(1), faults=[fault("crash", 3, 6)]), [0, 1, 2, 4, 6, 6.5], [2, 2, 2, 1, 1, 1])
    assert log.status[0].tolist() == [SERVED, FAILED, FAILED, FAILED, SERVED, SERVED]
    assert ends(log) == [2, 3, 3, 4, 7, 8]  # in the slot at 3, queued at 3, refused at 4, then empty again
    assert log.latency_s[0].tolist() == [2, 2, 1, 0, 1, 1.5]


def test_a_crash_ends_the_time_in_a_slot():
    """Utilisation is made of these times: what a crash cut off was not worked."""
    log = twin_log(scenario(server(1), faults=[fault("crash", 3, 6)]), [0, 1, 2], [2, 9, 9])
    assert log.service_s[0].tolist() == [2, 1, 0]
    assert log.queue_s[0].tolist() == [0, 1, 1]


def test_a_crash_frees_all_slots_and_the_queue():
    log = twin_log(scenario(server(2, queue_limit=1), faults=[fault("crash", 1, 2)]), [0, 0, 0.5, 2, 2, 2, 2], [99, 99, 99, 1, 1, 1, 1])
    assert log.status[0].tolist() == [FAILED] * 3 + [SERVED] * 3 + [FAILED]
    assert ends(log) == [1, 1, 1, 3, 3, 4, 2]


def test_fail_fast_answers_after_its_delay_without_a_slot():
    log = twin_log(scenario(server(1), faults=[fault("fail_fast", 1, 3, after_s=0.25)]), [0, 1, 2, 3], [5, 1, 1, 1])
    assert log.status[0].tolist() == [SERVED, FAILED, FAILED, SERVED]
    assert ends(log) == [5, 1.25, 2.25, 6]
    assert log.service_s[0].tolist() == [5, 0, 0, 1]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_error_share_fails_that_share_after_full_service(share):
    count = 4000
    arrival = np.arange(count) * 2.0
    log = twin_log(scenario(server(1), faults=[fault("error_share", 0, 4000.0, share=share)]), arrival, 1.0, chance=7)
    inside = log.status[0, : count // 2] == FAILED
    assert inside.mean() == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / inside.size))
    assert (log.status[0, count // 2 :] == SERVED).all()
    assert (log.latency_s[0] == 1).all()
    assert (log.service_s[0] == 1).all()


def test_leave_and_join_change_who_is_available_and_nothing_else():
    world = scenario(server(), server(), server(), faults=[fault("leave", 2, 4, number=1), fault("join", 3, number=2)])
    fleet = SimulatedFleet([world])
    fleet.reset(episodes([1, 2, 3, 4], [5, 1, 1, 1]))
    seen = []
    for n in range(4):
        fleet.wait_until(np.array([n + 1.0]))
        seen.append(fleet.available()[0].tolist())
        fleet.dispatch(n, np.array([0 if n in (0, 3) else 2]))
    assert seen == [[True, False, True], [False, False, True], [False, True, True], [True, True, True]]
    fleet.wait_until(np.array([np.inf]))
    assert fleet.log.status[0].tolist() == [SERVED] * 4
    assert ends(fleet.log) == [6, 3, 4, 7]  # what server-1 had drained while it was away


def test_whoever_sends_to_a_server_that_is_away_gets_a_failure():
    log = twin_log(scenario(server(), faults=[fault("leave", 1, 2)]), [1.5], [1])
    assert (log.status[0, 0], log.latency_s[0, 0]) == (FAILED, 0)


def test_a_fault_of_one_server_leaves_the_other_alone():
    world = scenario(server(), server(), faults=[fault("slowdown", 0, factor=5, number=2)])
    log = twin_log(world, [0, 0], [1, 1], [[0, 1]])
    assert log.service_s[0].tolist() == [1, 5]


# Clock, oracle, expected best


def test_wait_until_gives_outcomes_up_to_the_deadline_and_sets_the_clock():
    fleet = SimulatedFleet([scenario(server(3))])
    fleet.reset(episodes([0, 0, 0], [3, 1, 2]))
    for n in range(3):
        fleet.dispatch(n, np.array([0]))
    assert fleet.log.completed[0] == 0
    outcomes = fleet.wait_until(np.array([2.0]))
    assert (outcomes.start.tolist(), outcomes.stop.tolist(), fleet.now_s().tolist()) == ([0], [2], [2.0])
    assert fleet.log.order[0, :2].tolist() == [1, 2]
    outcomes = fleet.wait_until(np.array([np.inf]))
    assert (outcomes.start.tolist(), outcomes.stop.tolist(), fleet.now_s().tolist()) == ([2], [3], [3.0])
    assert (fleet.lag_s() == 0).all()


def test_the_oracle_knows_means_moods_and_the_delay_of_this_very_request():
    faults = (
        fault("slowdown", 0, number=1, factor=3),
        fault("crash", 0, number=2),
        fault("freeze", 0, 4, number=3),
        fault("fail_fast", 0, number=4),
    )
    world = scenario(server(speed=0.5), server(), server(), server(), server(2, contention=0.5), faults=faults)
    fleet = SimulatedFleet([world])
    fleet.reset(episodes([1, 1, 1], [2, 2, 2]))
    fleet.wait_until(np.array([1.0]))
    fleet.dispatch(0, np.array([0]))  # 2 / 0.5 x 3: busy until 13
    fleet.dispatch(1, np.array([4]))
    known = fleet.oracle(2)
    assert known.mean_service_s[0, :, 0].tolist() == [2, 1, 1, 1, 1]
    assert known.slowness[0].tolist() == [3, 1, 1, 1, 1.5]
    assert known.down[0].tolist() == [False, True, True, True, False]
    assert known.delay_s[0].tolist() == [24, FOREVER, 5, FOREVER, 3]


def test_the_oracles_delay_comes_true():
    world = scenario(
        server(2, contention=0.3), server(speed=2.0), faults=[fault("slowdown", 3, 8, factor=4), fault("freeze", 5, 7, number=2)]
    )
    rng = np.random.default_rng(5)
    fleet, arrival = SimulatedFleet([world]), np.cumsum(rng.exponential(0.3, 60))
    fleet.reset(episodes(arrival, rng.exponential(1.0, 60)))
    foreseen = np.zeros(60)
    chosen = rng.integers(0, 2, 60)
    for n in range(60):
        fleet.wait_until(arrival[n : n + 1])
        foreseen[n] = fleet.oracle(n).delay_s[0, chosen[n]]
        fleet.dispatch(n, chosen[n : n + 1])
    fleet.wait_until(np.array([np.inf]))
    assert fleet.log.latency_s[0] == pytest.approx(foreseen)


def test_the_latency_foreseen_at_dispatch_is_the_one_that_comes_unless_a_freeze_or_crash_does():
    fleet = SimulatedFleet([scenario(server(), faults=[fault("freeze", 10, 20)], overhead_s=0.5)])
    fleet.reset(episodes([0, 1, 9], [2, 2, 3]))
    foreseen = []
    for n, now in enumerate((0.0, 1.0, 9.0)):
        fleet.wait_until(np.array([now]))
        fleet.dispatch(n, np.array([0]))
        foreseen.append(float(fleet.foreseen_latency_s(n)[0]))
    fleet.wait_until(np.array([np.inf]))
    assert foreseen == [2.5, 3.5, 3.5]
    assert fleet.log.latency_s[0].tolist() == [2.5, 3.5, 13.5]


def test_expected_best_goes_by_work_ahead_plus_the_class_mean():
    world = scenario(server(speed=1.0), server(speed=0.5), server(speed=0.995), faults=[fault("leave", 5, number=1)])
    log_of = {}
    for first, choice in enumerate(([0, 0], [0, 1], [1, 0], [2, 1], [0, 2])):
        fleet = SimulatedFleet([world])
        drive(fleet, episodes([0, 0], [1.5, 9.0]), np.array([choice]))
        log_of[first] = fleet.expected_best()[0].tolist()
    # Class means 1, 2, 1.005; the size of request 1 (9) must not matter, the true remaining work of request 0 does.
    assert log_of[0] == [True, False]  # 1.5 + 1 against 1.005 on the third
    assert log_of[1] == [True, False]
    assert log_of[2] == [False, True]
    assert log_of[3] == [True, False]  # within 1 % of the least
    assert log_of[4] == [True, True]
    away = SimulatedFleet([world])
    drive(away, episodes([6], [1]), np.array([[2]]))
    assert away.expected_best()[0].tolist() == [True]  # the better one is away


# What holds always


@st.composite
def worlds(draw):
    count = draw(st.integers(1, 3))
    times = st.floats(0, 12)
    servers = [
        server(
            draw(st.integers(1, 3)),
            draw(st.sampled_from([0.5, 1.0, 2.0])),
            queue_limit=draw(st.integers(0, 6)),
            contention=draw(st.sampled_from([0.0, 0.4])),
        )
        for _ in range(count)
    ]
    faults = []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["slowdown", "fail_fast", "error_share", "freeze", "crash", "leave", "join"]))
        start = draw(times)
        extra = {"slowdown": {"factor": 3.0}, "fail_fast": {"after_s": 0.2}, "error_share": {"share": 0.5}}.get(kind, {})
        end = FOREVER if kind == "join" else start + draw(st.floats(0.1, 6))
        faults.append(fault(kind, start, end, number=draw(st.integers(1, count)), **extra))
    return scenario(*servers, faults=faults)


def random_episodes(world, batch, requests, seed):
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(0.25, (batch, requests)), axis=1)
    drawn = episodes(arrival, rng.exponential(1.0, (batch, requests)), chance=rng.integers(0, 2**63, batch))
    return drawn, rng.integers(0, len(world.servers), (batch, requests))


@settings(max_examples=60, deadline=None)
@given(world=worlds(), seed=st.integers(0, 10_000))
def test_every_request_completes_exactly_once_in_order_of_time(world, seed):
    drawn, choice = random_episodes(world, 2, 40, seed)
    log = drive(SimulatedFleet([world, world]), drawn, choice)
    for b in range(2):
        assert log.completed[b] == 40
        assert sorted(log.order[b]) == list(range(40))
        assert (np.diff(log.completed_s[b, log.order[b]]) >= 0).all()
    assert np.isin(log.status, (SERVED, FAILED)).all()
    assert (log.server == choice).all()
    assert np.isfinite(log.completed_s).all()
    assert log.latency_s == pytest.approx(log.completed_s - drawn.arrival_s)
    assert (log.service_s >= 0).all()
    assert (log.queue_s >= 0).all()
    served = log.status == SERVED
    assert (log.queue_s + log.service_s)[served] == pytest.approx(log.latency_s[served])
    least = drawn.work_s / np.array([one.speed["a"] for one in world.servers])[choice]
    assert (log.service_s >= least - 1e-9)[served].all()


@settings(max_examples=40, deadline=None)
@given(world=worlds(), seed=st.integers(0, 10_000))
def test_no_more_requests_are_in_service_than_there_are_slots(world, seed):
    drawn, choice = random_episodes(world, 1, 40, seed)
    log = drive(SimulatedFleet([world]), drawn, choice)
    start = drawn.arrival_s[0] + log.queue_s[0]
    end = start + log.service_s[0]
    for s, one in enumerate(world.servers):
        here = (log.server[0] == s) & (log.service_s[0] > 1e-9)
        busy = [int(((start <= moment) & (end - 1e-9 > moment) & here).sum()) for moment in start[here]]
        assert max(busy, default=0) <= one.slots


def test_a_fleet_is_the_same_alone_and_among_fifty():
    faults = [fault("slowdown", 2, 6, factor=3), fault("error_share", 0, share=0.3), fault("crash", 7, 8, number=2)]
    world = scenario(server(2, contention=0.2, queue_limit=3), server(), faults=faults)
    drawn, choice = random_episodes(world, 50, 60, 11)
    together = drive(SimulatedFleet([replace(world, overhead_s=0.01 * (b == 17)) for b in range(50)]), drawn, choice)
    for b in (0, 16, 18, 49):
        alone = drive(SimulatedFleet([world]), type(drawn)(*(column[b : b + 1] for column in drawn)), choice[b : b + 1])
        for name in ("status", "latency_s", "service_s", "queue_s", "completed_s", "order"):
            assert np.array_equal(getattr(alone, name)[0], getattr(together, name)[b]), name


def test_the_same_episodes_give_the_same_log_after_anything_else():
    world = scenario(server(2), server(), faults=[fault("error_share", 0, share=0.4)])
    drawn, choice = random_episodes(world, 3, 50, 1)
    other, elsewhere = random_episodes(world, 3, 20, 2)
    fleet = SimulatedFleet([world] * 3)
    first = drive(fleet, drawn, choice)
    drive(fleet, other, elsewhere)
    again = drive(fleet, drawn, choice)
    assert all(np.array_equal(left, right) for left, right in zip(first, again, strict=True))


def test_fleets_of_unequal_size_do_not_share_a_batch():
    with pytest.raises(UsageError, match="one size a batch"):
        SimulatedFleet([scenario(server()), scenario(server(), server())])


def test_compiled_kernels_do_what_their_python_says():
    faults = [fault("slowdown", 1, 3, factor=3), fault("freeze", 2, 2.5), fault("crash", 4, 5), fault("leave", 6, 7, number=2)]
    world = scenario(server(2, contention=0.2, queue_limit=1), server(), faults=faults)
    drawn, choice = random_episodes(world, 2, 30, 3)
    compiled = SimulatedFleet([world] * 2)
    drive(compiled, drawn, choice)

    plain = SimulatedFleet([world] * 2)
    plain.reset(drawn)
    model, state = build_model([world] * 2), build_state(build_model([world] * 2), 30, np.zeros((2, 30)))
    mask, slowness, down, delay = np.ones((2, 2), bool), np.ones((2, 2)), np.ones((2, 2), bool), np.ones((2, 2))
    for n in range(30):
        twin_kernels.advance.py_func(state, plain.log, drawn.arrival_s[:, n])
        twin_kernels.availability.py_func(model, state, mask)
        twin_kernels.foresee.py_func(model, state, plain.log, n, slowness, down, delay)
        twin_kernels.dispatch.py_func(model, state, plain.log, n, choice[:, n])
    twin_kernels.advance.py_func(state, plain.log, np.full(2, np.inf))
    for name, column in plain.log._asdict().items():
        assert np.array_equal(column, getattr(compiled.log, name)), name
    assert np.array_equal(state.best, compiled.expected_best())

"""The network's input: columns by hand, finite always, the same for every unit of time and every order of servers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import columns, episodes, fleet_alone, random_view, scenario, server, with_columns, written_log
from trimtab.core.ledger import empty_ledger, record_dispatch, record_outcomes
from trimtab.core.observation import CEILING, FEATURES, observation
from trimtab.core.request_log import FAILED, SERVED, Outcomes
from trimtab.core.scenario import Fault, RequestClass
from trimtab.core.view import View
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.problems.routing.env import Plan, RoutingEnv

CLASSES = (RequestClass("a", 0.7, 0.010), RequestClass("b", 0.3, 0.030))
COLUMN = {name: place for place, name in enumerate(FEATURES)}


def view_of(ledger, now_s=0.0, request_class=0, slots=None, available=None):
    batch, servers, _ = ledger.in_flight.shape
    return View(
        now_s=np.full(batch, now_s),
        request_class=np.full(batch, request_class, dtype=np.int32),
        available=np.ones((batch, servers), dtype=np.bool_) if available is None else np.array([available]),
        slots=np.ones((batch, servers), dtype=np.int64) if slots is None else np.array([slots]),
        service_rate_rps=np.ones((batch, servers)),
        ledger=ledger,
    )


def views(world, drawn, choice):
    """Every view of an episode [1, N] whose requests go to `choice` [N]; each is valid until the next."""
    env = RoutingEnv(lambda seed, numbers: (SimulatedFleet([world]), drawn), Plan(0, drawn.arrival_s.shape[1], closing=False), 1)
    view = env.reset(0, [0])
    for where in choice:
        yield view
        view = env.step(np.array([where]))


def two_servers(scale=1.0):
    classes = tuple(replace(one, work_s=one.work_s * scale) for one in CLASSES)
    return scenario(server(2, {"a": 1.0, "b": 0.5}), server(1, {"a": 0.3, "b": 2.0}, contention=0.1), classes=classes)


def story(scale=1.0):
    rng = np.random.default_rng(2)
    arrival, work = np.cumsum(rng.exponential(0.012, 120)) * scale, rng.exponential(0.012, 120) * scale
    return episodes(arrival, work, request_class=rng.integers(0, 2, 120)), rng.integers(0, 2, 120)


def test_one_row_a_server_one_column_a_feature():
    rows = observation(random_view(np.random.default_rng(0), 5, 3, 2))
    assert rows.shape == (5, 3, len(FEATURES))
    assert rows.dtype == np.float32
    assert len(set(FEATURES)) == len(FEATURES)


def test_every_column_is_written():
    """The rows come from uninitialised memory: a column that nobody fills would hold anything."""
    view, before = random_view(np.random.default_rng(0), 4, 3, 2), None
    for filler in (np.nan, 1e9, -1e9):
        np.full((4, 3, len(FEATURES)), filler, dtype=np.float32)  # leaves its memory to the next
        rows = observation(view)
        assert np.isfinite(rows).all()
        assert before is None or np.array_equal(rows, before)
        before = rows


def test_columns_of_a_small_state_by_hand():
    log = written_log([(0, 0, 0, SERVED, 2.0, 2.0, 3.0), (1, 1, 0, SERVED, 4.0, 4.0, 5.0)], requests=5)
    log.server[0, 2:] = [0, 0, 1]
    ledger = empty_ledger(1, 2, 1, 5)
    for n, (where, now) in enumerate(((0, 1.0), (1, 1.0), (0, 5.0), (0, 6.0), (1, 7.0))):
        record_dispatch(ledger, log, n, np.array([where]), np.array([now]))
    record_outcomes(ledger, log, Outcomes(np.array([0]), np.array([2])))
    rows = observation(view_of(ledger, now_s=8.0, slots=[1, 2]))[0]
    unit = 3 / (1 / 2 + 2 / 4)  # slots over service rates
    wait = 2 * 2 / 2 * 2 / 1  # two in flight, mean service 2, one slot: two turns until it is ours
    expected = {
        "in_flight": np.log([3, 2]),
        "slots": np.log([1, 2]),
        "free_slots": [0, 0.5],
        "work_ahead": np.array([4, 2]) / unit,
        "wait": np.array([wait, 0]) / unit,
        "own_service": np.array([2, 4]) / unit,
        "delay": np.array([wait + 2, 4]) / unit,
        "delay_excess": np.array([wait - 2, 0]) / unit,
        "own_rank": np.log([1, 2]),
        "affinity": [0, 0],
        "samples": [1 / 20, 1 / 20],
        "ratio_fast": [0, 0],
        "ratio_slow": [0, 0],
        "age": [3 / (2 * 2), 1 / 4],
        "error_rate": [0, 0],
        "silence": [3 / unit, 1 / unit],
        "share_of_class": [1, 1],
    }
    for name, value in expected.items():
        assert rows[:, COLUMN[name]] == pytest.approx(np.array(value), rel=1e-5), name
    assert rows[0, COLUMN["load"]] == rows[1, COLUMN["load"]] == pytest.approx(unit / ledger.gap_s[0] / 3, rel=1e-5)


def test_affinity_and_rank_go_by_the_class_of_this_request():
    ledger = empty_ledger(1, 2, 2, 1)
    ledger.service_s[0], ledger.samples[0] = [[1.0, 4.0], [2.0, 2.0]], 5
    for kind, ranks, affinities in ((0, [1, 2], [1 / 2.5, 1]), (1, [2, 1], [4 / 2.5, 1])):
        rows = observation(view_of(ledger, request_class=kind))[0]
        assert rows[:, COLUMN["own_rank"]] == pytest.approx(np.log(ranks), abs=1e-6)
        assert rows[:, COLUMN["affinity"]] == pytest.approx(np.log(affinities), abs=1e-6)


def test_an_empty_ledger_gives_finite_and_equal_rows():
    rows = observation(view_of(empty_ledger(2, 4, 3, 10)))
    assert np.isfinite(rows).all()
    assert (rows == rows[:, :1]).all()


# Extremes


def test_a_server_that_has_been_frozen_for_minutes():
    world = scenario(
        server(4, 1.0, classes=("a", "b")), server(1, 1.0, classes=("a", "b")), classes=CLASSES, faults=[Fault("server-1", "freeze", 1.0)]
    )
    arrival = np.arange(1, 61) * 10.0
    drawn = episodes(arrival, 0.01, request_class=[[0, 1] * 30])
    for view in views(world, drawn, [0, 1] * 30):
        rows = observation(view)
        assert np.isfinite(rows).all()
        assert np.abs(rows).max() <= CEILING
    assert rows[0, 0, COLUMN["age"]] == rows[0, 0, COLUMN["silence"]] == CEILING
    assert rows[0, 1, COLUMN["age"]] < 1.5


def test_thousands_in_flight_and_nothing_ever_completed():
    ledger = empty_ledger(1, 3, 2, 6000)
    log = written_log([(5999, 0, 0, SERVED, 1.0, 1.0, 1.0)])
    for n in range(6000):
        record_dispatch(ledger, log, n, np.array([n % 3 % 2]), np.array([1e-6 * n]))
    rows = observation(view_of(ledger, now_s=1e6))
    assert np.isfinite(rows).all()
    assert np.abs(rows).max() <= CEILING


def test_a_server_that_only_fails_and_services_that_take_no_time():
    rows = [(n, n % 2, 0, FAILED if n % 2 else SERVED, 0.1, 0.0, 1.0 + n) for n in range(60)]
    log, ledger = written_log(rows), empty_ledger(1, 2, 1, 60)
    for n in range(60):
        record_dispatch(ledger, log, n, np.array([n % 2]), np.array([1.0 + n]))
        seen = observation(view_of(ledger, now_s=1.0 + n))
        assert np.isfinite(seen).all()
        record_outcomes(ledger, log, Outcomes(np.array([n]), np.array([n + 1])))
    assert observation(view_of(ledger, now_s=99.0))[0, 1, COLUMN["error_rate"]] == pytest.approx(1 - 0.9**30, rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), servers=st.integers(1, 9), classes=st.integers(1, 4))
def test_any_state_is_finite_and_bounded(seed, servers, classes):
    rows = observation(random_view(np.random.default_rng(seed), 8, servers, classes))
    assert np.isfinite(rows).all()
    assert np.abs(rows).max() <= CEILING


# Symmetries


def permuted(view, order):
    ledger, per_server = view.ledger, {}
    for name, column in columns(ledger).items():
        per_server[name] = column[:, order].copy() if column.shape[1:2] == (len(order),) and name not in {"class_share"} else column
    return replace(
        view,
        available=view.available[:, order].copy(),
        slots=view.slots[:, order].copy(),
        service_rate_rps=view.service_rate_rps[:, order].copy(),
        ledger=with_columns(per_server),
    )


def test_rows_move_with_their_servers():
    view = random_view(np.random.default_rng(7), 30, 5, 3)
    order = np.array([3, 0, 4, 1, 2])
    assert observation(permuted(view, order)) == pytest.approx(observation(view)[:, order], rel=1e-5, abs=1e-6)


def test_all_times_times_ten_are_the_same_rows():
    """Once anything is known: before the first sample the ledger's guess, one second, is absolute."""
    known, compared = 0, 0
    for fast, slow in zip(views(two_servers(), *story()), views(two_servers(10.0), *story(10.0)), strict=True):
        known = int(fast.ledger.samples.sum())
        if known:
            compared += 1
            assert observation(slow) == pytest.approx(observation(fast), rel=1e-4, abs=1e-5)
    assert compared > 100
    assert known > 80


def test_fleets_do_not_see_each_other():
    view = random_view(np.random.default_rng(9), 6, 3, 2)
    together = observation(view)
    for b in range(6):
        assert np.array_equal(observation(fleet_alone(view, b))[0], together[b])


def test_an_unavailable_server_has_a_row_but_is_not_the_best():
    ledger = empty_ledger(1, 3, 1, 1)
    ledger.service_s[0, :, 0], ledger.samples[:] = [1.0, 2.0, 8.0], 9
    everyone = observation(view_of(ledger))[0]
    without = observation(view_of(ledger, available=[False, True, True]))[0]
    assert everyone[:, COLUMN["own_rank"]] == pytest.approx(np.log([1, 2, 8]), rel=1e-5)
    assert without[1:, COLUMN["own_rank"]] == pytest.approx(np.log([1, 4]), abs=1e-6)
    assert without[1, COLUMN["delay_excess"]] == 0
    assert np.isfinite(without).all()
    relative = {COLUMN[name] for name in ("own_rank", "delay_excess")}
    same = [place for place in range(len(FEATURES)) if place not in relative]
    assert np.array_equal(everyone[:, same], without[:, same])


def test_observing_changes_nothing_and_repeats():
    view = random_view(np.random.default_rng(1), 4, 3, 2)
    before = [column.copy() for column in columns(view.ledger).values()]
    first = observation(view)
    assert np.array_equal(first, observation(view))
    assert all(np.array_equal(left, right) for left, right in zip(before, columns(view.ledger).values(), strict=True))

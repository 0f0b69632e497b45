"""What is inferred about servers: services followed exactly, calm speed, contention and slow spells told apart."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import episodes, scenario, server
from trimtab.core import moods as module
from trimtab.core.ledger import empty_ledger, mood_columns, record_dispatch, record_outcomes, service_estimate_s
from trimtab.core.moods import (
    COLUMNS,
    FAILURE_FORGETTING,
    FAILURE_GAIN,
    FAILURE_S,
    FAST_GAIN,
    LEAST_GAIN,
    LIKELIHOOD_FLOOR,
    MOST_CONTENTION,
    PACE_GAIN,
    PRIOR_GAIN,
    SLOW_FACTOR,
    SLOW_GAIN,
    SLOW_PRIOR,
    SPREAD_BOUNDS,
    SPREAD_SAMPLES,
    SPREAD_START,
    SURVIVAL_FLOOR,
)
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED, Outcomes, empty_log
from trimtab.core.scenario import Fault, RequestClass
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.problems.routing.env import Plan, RoutingEnv

COLUMN = {name: place for place, name in enumerate(COLUMNS)}
CLASSES = (RequestClass("a", 0.6, 0.010), RequestClass("b", 0.4, 0.030))
WORK_S = np.array([0.010, 0.030])
FAST, SLOW = {"a": 1.0, "b": 0.5}, {"a": 0.4, "b": 2.0}
STATUS = st.sampled_from([SERVED, FAILED, UNMEASURED])
LEAST, MOST = math.sqrt(LEAST_GAIN), 2.0  # of the uncertainty


def played(world, drawn, choice):
    """The log and the ledger of one fleet after every request went to `choice` [N] and came back."""
    env = RoutingEnv(lambda seed, numbers: (SimulatedFleet([world]), drawn), Plan(0, drawn.arrival_s.shape[1], closing=False), 1)
    view = env.reset(0, [0])
    for where in choice:
        ledger = view.ledger
        view = env.step(np.array([where]))
    env.drain()
    return env.fleet.log, ledger


def traffic(count, gap_s, servers, seed=0):
    """Poisson arrivals of both classes, log-normal work around its mean, sent to servers at random."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, count)
    work_s = WORK_S[kind] * rng.lognormal(-0.125, 0.5, count)
    return episodes(np.cumsum(rng.exponential(gap_s, count)), work_s, request_class=kind), rng.integers(0, servers, count)


# Following services


def truth_of(log):
    """When each service began, and how many others of its server were in service then."""
    start_s, end_s = (log.completed_s - log.service_s)[0], log.completed_s[0]
    together = (
        (log.server[0][:, None] == log.server[0][None, :]) & (start_s[None, :] < start_s[:, None]) & (end_s[None, :] > start_s[:, None])
    )
    return start_s, together.sum(axis=1)


def test_starts_of_services_and_busy_slots_are_those_of_the_twin():
    world = scenario(server(3, FAST, contention=0.2), server(1, SLOW), server(2, FAST), classes=CLASSES)
    log, ledger = played(world, *traffic(600, 0.010, 3))
    start_s, others = truth_of(log)
    assert (log.status == SERVED).all()
    assert (log.queue_s[0] > 0.0).sum() > 100, "many must have waited"
    assert ledger.moods.started_s[0] == pytest.approx(start_s, abs=1e-9)
    # At the moment at which a slot is handed on, its last service no longer counts.
    waited = log.queue_s[0] > 0.0
    slots = np.array([3, 1, 2])[log.server[0]]
    assert (ledger.moods.others[0][~waited] == others[~waited]).all()
    assert (ledger.moods.others[0][waited] == slots[waited] - 1).all()
    assert len(set(ledger.moods.others[0].tolist())) == 3


def test_a_start_is_known_one_overhead_late_at_most():
    log, ledger = played(scenario(server(2, FAST), server(1, SLOW), classes=CLASSES, overhead_s=0.003), *traffic(400, 0.008, 2))
    late_s = ledger.moods.started_s[0] - (log.completed_s - 0.003 - log.service_s)[0]
    assert late_s.min() > -1e-9
    assert late_s.max() < 0.003 + 1e-9
    assert (late_s < 1e-9).any(), "a free slot takes a request at once"


def test_refusals_and_crashes_leave_nobody_behind():
    faults = [
        Fault("server-1", "crash", 0.5, 0.8),
        Fault("server-2", "error_share", 0.3, 1.5, share=0.5),
        Fault("server-1", "freeze", 1.2, 1.4),
    ]
    world = scenario(server(2, FAST, queue_limit=3), server(1, SLOW, queue_limit=2), classes=CLASSES, faults=faults)
    drawn, choice = traffic(500, 0.004, 2)
    log, ledger = played(world, drawn, choice)
    assert {SERVED, FAILED} == set(log.status[0].tolist())
    assert (ledger.moods.phase == module._GONE).all()
    assert (ledger.moods.line == -1).all()
    assert (ledger.outstanding == 0).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), slots=st.lists(st.integers(1, 4), min_size=1, max_size=3), count=st.integers(1, 30))
def test_whatever_the_order_of_outcomes_slots_are_full_and_the_line_is_in_order(data, slots, count):
    """Against lists: served, failed or given up, in service or waiting, one by one or several at once."""
    log = empty_log(np.zeros((1, count)), np.zeros((1, count), dtype=np.int32), np.ones((1, count)))
    ledger = empty_ledger(1, len(slots), 1, count, np.array([slots]))
    inside, sent, now_s = [[] for _ in slots], 0, 0.0
    while sent < count or any(inside):
        now_s += 1.0
        everyone = [request for one in inside for request in one]
        if sent < count and (not everyone or data.draw(st.booleans())):
            where = data.draw(st.integers(0, len(slots) - 1))
            log.server[0, sent] = where
            record_dispatch(ledger, log, sent, np.array([where]), np.array([now_s]))
            inside[where].append(sent)
            sent += 1
        else:
            ended = data.draw(st.lists(st.sampled_from(everyone), min_size=1, max_size=4, unique=True))
            complete(ledger, log, ended, [data.draw(STATUS) for _ in ended], now_s)
            inside = [[request for request in one if request not in ended] for one in inside]
        check_places(ledger, slots, inside)


def complete(ledger, log, requests, statuses, now_s):
    start = log.completed.copy()
    for request, status in zip(requests, statuses, strict=True):
        log.status[0, request], log.completed_s[0, request] = status, now_s
        log.latency_s[0, request], log.service_s[0, request] = 1.0, 1.0 if status == SERVED else 0.0
        log.order[0, log.completed[0]] = request
        log.completed[0] += 1
    record_outcomes(ledger, log, Outcomes(start, log.completed.copy()))


def check_places(ledger, slots, inside):
    moods = ledger.moods
    for s, requests in enumerate(inside):
        serving = [one for one in requests if moods.phase[0, one] == module._SERVING]
        waiting = [one for one in requests if moods.phase[0, one] == module._WAITING]
        assert serving + waiting == requests, "first in, first served"
        assert len(serving) == min(slots[s], len(requests))
        assert moods.line[0, s] == (waiting[0] if waiting else -1)
        assert all(0 <= moods.others[0, one] < slots[s] for one in requests)
    gone = sorted(set(range(moods.phase.shape[1])) - {one for requests in inside for one in requests})
    assert (moods.phase[0, gone] == module._GONE).all()


# Speed and contention


def test_calm_times_are_those_of_a_server_alone_though_its_slots_were_busy():
    world = scenario(server(4, FAST, contention=0.3), server(1, SLOW), classes=CLASSES)
    drawn, choice = traffic(6000, 0.020, 4)
    _, ledger = played(world, drawn, choice // 3)  # three quarters to the first
    true_s = WORK_S / np.array([[FAST["a"], FAST["b"]], [SLOW["a"], SLOW["b"]]])
    slope = float(module._slope.py_func(ledger.moods, 0, 0))
    assert ledger.moods.square[0, 0] > 100, "the slots of the first must have been busy"
    assert slope == pytest.approx(0.3, abs=0.1)
    assert float(module._slope.py_func(ledger.moods, 0, 1)) == module.CONTENTION_PRIOR, "one slot tells nothing about it"
    # The last fifty samples of spread 0.5 have a mean within some 8 %: here within two of those.
    assert ledger.moods.calm_s[0] == pytest.approx(true_s, rel=0.16)
    assert ledger.service_s[0, 0, 0] > 1.15 * true_s[0, 0], "the plain average is not that"


def test_calm_times_average_to_the_truth():
    """Over many fleets, since one fleet's last fifty samples vary."""
    world = scenario(server(4, FAST, contention=0.3), classes=CLASSES)
    calm_s = [played(world, *traffic(700, 0.025, 1, seed=seed))[1].moods.calm_s[0, 0] for seed in range(40)]
    assert np.mean(calm_s, axis=0) == pytest.approx([0.010, 0.060], rel=0.08)


def test_contention_is_found_from_none_at_all():
    _, ledger = played(scenario(server(4, FAST), classes=CLASSES), *traffic(3000, 0.018, 1))
    assert ledger.moods.square[0, 0] > 100
    assert float(module._slope.py_func(ledger.moods, 0, 0)) == pytest.approx(0.0, abs=0.1)


def test_a_slow_spell_leaves_the_calm_time_alone():
    world = scenario(server(2, FAST), classes=CLASSES, faults=[Fault("server-1", "slowdown", 3.0, factor=6.0)])
    drawn, _ = traffic(330, 0.010, 1)
    rare = episodes(np.concatenate([drawn.arrival_s[0, :300], 4.0 + 0.4 * np.arange(30)]), drawn.work_s[0], drawn.request_class[0])
    log, ledger = played(world, rare, np.zeros(330, dtype=np.int64))
    assert (log.service_s[0, 300:] / log.work_s[0, 300:] > 5.9).all()
    assert ledger.moods.slow[0, 0] > 0.9
    assert ledger.moods.calm_s[0, 0] == pytest.approx([0.010, 0.060], rel=0.3)
    assert ledger.moods.ratios[0, 0, 2] > 1.0


# Slow spells


def one_server(services_s, status=SERVED, slots=1, unit=1.0):
    """The ledger of one server that served these one after another, without a pause; the time at the end."""
    count = len(services_s)
    log = empty_log(np.zeros((1, count + 1)), np.zeros((1, count + 1), dtype=np.int32), np.ones((1, count + 1)))
    log.server[:] = 0
    ledger, now_s = empty_ledger(1, 1, 1, count + 1, np.array([[slots]])), 0.0
    for n, service_s in enumerate(services_s):
        record_dispatch(ledger, log, n, np.array([0]), np.array([now_s]))
        now_s += service_s * unit
        log.status[0, n], log.completed_s[0, n], log.order[0, n] = status, now_s, n
        log.service_s[0, n] = log.latency_s[0, n] = service_s * unit
        record_outcomes(ledger, log, Outcomes(np.array([n]), np.array([n + 1])))
    return log, ledger, now_s


def row(ledger, now_s, request_class=0):
    """Columns of the only fleet's first server by name."""
    kinds = np.array([request_class], dtype=np.int32)
    rows = mood_columns(ledger, service_estimate_s(ledger), kinds, np.array([now_s]))
    return dict(zip(COLUMNS, rows[0, 0].tolist(), strict=True))


def test_a_few_services_far_too_long_are_a_spell_and_time_forgets_it():
    calm = np.random.default_rng(3).lognormal(-0.06, 0.35, 40).tolist()
    _, ledger, now_s = one_server(calm)
    assert row(ledger, now_s)["slow_share"] < 0.5 * ledger.moods.prior[0]
    _, ledger, now_s = one_server(calm + [SLOW_FACTOR] * 6)
    seen = row(ledger, now_s)
    assert seen["slow_share"] > 0.8
    assert seen["slowness"] == pytest.approx(math.exp(seen["slow_share"] * math.log(SLOW_FACTOR)))
    later = [row(ledger, now_s + wait_s)["slow_share"] for wait_s in (0.0, 20.0, 100.0, 10_000.0)]
    assert later == sorted(later, reverse=True)
    assert later[-1] == pytest.approx(ledger.moods.prior[0])
    assert row(ledger, now_s + 10_000.0)["own_s"] == pytest.approx(1.0, rel=0.35), "the spell was not taken for the server"


def test_a_service_that_does_not_end_is_a_sign_before_its_answer():
    services = np.random.default_rng(2).lognormal(-0.125, 0.5, 40)
    log, ledger, now_s = one_server(services)
    now_s += 500.0  # by now the good answers of the past count for little
    before = row(ledger, now_s)
    record_dispatch(ledger, log, 40, np.array([0]), np.array([now_s]))
    calm_s = ledger.moods.calm_s[0, 0, 0]
    seen = [row(ledger, now_s + share * calm_s) for share in (0.1, 1.0, 2.0, 4.0)]
    assert np.array([one["overdue"] for one in seen]) == pytest.approx(np.log([0.1, 1.0, 2.0, 4.0]))
    assert [one["elapsed_s"] for one in seen] == pytest.approx([0.1 * calm_s, *[0.8 * calm_s] * 3])
    shares = [one["slow_share"] for one in seen]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(before["slow_share"], abs=0.01)
    assert shares[-1] > 0.5
    assert before["overdue"] == -3.0
    assert ledger.moods.slow[0, 0] < before["slow_share"], "looking is not learning"


def test_an_answer_by_hand():
    """Variance 1/2, so that likelihoods are exp(-z^2): z = 1/4 here in the calm state, 1/4 - log(factor) in the slow one."""
    calm, slow = math.exp(-(0.25**2)) + LIKELIHOOD_FLOOR, math.exp(-((0.25 - math.log(SLOW_FACTOR)) ** 2)) + LIKELIHOOD_FLOOR
    expected = 0.2 * slow / (0.2 * slow + 0.8 * calm)
    for kernel in (module._after_ratio, module._after_ratio.py_func):
        assert kernel(0.2, 0.0, 0.5) == pytest.approx(expected)
    balanced = 0.5 * math.log(SLOW_FACTOR) - 0.25  # halfway between both: nothing is learned
    assert module._after_ratio(0.2, balanced, 0.5) == pytest.approx(0.2)
    assert module._after_ratio(0.2, 40.0, 0.5) == pytest.approx(0.2), "far from both states a sample says nothing"


def test_a_survival_by_hand():
    """Variance 1/2: the log-normal's tail is erfc(x) / 2, x = log ratio + 1/4 in the calm state."""
    calm = 0.5 * math.erfc(math.log(3.0) + 0.25) + SURVIVAL_FLOOR
    slow = 0.5 * math.erfc(math.log(3.0) + 0.25 - math.log(SLOW_FACTOR)) + SURVIVAL_FLOOR
    expected = 0.2 * slow / (0.2 * slow + 0.8 * calm)
    for kernel in (module._after_survival, module._after_survival.py_func):
        assert kernel(0.2, math.log(3.0), 0.5) == pytest.approx(expected)
    assert module._after_survival(0.2, -30.0, 0.5) == pytest.approx(0.2)
    assert module._after_survival(0.2, 30.0, 0.5) == pytest.approx(0.2), "both tails are the floor"


@given(st.floats(0.001, 0.999), st.floats(-4.0, 4.0), st.floats(*SPREAD_BOUNDS))
def test_probabilities_stay_probabilities(slow, log_ratio, variance):
    for update in (module._after_ratio, module._after_survival):
        assert 0.0 < update(slow, log_ratio, variance) < 1.0
    assert module._after_survival(slow, log_ratio, variance) >= slow * 0.999999, "no news is never good news"


def test_forgetting_by_hand():
    for kernel in (module._forgotten, module._forgotten.py_func):
        assert kernel(0.9, 0.1, 0.5, 0.0) == 0.9
        assert kernel(0.9, 0.1, 0.5, 2.0) == pytest.approx(0.1 + 0.8 * math.exp(-1.0))
        assert kernel(0.9, 0.1, 0.5, 1e9) == pytest.approx(0.1)


# One update, failures, columns


def test_the_second_sample_by_hand():
    _, ledger, _ = one_server([2.0, 3.0])
    first_s = 2.0 / SLOW_FACTOR**SLOW_PRIOR  # the first sample may have been a slow one
    log_ratio = math.log(3.0 / first_s)
    spell = module._after_ratio(SLOW_PRIOR, log_ratio, SPREAD_START + 0.5)
    well = 1.0 - spell
    moods = ledger.moods
    assert moods.slow[0, 0] == pytest.approx(spell)
    assert moods.weight[0, 0, 0] == pytest.approx(1.0 + well)
    assert moods.calm_s[0, 0, 0] == pytest.approx(first_s + well / (1.0 + well) * (3.0 - first_s))
    assert moods.ratios[0, 0] == pytest.approx(log_ratio * np.array([1.0, FAST_GAIN, SLOW_GAIN]))
    calm_off = log_ratio + SPREAD_START / 2
    off = min(calm_off**2, (calm_off - math.log(SLOW_FACTOR)) ** 2) - SPREAD_START  # the nearer state's
    assert moods.spread[0, 0] == pytest.approx(SPREAD_START + off / (SPREAD_SAMPLES + 1))
    assert moods.prior[0] == pytest.approx(SLOW_PRIOR + PRIOR_GAIN * (spell - SLOW_PRIOR))
    assert moods.pace_s[0, 0] == pytest.approx(first_s + PACE_GAIN * (3.0 / SLOW_FACTOR**spell - first_s))
    assert moods.stamp_s[0, 0] == 5.0
    assert moods.square[0, 0] == moods.excess[0, 0] == 0.0, "nobody was beside it"


def test_failures_count_and_are_forgotten_with_time():
    log, ledger, now_s = one_server([1.0] * 5)
    assert row(ledger, now_s)["failing"] == 0.0
    record_dispatch(ledger, log, 5, np.array([0]), np.array([now_s]))
    log.completed[0] = 5
    complete(ledger, log, [5], [FAILED], now_s + 0.5)
    failed = row(ledger, now_s + 0.5)
    assert failed["failing"] == pytest.approx(FAILURE_GAIN)
    assert failed["delay_s"] == pytest.approx((failed["own_s"] + failed["wait_s"]) * failed["slowness"] + FAILURE_GAIN * FAILURE_S)
    pace_s = ledger.moods.pace_s[0, 0]
    assert row(ledger, now_s + 0.5 + 100 * pace_s)["failing"] == pytest.approx(FAILURE_GAIN * math.exp(-100 * FAILURE_FORGETTING))
    assert row(ledger, now_s + 1e6)["failing"] == pytest.approx(0.0, abs=1e-9)
    assert ledger.moods.calm_s[0, 0, 0] == row(ledger, now_s)["own_s"], "a failure is no service"


def test_given_up_requests_say_nothing_about_the_server():
    _, ledger, now_s = one_server([1.0, 5.0, 9.0], status=UNMEASURED)
    fresh = row(empty_ledger(1, 1, 1, 1), now_s)
    assert row(ledger, now_s) == fresh
    assert ledger.moods.stamp_s[0, 0] == 0.0


def test_an_empty_ledger_has_finite_columns():
    ledger = empty_ledger(2, 3, 2, 4, np.array([[1, 2, 3], [4, 5, 6]]))
    columns = mood_columns(ledger, service_estimate_s(ledger), np.array([0, 1], dtype=np.int32), np.array([0.0, 1e9]))
    assert np.isfinite(columns).all()
    assert (columns[:, :, COLUMN["own_s"]] == 1.0).all(), "the ledger's prior"
    assert (columns[:, :, COLUMN["wait_s"]] == 0.0).all()
    assert columns[:, :, COLUMN["slow_share"]] == pytest.approx(SLOW_PRIOR)
    assert (columns[:, :, COLUMN["uncertainty"]] == MOST).all()


def test_the_wait_by_hand():
    """Two slots without contention, three in flight of calm time 2: two turns over two slots, less half of what two have had."""
    ledger = empty_ledger(1, 1, 1, 3, np.array([[2]]))
    log = empty_log(np.zeros((1, 3)), np.zeros((1, 3), dtype=np.int32), np.ones((1, 3)))
    ledger.moods.calm_s[:], ledger.moods.weight[:], ledger.moods.square[:] = 2.0, 25.0, 1e9
    for n in range(3):
        record_dispatch(ledger, log, n, np.array([0]), np.array([10.0]))
    seen = row(ledger, 10.5)
    assert seen["contention"] == pytest.approx(0.0, abs=1e-6)
    assert seen["own_s"] == pytest.approx(2.0)
    assert seen["wait_s"] == pytest.approx(2.0)
    assert seen["elapsed_s"] == pytest.approx(1.0)
    assert seen["left_s"] == pytest.approx(2.0 - 0.5 * 1.0 / 2)
    assert seen["overdue"] == pytest.approx(math.log(0.25))
    assert seen["mean_overdue"] == pytest.approx(math.log(0.25))
    assert seen["uncertainty"] == pytest.approx(0.2)


def test_all_times_times_ten():
    """Times grow tenfold and nothing else changes; what a failure costs is absolute."""
    services = np.random.default_rng(1).lognormal(0.0, 0.6, 40)
    (_, ledger, now_s), (_, tenfold, then_s) = one_server(services), one_server(services, unit=10.0)
    for kind in (ledger, tenfold):
        kind.moods.failing[:] = 0.25
    one, ten = row(ledger, now_s + 3.0), row(tenfold, then_s + 30.0)
    for name in ("own_s", "wait_s", "left_s", "elapsed_s"):
        assert ten.pop(name) == pytest.approx(10.0 * one.pop(name))
    failure_s = one["failing"] * FAILURE_S
    assert ten.pop("delay_s") - failure_s == pytest.approx(10.0 * (one.pop("delay_s") - failure_s))
    assert ten == pytest.approx(one)
    assert 0.0 < one["failing"] < 0.25


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), spread=st.floats(0.01, 3.0), slots=st.integers(1, 4))
def test_columns_stay_within_their_bounds(seed, spread, slots):
    rng = np.random.default_rng(seed)
    drawn, choice = traffic(80, 0.01, 2, seed)
    wild = drawn._replace(work_s=drawn.work_s * rng.lognormal(0.0, spread, drawn.work_s.shape))
    world = scenario(server(slots, FAST, queue_limit=4, contention=0.5), server(1, SLOW), classes=CLASSES)
    log, ledger = played(world, wild, choice)
    rows = mood_columns(ledger, service_estimate_s(ledger), np.array([0], dtype=np.int32), np.array([log.completed_s.max()]))
    assert np.isfinite(rows).all()
    bounds = {(0.0, 1.0): ("slow_share", "failing"), (-4.0, 4.0): ("last_ratio", "recent_ratio", "long_ratio")}
    bounds |= {(-3.0, 3.0): ("overdue", "mean_overdue"), (1.0, SLOW_FACTOR): ("slowness",), (LEAST, MOST): ("uncertainty",)}
    bounds |= {(0.0, MOST_CONTENTION): ("contention",), SPREAD_BOUNDS: ("spread",)}
    for (low, high), names in bounds.items():
        for name in names:
            assert low <= rows[0, :, COLUMN[name]].min() <= rows[0, :, COLUMN[name]].max() <= high, name

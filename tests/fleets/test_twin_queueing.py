"""The twin against queueing theory: mean waiting times within 99 % intervals from independent replications, and Little's law."""

from functools import cache
from math import factorial

import numpy as np
import pytest
from scipy import stats

from builders import drive, scenario, server
from trimtab.core.scenario import RequestClass
from trimtab.core.traffic import draw_batch
from trimtab.fleets.base import Episodes
from trimtab.fleets.simulated import SimulatedFleet

FLEETS, WARMUP, MEASURED = 400, 1000, 4000
LARGEST_HALF_WIDTH = 0.05  # of the mean: a wider interval would accept a wrong twin


def erlang_c_wait_s(slots, rate_rps, work_s=1.0):
    """Mean wait in M/M/c (Erlang 1917): P(wait) / (c mu - lambda)."""
    offered = rate_rps * work_s
    busy = offered**slots / factorial(slots) / (1 - offered / slots)
    wait_probability = busy / (sum(offered**n / factorial(n) for n in range(slots)) + busy)
    return wait_probability / (slots / work_s - rate_rps)


def pollaczek_khinchine_wait_s(rate_rps, cv):
    """Mean wait in M/G/1 with mean work 1 (Pollaczek 1930, Khinchine 1932)."""
    return rate_rps * (1 + cv * cv) / (2 * (1 - rate_rps))


@cache
def replications(slots, load, distribution, spread):
    """Of each replication: mean wait, mean response time, requests that an arrival finds, and the luck of its draws.  # [B] each, [B, 3]

    The luck is by how much the mean gap, the mean work and the mean squared work miss their known expectations.
    """
    classes = (RequestClass("a", 1.0, 1.0, distribution, spread),)
    one = server(slots, queue_limit=WARMUP + MEASURED)
    world = scenario(one, classes=classes, rate_rps=slots * load, requests=MEASURED, warmup=WARMUP)
    worlds = [world] * FLEETS
    drawn = draw_batch(worlds, 20, range(FLEETS))
    fleet, found = SimulatedFleet(worlds), np.zeros(FLEETS)
    fleet.reset(Episodes(drawn.arrival_s, drawn.request_class, drawn.work_s, np.zeros(FLEETS, dtype=np.uint64)))
    nobody = np.zeros(FLEETS, dtype=np.int64)
    for n in range(WARMUP + MEASURED):
        fleet.wait_until(drawn.arrival_s[:, n].copy())
        if n >= WARMUP:
            found += n - fleet.log.completed
        fleet.dispatch(n, nobody)
    fleet.wait_until(np.full(FLEETS, np.inf))
    measured = slice(WARMUP, None)
    gap_s, work_s = np.diff(drawn.arrival_s)[:, WARMUP - 1 :], drawn.work_s[:, measured]
    luck = np.stack([gap_s.mean(1) - 1 / (slots * load), work_s.mean(1) - 1, (work_s**2).mean(1) - (1 + spread**2)], axis=1)
    return fleet.log.queue_s[:, measured].mean(axis=1), fleet.log.latency_s[:, measured].mean(axis=1), found / MEASURED, luck


def interval(means):
    """Mean over independent replications and the half-width of its 99 % interval (Student)."""
    return means.mean(), stats.t.ppf(0.995, means.size - 1) * means.std(ddof=1) / np.sqrt(means.size)


def less_luck(means, luck):
    """The means less what their draws explain (control variates: Law and Kelton, chapter 11): the same expectation, narrower."""
    useful = luck[:, luck.std(axis=0) > 1e-9]
    return means - useful @ np.linalg.lstsq(useful - useful.mean(axis=0), means - means.mean(), rcond=None)[0]


CASES = {
    "M/M/1 at .5": (1, 0.5, "exponential", 1.0, erlang_c_wait_s(1, 0.5)),
    "M/M/1 at .8": (1, 0.8, "exponential", 1.0, erlang_c_wait_s(1, 0.8)),
    "M/M/2 at .8": (2, 0.8, "exponential", 1.0, erlang_c_wait_s(2, 1.6)),
    "M/M/4 at .8": (4, 0.8, "exponential", 1.0, erlang_c_wait_s(4, 3.2)),
    "M/G/1 at .5, lognormal": (1, 0.5, "lognormal", 2.0, pollaczek_khinchine_wait_s(0.5, 2.0)),
    "M/D/1 at .8": (1, 0.8, "fixed", 0.0, pollaczek_khinchine_wait_s(0.8, 0.0)),
}


@pytest.mark.parametrize(("slots", "load", "distribution", "spread", "expected_s"), CASES.values(), ids=CASES)
def test_mean_wait_is_that_of_theory(slots, load, distribution, spread, expected_s):
    wait_s, _, _, luck = replications(slots, load, distribution, spread)
    mean_s, half_s = interval(less_luck(wait_s, luck))
    assert half_s < LARGEST_HALF_WIDTH * expected_s
    assert abs(mean_s - expected_s) < half_s, f"wait {mean_s:.4f} +- {half_s:.4f}, theory says {expected_s:.4f}"


@pytest.mark.parametrize(("slots", "load", "distribution", "spread", "_expected_s"), CASES.values(), ids=CASES)
def test_littles_law_with_the_number_that_poisson_arrivals_find(slots, load, distribution, spread, _expected_s):
    """L = lambda W; Poisson arrivals see time averages (Wolff 1982). Paired, so that common luck cancels."""
    _, response_s, found, _ = replications(slots, load, distribution, spread)
    gap, half = interval(found - slots * load * response_s)
    assert half < LARGEST_HALF_WIDTH * found.mean()
    assert abs(gap) < half


def test_the_closed_forms_agree_where_they_overlap():
    assert erlang_c_wait_s(1, 0.8) == pytest.approx(0.8 / 0.2)
    assert pollaczek_khinchine_wait_s(0.8, 1.0) == pytest.approx(erlang_c_wait_s(1, 0.8))
    assert erlang_c_wait_s(2, 1.0) == pytest.approx(1 / 3)  # rho = .5: rho^2 / (1 - rho^2)


def test_time_in_system_adds_up_exactly():
    """The integral of the number in the system, taken event by event, is the sum of response times."""
    worlds = [scenario(server(2, queue_limit=500), rate_rps=1.8, requests=300)] * 5
    drawn = draw_batch(worlds, 3, range(5))
    log = drive(SimulatedFleet(worlds), Episodes(drawn.arrival_s, drawn.request_class, drawn.work_s, np.zeros(5, dtype=np.uint64)))
    for b in range(5):
        at_s = np.concatenate([log.scheduled_s[b], log.completed_s[b]])
        change = np.repeat([1, -1], 300)[np.argsort(at_s, kind="stable")]
        number = np.cumsum(change)
        assert (number >= 0).all()
        assert float(number[:-1] @ np.diff(np.sort(at_s))) == pytest.approx(log.latency_s[b].sum(), rel=1e-9)

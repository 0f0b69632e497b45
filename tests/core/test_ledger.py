"""The ledger by hand, against a naive Python model, and against the closed forms of its averages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import written_log
from trimtab.core import ledger as module
from trimtab.core.ledger import empty_ledger, record_dispatch, record_outcomes, service_estimate_s
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED, Outcomes, empty_log


def send(ledger, log, request, server, now_s=0.0):
    record_dispatch(ledger, log, request, np.array([server]), np.array([now_s]))


def finish(ledger, log, start=0, stop=None):
    record_outcomes(ledger, log, Outcomes(np.array([start]), np.array([log.completed[0] if stop is None else stop])))


def story(rows, servers=1, classes=1):
    """A ledger after the requests of `rows` (see `written_log`) were sent in order of number and completed in order of row."""
    log, ledger = written_log(rows), empty_ledger(1, servers, classes, 1 + max(row[0] for row in rows))
    for request, where in sorted((row[0], row[1]) for row in rows):
        send(ledger, log, request, where, float(log.scheduled_s[0, request]))
    finish(ledger, log)
    return ledger


def served(samples, server=0):
    """Rows of requests one after another, each with this service time as its latency."""
    ends = np.cumsum(samples)
    return [(n, server, 0, SERVED, one, one, end) for n, (one, end) in enumerate(zip(samples, ends, strict=True))]


def test_an_empty_ledger_knows_nothing():
    ledger = empty_ledger(2, 3, 4, 5)
    assert ledger.in_flight.shape == (2, 3, 4)
    assert not ledger.in_flight.any()
    assert not ledger.samples.any()
    assert (ledger.oldest == -1).all()
    assert (ledger.class_share == 0.25).all()
    assert (service_estimate_s(ledger) == 1.0).all()


def test_requests_in_flight_by_server_and_class():
    log = written_log([(n, n % 2, kind, SERVED, 1.0, 1.0, 5.0 + n) for n, kind in enumerate((0, 1, 1, 0, 1))])
    ledger = empty_ledger(1, 2, 2, 5)
    for n in range(5):
        send(ledger, log, n, n % 2, 0.5 * n)
    assert ledger.in_flight[0].tolist() == [[1, 2], [1, 1]]
    assert ledger.outstanding[0].tolist() == [3, 2]
    assert ledger.oldest[0].tolist() == [0, 1]
    assert ledger.youngest[0].tolist() == [4, 3]
    assert ledger.dispatched_s[0].tolist() == [0, 0.5, 1, 1.5, 2]
    finish(ledger, log, 0, 3)
    assert ledger.in_flight[0].tolist() == [[0, 1], [1, 0]]
    assert ledger.outstanding[0].tolist() == [1, 1]
    assert ledger.oldest[0].tolist() == [4, 3]
    assert ledger.last_completion_s[0].tolist() == [7.0, 6.0]


@given(data=st.data(), servers=st.integers(1, 4), count=st.integers(1, 40))
def test_the_oldest_in_flight_whatever_the_order_of_completions(data, servers, count):
    """Against lists: the linked list must survive removals at its head, its end and in between."""
    log = empty_log(np.zeros((1, count)), np.zeros((1, count), dtype=np.int32), np.ones((1, count)))
    ledger, naive, sent = empty_ledger(1, servers, 1, count), [[] for _ in range(servers)], 0
    while sent < count or any(naive):
        inside = [(s, request) for s, one in enumerate(naive) for request in one]
        if sent < count and (not inside or data.draw(st.booleans())):
            where = data.draw(st.integers(0, servers - 1))
            log.server[0, sent] = where
            send(ledger, log, sent, where, float(sent))
            naive[where].append(sent)
            sent += 1
        else:
            where, request = data.draw(st.sampled_from(inside))
            place = int(log.completed[0])
            log.status[0, request], log.latency_s[0, request], log.service_s[0, request] = SERVED, 1.0, 1.0
            log.order[0, place] = request
            log.completed[0] += 1
            finish(ledger, log, place)
            naive[where].remove(request)
        assert ledger.outstanding[0].tolist() == [len(one) for one in naive]
        assert ledger.oldest[0].tolist() == [one[0] if one else -1 for one in naive]
        assert ledger.youngest[0].tolist() == [one[-1] if one else -1 for one in naive]
        assert in_links(ledger, servers) == naive


def in_links(ledger, servers):
    """Requests in flight of each server, oldest first, as the links tell."""
    found = []
    for s in range(servers):
        chain, request = [], int(ledger.oldest[0, s])
        while request >= 0:
            chain.append(request)
            request = int(ledger.newer[0, request])
        found.append(chain)
    return found


# Averages


def test_service_time_is_the_plain_mean_of_twenty_samples_then_a_moving_average():
    rng = np.random.default_rng(0)
    samples = rng.exponential(1.0, 26)
    for count in (1, 2, 20):
        ledger = story(served(samples[:count]))
        assert ledger.service_s[0, 0, 0] == pytest.approx(samples[:count].mean())
        assert ledger.samples[0, 0, 0] == count
    expected = samples[:20].mean()
    for one in samples[20:]:
        expected += 0.05 * (one - expected)
    assert story(served(samples)).service_s[0, 0, 0] == pytest.approx(expected)


def test_service_times_are_kept_by_server_and_class():
    rows = [(0, 0, 0, SERVED, 9.0, 0.5, 1.0), (1, 0, 1, SERVED, 9.0, 2.0, 2.0), (2, 1, 1, SERVED, 9.0, 3.0, 3.0)]
    ledger = story(rows, servers=2, classes=2)
    assert ledger.service_s[0].tolist() == [[0.5, 2.0], [0.0, 3.0]]
    assert ledger.samples[0].tolist() == [[1, 1], [0, 1]]


def test_ratios_compare_a_service_with_what_was_expected_before_it():
    ledger = story(served([1.0, 3.0, 2.0]))
    # Expected 1, then (1 + 3) / 2 = 2: ratios 3 and 1. The first sample has nothing to compare with.
    assert ledger.ratio_fast[0, 0] == pytest.approx(0.7 * (0.7 + 0.3 * 3) + 0.3)
    assert ledger.ratio_slow[0, 0] == pytest.approx(0.95 * (0.95 + 0.05 * 3) + 0.05)


def test_latency_jumps_to_a_peak_and_decays_with_its_time_constant():
    rows = [
        (0, 0, 0, SERVED, 0.5, 0.1, 1.0),
        (1, 0, 0, SERVED, 4.0, 0.1, 2.0),
        (2, 0, 0, SERVED, 0.2, 0.1, 7.0),
        (3, 0, 0, SERVED, 0.2, 0.1, 7.0),
    ]
    ledger = story(rows)
    kept = np.exp(-5 / module.PEAK_DECAY_S)
    assert story(rows[:2]).latency_peak_s[0, 0] == 4.0
    assert story(rows[:3]).latency_peak_s[0, 0] == pytest.approx(4.0 * kept + 0.2 * (1 - kept))
    assert ledger.latency_peak_s[0, 0] == story(rows[:3]).latency_peak_s[0, 0]  # no time has passed, so no weight
    assert ledger.latency_stamp_s[0, 0] == 7.0


@given(steps=st.lists(st.floats(1e-3, 60), min_size=1, max_size=30))
def test_peak_decay_depends_on_the_time_passed_not_on_the_number_of_steps(steps):
    """Samples of one level L after a peak P: L + (P - L) exp(-t / tau), however they are spread over t."""
    rows = [(0, 0, 0, SERVED, 8.0, 0.1, 1.0)]
    rows += [(n, 0, 0, SERVED, 1.0, 0.1, 1.0 + end) for n, end in enumerate(np.cumsum(steps), 1)]
    expected = 1.0 + 7.0 * np.exp(-sum(steps) / module.PEAK_DECAY_S)
    assert story(rows).latency_peak_s[0, 0] == pytest.approx(expected)


def test_gap_and_class_shares_follow_the_arrivals():
    log = written_log([(n, 0, kind, SERVED, 1.0, 1.0, 9.0 + n) for n, kind in enumerate((0, 0, 1))])
    ledger = empty_ledger(1, 1, 2, 3)
    for n, now in enumerate((2.0, 3.0, 6.0)):
        send(ledger, log, n, 0, now)
    assert ledger.gap_s[0] == pytest.approx((0.98 * 2 + 0.02 * 1) * 0.98 + 0.02 * 3)
    assert ledger.last_arrival_s[0] == 6.0
    first = (0.5 * 0.98 + 0.02) * 0.98 + 0.02
    assert ledger.class_share[0] == pytest.approx([first * 0.98, (1 - first) * 0.98 + 0.02])
    assert ledger.class_share.sum() == pytest.approx(1.0)


# Failures and outcomes that nobody measured


def test_a_failure_is_a_two_second_sample_so_that_failing_fast_looks_slow():
    ledger = story([(0, 0, 0, SERVED, 0.1, 0.1, 1.0), (1, 0, 0, FAILED, 0.001, 0.0, 2.0)])
    assert ledger.service_s[0, 0, 0] == pytest.approx((0.1 + 2.0) / 2)
    assert ledger.latency_peak_s[0, 0] == 2.0
    assert ledger.error_rate[0, 0] == pytest.approx(0.1)
    assert ledger.ratio_fast[0, 0] == pytest.approx(0.7 + 0.3 * 20)
    assert ledger.last_completion_s[0, 0] == 2.0


def test_a_failure_that_took_longer_counts_as_long_as_it_took():
    assert story([(0, 0, 0, FAILED, 10.0, 0.0, 11.0)]).latency_peak_s[0, 0] == 10.0


def test_the_error_rate_forgets():
    rows = [(0, 0, 0, FAILED, 0.1, 0.0, 1.0)] + [(n, 0, 0, SERVED, 0.1, 0.1, 1.0 + n) for n in range(1, 11)]
    assert story(rows).error_rate[0, 0] == pytest.approx(0.1 * 0.9**10)


def test_an_unmeasured_outcome_only_leaves_the_books():
    before = story([(0, 0, 0, SERVED, 0.4, 0.2, 1.0)])
    ledger = story([(0, 0, 0, SERVED, 0.4, 0.2, 1.0), (1, 0, 0, UNMEASURED, 5.0, 0.0, 2.0)])
    assert ledger.outstanding[0, 0] == ledger.in_flight[0, 0, 0] == 0
    assert ledger.oldest[0, 0] == -1
    for name in ("service_s", "samples", "latency_peak_s", "latency_stamp_s", "ratio_fast", "error_rate", "last_completion_s"):
        assert np.array_equal(getattr(ledger, name), getattr(before, name)), name


def test_a_service_time_that_was_not_reported_is_no_sample():
    """Third-party servers send no Server-Timing; at zero they would look infinitely fast."""
    ledger = story([(0, 0, 0, SERVED, 0.4, 0.0, 1.0)])
    assert ledger.samples[0, 0, 0] == 0
    assert service_estimate_s(ledger)[0, 0, 0] == 1.0
    assert ledger.latency_peak_s[0, 0] == 0.4


# Prior


def estimate_of(service, samples):
    ledger = empty_ledger(1, len(service), len(service[0]), 1)
    ledger.service_s[0], ledger.samples[0] = service, samples
    return service_estimate_s(ledger)[0]


def test_a_known_pair_is_its_own_estimate():
    assert estimate_of([[1.0, 2.0], [3.0, 4.0]], [[1, 9], [1, 1]]).tolist() == [[1, 2], [3, 4]]


def test_an_unseen_server_is_assumed_a_little_faster_than_the_seen_ones():
    found = estimate_of([[1.0, 5.0], [3.0, 0.0], [0.0, 0.0]], [[4, 1], [1, 0], [0, 0]])
    assert found == pytest.approx(np.array([[1.0, 5.0], [3.0, 3.5], [1.4, 3.5]]))  # 0.7 x mean(1, 3) and 0.7 x 5


def test_a_class_that_nobody_has_seen_gets_the_mean_of_all_that_is_known():
    found = estimate_of([[1.0, 0.0], [3.0, 0.0]], [[4, 0], [1, 0]])
    assert found[:, 1] == pytest.approx(2.0)


def test_the_estimate_is_a_copy():
    ledger = empty_ledger(1, 1, 1, 1)
    service_estimate_s(ledger)[:] = 7
    assert ledger.service_s[0, 0, 0] == 0


def test_fleets_keep_separate_books():
    log = empty_log(np.zeros((2, 2)), np.zeros((2, 2), dtype=np.int32), np.ones((2, 2)))
    ledger = empty_ledger(2, 2, 1, 2)
    for n, (first, second) in enumerate(((0, 1), (0, 0))):
        log.server[:, n] = (first, second)
        record_dispatch(ledger, log, n, np.array([first, second]), np.array([1.0, 2.0]))
    assert ledger.outstanding.tolist() == [[2, 0], [1, 1]]
    log.status[1, 1], log.service_s[1, 1], log.latency_s[1, 1], log.completed_s[1, 1] = SERVED, 3.0, 3.0, 5.0
    log.order[1, 0] = 1
    record_outcomes(ledger, log, Outcomes(np.array([0, 0]), np.array([0, 1])))
    assert ledger.outstanding.tolist() == [[2, 0], [0, 1]]
    assert ledger.service_s[:, :, 0].tolist() == [[0, 0], [3, 0]]

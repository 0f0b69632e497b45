"""The last ten seconds: rates over the time covered, quantiles within the bins' width, nothing older."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.gateway.window import HIGHEST_S, LOWEST_S, Window


def sending(window, times_s, server=0, kind=0):
    for now_s in times_s:
        window.sent(server, kind, now_s)
    return window


def served(latencies_s, now_s=0.0):
    window = Window(1, 1, now_s)
    for one in latencies_s:
        window.served(0, one, now_s)
    return window.read(now_s)


@pytest.mark.parametrize(
    ("sent_at_s", "read_at_s", "rate_rps"),
    [
        ([], 100.0, 0.0),
        ([100.05], 100.05, 10.0),  # the shortest time that counts is one slot
        ([100.05, 100.15], 100.5, 4.0),  # half a second old
        ([100.05] * 30, 109.95, 30 / 9.95),
        ([100.05] * 30, 110.05, 0.0),  # the oldest slot goes when a new one begins
        ([100.05] * 30 + [100.15] * 30, 110.05, 30 / 9.95),
        ([100.05] * 30, 500.0, 0.0),  # a long silence empties everything
        ([100.05, 112.05, 112.15], 112.25, 2 / 9.95),
    ],
)
def test_rates_are_over_the_time_covered(sent_at_s, read_at_s, rate_rps):
    window = sending(Window(1, 1, 100.0), sent_at_s)
    assert window.read(read_at_s).sent_rps[0, 0] == pytest.approx(rate_rps, rel=1e-3)


def test_rates_are_by_server_and_class():
    window = Window(2, 3, 0.0)
    for server, kind, times in ((0, 0, 4), (0, 2, 2), (1, 1, 6)):
        sending(window, [0.5] * times, server, kind)
    assert window.read(2.0).sent_rps.tolist() == [[2, 0, 1], [0, 3, 0]]


def test_a_steady_flow_is_read_at_its_rate():
    window = sending(Window(1, 1, 0.0), (number / 200 for number in range(200 * 25)))
    assert window.read(25.0).sent_rps[0, 0] == pytest.approx(200, rel=0.01)


def test_a_clock_reading_from_just_before_counts_into_the_newest_slot():
    window = sending(Window(1, 1, 0.0), [5.0, 4.9])
    assert window.read(5.0).sent_rps[0, 0] == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("count", "known"),
    [(0, 0), (19, 0), (20, 1), (199, 1), (200, 2), (999, 2), (1000, 3)],
)
def test_a_quantile_needs_ten_samples_beyond_it(count, known):
    recent = served([0.02] * count)
    assert [one is not None for one in (recent.p50_s, recent.p95_s, recent.p99_s)] == [place < known for place in range(3)]


def test_quantiles_of_a_known_sample():
    recent = served([0.010] * 900 + [0.100] * 80 + [1.000] * 20)
    assert [recent.p50_s, recent.p95_s, recent.p99_s] == pytest.approx([0.01, 0.1, 1.0], rel=0.026)
    assert recent.mean_s == (pytest.approx((9 + 8 + 20) / 1000),)


@given(st.lists(st.floats(0.0005, 60.0), min_size=20, max_size=300))
def test_quantiles_are_within_half_a_bin_of_the_sample(latencies_s):
    recent = served(latencies_s)
    for estimate, q in ((recent.p50_s, 0.5), (recent.p95_s, 0.95)):
        if estimate is not None:
            assert estimate == pytest.approx(np.quantile(latencies_s, q, method="inverted_cdf"), rel=0.026)


@pytest.mark.parametrize(("latency_s", "expected_s"), [(0.0, LOWEST_S), (-1.0, LOWEST_S), (1e9, HIGHEST_S)])
def test_latencies_beyond_the_range_stay_at_its_ends(latency_s, expected_s):
    assert served([latency_s] * 20).p50_s == pytest.approx(expected_s, rel=0.06)


def test_means_are_by_server_and_absent_where_nothing_was_served():
    window = Window(3, 1, 0.0)
    for server, latency_s in ((0, 0.1), (0, 0.3), (2, 1.0)):
        window.served(server, latency_s, 1.0)
    recent = window.read(2.0)
    assert recent.mean_s == (pytest.approx(0.2), None, pytest.approx(1.0))
    assert recent.served_rps == pytest.approx(1.5)


def test_old_latencies_are_forgotten():
    window = Window(1, 1, 0.0)
    for _ in range(100):
        window.served(0, 9.0, 0.0)
    for _ in range(100):
        window.served(0, 0.01, 12.0)
    assert window.read(12.0).p50_s == pytest.approx(0.01, rel=0.026)
    assert window.read(30.0).p50_s is None
    assert window.read(30.0).mean_s == (None,)


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 1)), max_size=200))
def test_counts_are_those_of_the_last_hundred_slots(events):
    """Times are middles of slots, so that no rounding decides to which slot they belong."""
    window, events = Window(2, 1, 0.0), sorted(events)
    for slot, server in events:
        window.sent(server, 0, slot / 10 + 0.05)
    last = events[-1][0] if events else 0
    expected = [sum(1 for slot, server in events if server == one and slot > last - 100) for one in (0, 1)]
    covered_s = min(last / 10 + 0.05, 9.95)
    assert window.read(last / 10 + 0.05).sent_rps[:, 0] * max(covered_s, 0.1) == pytest.approx(expected)

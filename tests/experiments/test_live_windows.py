"""Two runs of the same traffic, window by window (tests/benchmarks/live_windows.py)."""

import pytest

from benchmarks.live_windows import Total, read_totals, windows, worst_beside


def totals(latency_ms_at, seconds=120, rate=10):
    """A row a second; `latency_ms_at(second)` of each of its requests."""
    rows, summed = [Total(0.0, 0, 0, 0.0)], 0.0
    for second in range(seconds):
        summed += rate * latency_ms_at(second)
        rows.append(Total(second + 1.0, rate * (second + 1), 0, summed))
    return rows


def test_the_worst_half_minute_is_found_wherever_it_begins():
    slow = totals(lambda second: 30.0 if 47 <= second < 77 else 20.0)
    found = worst_beside(slow, totals(lambda _: 20.0))
    assert found.ratio == pytest.approx(1.5)
    assert found.time_s == pytest.approx(77.0)
    assert found.whole == pytest.approx(1.125)


def test_a_run_that_is_never_behind_says_by_how_little_it_is_ahead():
    found = worst_beside(totals(lambda second: 10.0 + second / 24), totals(lambda _: 20.0))
    assert found.ratio == pytest.approx((10 + (90 + 119) / 2 / 24) / 20)


def test_windows_are_differences_of_locust_s_running_totals(tmp_path):
    path = tmp_path / "a_stats_history.csv"
    lines = ["Timestamp,Name,Total Request Count,Total Failure Count,Total Average Response Time"]
    lines += [f"{1000 + t},{name},{10 * t},{t // 15},{20.0 if t <= 10 else 30.0}" for t in range(0, 22) for name in ("a", "Aggregated")]
    path.write_text("\n".join(lines) + "\n")
    first, second = windows(read_totals(path))
    assert (first.time_s, first.requests, first.failed, first.mean_latency_ms) == (10.0, 100, 0, 20.0)
    assert (second.time_s, second.requests, second.failed, second.mean_latency_ms) == (20.0, 100, 1, 40.0)
    assert second.failed_share == 0.01

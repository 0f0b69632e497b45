import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import scenario, server, written_log
from trimtab.core.metrics import cpu_utilisation, episode_metrics, gini, memory_utilisation, quantile_or_nan
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.core.scenario import RequestClass

CLASSES = (RequestClass("a", 0.5, 1.0, cpu=10.0, memory=4.0), RequestClass("b", 0.5, 2.0, cpu=30.0, memory=1.0))
WORLD = scenario(server(cpu=100.0, memory=10.0, classes="ab"), server(cpu=50.0, memory=20.0, classes="ab"), classes=CLASSES, slo_s=1.0)
ROWS = [
    (0, 0, 0, SERVED, 0.5, 0.5, 1.0),
    (1, 1, 1, SERVED, 1.0, 1.0, 2.0),
    (2, 1, 0, FAILED, 0.1, 0.25, 2.5),
    (3, 0, 1, SERVED, 2.5, 2.0, 4.0),
]


def metrics(rows=ROWS, first=0, last=None, best=None, lag_s=None):
    log = written_log(rows)
    count = len(log.status[0])
    flags = np.zeros(count, dtype=bool) if best is None else np.array(best)
    lags = np.zeros(count) if lag_s is None else np.array(lag_s)
    return episode_metrics(log, 0, WORLD, first, count if last is None else last, flags, lags)


# Gini


def test_gini_closed_forms():
    assert gini(np.array([3.0, 3.0, 3.0])) == pytest.approx(0.0)
    assert gini(np.array([0.0, 0.0, 0.0, 5.0])) == pytest.approx(3 / 4)
    assert gini(np.array([1.0, 3.0])) == pytest.approx(1 / 4)
    assert gini(np.arange(1.0, 6.0)) == pytest.approx(4 / 15)  # (n^2 - 1) / (3 n (n + 1)) x ... = (n - 1) / (3 n)
    assert gini(np.zeros(3)) == 0.0
    assert gini(np.array([7.0])) == pytest.approx(0.0)


def test_gini_works_along_the_last_axis():
    assert gini(np.array([[1.0, 1.0], [0.0, 2.0], [0.0, 0.0]])).tolist() == pytest.approx([0.0, 0.5, 0.0])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=12))
def test_gini_is_half_the_mean_difference_over_the_mean(values):
    share = np.array(values)
    if share.sum() > 1e-6:
        expected = np.abs(share[:, None] - share[None, :]).mean() / 2 / share.mean()
        assert gini(share) == pytest.approx(expected, abs=1e-9)
        assert gini(3.0 * share[::-1]) == pytest.approx(expected, abs=1e-9)


# Quantiles


@pytest.mark.parametrize(("quantile", "enough"), [(0.5, 20), (0.95, 200), (0.99, 1000), (0.999, 10_000)])
def test_a_quantile_is_blank_with_fewer_than_ten_samples_beyond_it(quantile, enough):
    assert np.isnan(quantile_or_nan(np.arange(enough - 1.0), quantile))
    assert quantile_or_nan(np.arange(float(enough)), quantile) == pytest.approx(quantile * (enough - 1))


def test_no_sample_has_no_quantile():
    assert np.isnan(quantile_or_nan(np.zeros(0), 0.5))


# Utilisation


def test_utilisation_is_cost_times_time_in_slots_over_capacity_and_time():
    log = written_log(ROWS)
    assert cpu_utilisation(log, 0, WORLD) == pytest.approx([(10 * 0.5 + 30 * 2) / 100 / 4, (30 * 1 + 10 * 0.25) / 50 / 4])
    assert memory_utilisation(log, 0, WORLD) == pytest.approx([(4 * 0.5 + 1 * 2) / 10 / 4, (1 * 1 + 4 * 0.25) / 20 / 4])


def test_nothing_completed_is_no_utilisation():
    log = written_log(ROWS)
    log.completed[0] = 0
    assert cpu_utilisation(log, 0, WORLD).tolist() == [0, 0]


def test_gini_and_deviation_are_those_of_the_utilisation():
    found, log = metrics(), written_log(ROWS)
    cpu, memory = cpu_utilisation(log, 0, WORLD), memory_utilisation(log, 0, WORLD)
    assert found["gini_coefficient"] == pytest.approx(gini(cpu))
    assert found["utilization_std"] == pytest.approx(np.std(cpu + memory))


# Episodes


def test_latency_is_that_of_served_requests_and_errors_are_counted_apart():
    found = metrics()
    assert found["requests"] == 4
    assert found["mean_latency_ms"] == pytest.approx((0.5 + 1.0 + 2.5) / 3 * 1e3)
    assert found["error_rate"] == pytest.approx(1 / 4)
    assert found["slo_attainment"] == pytest.approx(2 / 4)  # within 1 s; the failed one has not attained anything
    assert found["throughput_rps"] == pytest.approx(3 / 3.5)  # from the first arrival, at 0.5, to the last completion
    assert np.isnan(found["p50_latency_ms"])


def test_warm_up_requests_are_not_measured_but_use_the_servers():
    found = metrics(first=2)
    assert found["requests"] == 2
    assert found["mean_latency_ms"] == pytest.approx(2500)
    assert found["error_rate"] == pytest.approx(1 / 2)
    assert found["gini_coefficient"] == metrics()["gini_coefficient"]


def test_requests_after_the_measured_ones_are_left_out():
    assert metrics(last=2)["mean_latency_ms"] == pytest.approx(750)


def test_the_optimal_decision_rate_is_the_share_of_best_choices_among_the_measured():
    assert metrics(best=[True, True, False, True])["optimal_decision_rate"] == pytest.approx(3 / 4)
    assert metrics(first=2, best=[True, True, False, True])["optimal_decision_rate"] == pytest.approx(1 / 2)


def test_unmeasured_requests_count_neither_as_served_nor_as_failed():
    found = metrics([*ROWS[:3], (3, 0, 1, UNMEASURED, 9.0, 0.0, 4.0)])
    assert found["error_rate"] == pytest.approx(1 / 3)
    assert found["mean_latency_ms"] == pytest.approx(750)


def test_all_failed_has_no_latency():
    found = metrics([(n, 0, 0, FAILED, 0.1, 0.0, 1.0 + n) for n in range(3)])
    assert np.isnan(found["mean_latency_ms"])
    assert (found["error_rate"], found["slo_attainment"], found["throughput_rps"]) == (1.0, 0.0, 0.0)


def test_the_lag_is_the_ninety_ninth_percentile():
    found = metrics(lag_s=[0.0, 0.0, 0.0, 0.1])
    assert found["schedule_lag_ms"] == pytest.approx(np.quantile([0, 0, 0, 100], 0.99))


def test_quantiles_of_a_long_episode():
    latency = np.random.default_rng(0).exponential(1.0, 1000)
    found = metrics([(n, 0, 0, SERVED, one, one, 5000.0 + n) for n, one in enumerate(latency)])
    assert found["p50_latency_ms"] == pytest.approx(np.quantile(latency, 0.5) * 1e3)
    assert found["p99_latency_ms"] == pytest.approx(np.quantile(latency, 0.99) * 1e3)
    assert np.isnan(found["p999_latency_ms"])


def test_a_request_whose_server_is_unknown_counts_as_failed_and_blanks_what_needs_the_server():
    unknown = metrics([*ROWS, (4, -1, 0, FAILED, 0.2, 0.0, 3.0)], best=[True] * 5)
    known = metrics([*ROWS, (4, 1, 0, FAILED, 0.2, 0.0, 3.0)], best=[True] * 5)
    assert np.isnan(unknown["optimal_decision_rate"])
    assert known["optimal_decision_rate"] == 1.0
    assert {k: v for k, v in unknown.items() if v == known[k]}.keys() >= {"error_rate", "gini_coefficient", "utilization_std", "requests"}

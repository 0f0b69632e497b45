import numpy as np
import pytest

from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.core.reward import FAILURE_COST, in_system_integral, own_response, response_cost


def test_a_served_request_earns_minus_its_response_time_in_units_of_the_mean_service():
    reward, valid = own_response(np.array([0.5, 1.0]), np.array([SERVED, SERVED]), np.array([0.1, 2.0]))
    assert reward.tolist() == [-5.0, -0.5]
    assert valid.all()


def test_a_failure_costs_a_fixed_large_time_or_its_latency_if_that_was_longer():
    unit = np.full(3, 0.1)
    reward, valid = own_response(np.array([0.001, 3.9, 10.0]), np.full(3, FAILED), unit)
    assert reward.tolist() == pytest.approx([-FAILURE_COST, -FAILURE_COST, -100.0])
    assert valid.all()


def test_failing_fast_never_pays():
    quick_failure, _ = own_response(np.array([1e-6]), np.array([FAILED]), np.array([0.1]))
    slow_success, _ = own_response(np.array([0.1 * (FAILURE_COST - 1)]), np.array([SERVED]), np.array([0.1]))
    assert quick_failure[0] < slow_success[0]


def test_nothing_is_learned_from_an_unmeasured_outcome():
    _, valid = own_response(np.array([1.0, 1.0]), np.array([UNMEASURED, SERVED]), np.ones(2))
    assert valid.tolist() == [False, True]


def test_the_integral_counts_everyone_for_as_long_as_he_was_there():
    # Three in the system for 2 s, of which one left 0.5 s and another 1.5 s before the end: 6 - 2 = 4 request-seconds.
    found = in_system_integral(np.array([3.0, 0.0]), np.array([2.0, 5.0]), np.array([2.0, 0.0]), np.array([0.5, 1.0]))
    assert found.tolist() == [-8.0, 0.0]


@pytest.mark.parametrize("latency_s", [0.0, 0.05, 3.0])
@pytest.mark.parametrize("status", [SERVED, FAILED])
def test_the_cost_of_one_is_that_of_many(latency_s, status):
    reward, _ = own_response(np.array([latency_s]), np.array([status], dtype=np.int8), np.array([0.02]))
    assert response_cost(latency_s, status, 0.02) == -reward[0]

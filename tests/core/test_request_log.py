import numpy as np

from builders import written_log
from trimtab.core.request_log import FAILED, PENDING, SERVED, Outcomes, empty_log, finished_requests


def test_an_empty_log_holds_the_requests_and_nothing_that_happened_to_them():
    log = empty_log(np.arange(6.0).reshape(2, 3), np.array([[0, 1, 0], [1, 1, 1]]), np.full((2, 3), 0.5))
    assert log.scheduled_s.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert log.request_class.tolist() == [[0, 1, 0], [1, 1, 1]]
    assert (log.server == -1).all()
    assert (log.status == PENDING).all()
    assert log.completed.tolist() == [0, 0]


def test_outcome_columns_share_no_memory_with_each_other_or_the_episode():
    arrival = np.asfortranarray(np.zeros((2, 3)))
    log = empty_log(arrival, arrival.astype(np.int32), arrival)
    log.latency_s[:] = 7.0
    assert not arrival.any()
    assert not any(column.any() for column in (log.service_s, log.queue_s, log.completed_s, log.order, log.work_s))


def test_finished_requests_lists_fleet_and_request_oldest_first():
    log = empty_log(np.zeros((3, 4)), np.zeros((3, 4), dtype=np.int32), np.zeros((3, 4)))
    log.order[:] = [[2, 0, 1, 3], [3, 2, 1, 0], [1, 3, 0, 2]]
    fleet, request = finished_requests(log, Outcomes(np.array([1, 2, 0]), np.array([3, 2, 2])))
    assert fleet.tolist() == [0, 0, 2, 2]
    assert request.tolist() == [0, 1, 1, 3]


def test_no_outcomes_are_two_empty_arrays():
    log = written_log([(0, 0, 0, SERVED, 1.0, 1.0, 1.0), (1, 0, 0, FAILED, 1.0, 0.0, 2.0)])
    fleet, request = finished_requests(log, Outcomes(np.array([2]), np.array([2])))
    assert fleet.size == request.size == 0

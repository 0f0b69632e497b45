"""C3's ranking by hand."""

import numpy as np
import pytest

from policies.one_fleet import choices, state
from trimtab.errors import UsageError
from trimtab.policies import reported


def told(in_flight, response, service, queued=None, **rest):
    view = state(in_flight, **rest)
    reports = view.reports()
    reports.response_mean_s[0], reports.service_mean_s[0] = response, service
    reports.queued_mean[0] = 0.0 if queued is None else queued
    return view


def test_the_score_is_r_minus_service_time_plus_cubed_queue_times_service_time():
    view = told([0, 2, 1], [0.05, 0.03, 0.10], [0.02, 0.01, 0.04], queued=[0.0, 1.0, 0.5])
    expected = [0.05 - 0.02 + 1 * 0.02, 0.03 - 0.01 + 4**3 * 0.01, 0.10 - 0.04 + 2.5**3 * 0.04]
    assert reported.c3(view)[0] == pytest.approx(expected)
    assert choices("c3", view) == [0]


def test_it_is_the_service_time_and_not_the_rate_that_is_cubed_with_the_queue():
    """With the two exchanged, the slow server would look a hundred times better than the fast one."""
    view = told([1, 1], [0.2, 0.02], [0.1, 0.001])
    assert choices("c3", view) == [1]


def test_the_cube_keeps_the_fast_server_from_being_flooded():
    service = [0.01, 0.08]
    assert choices("c3", told([0, 0], service, service)) == [0]
    assert reported.c3(told([1, 0], service, service))[0] == pytest.approx([0.08, 0.08])
    assert choices("c3", told([2, 0], service, service)) == [1]


def test_a_server_never_heard_of_is_as_the_others_are():
    view = told([0, 0, 3], [0.05, 0.03, 0.0], [0.02, 0.04, 0.0])
    assert reported.c3(view)[0, 2] == pytest.approx(0.04 - 0.03 + 4**3 * 0.03)
    nobody = told([0, 1], [0.0, 0.0], [0.0, 0.0])
    assert reported.c3(nobody)[0].tolist() == [1.0, 8.0]


def test_the_kernel_is_its_python():
    view = told([0, 2, 1], [0.05, 0.0, 0.10], [0.02, 0.01, 0.0], queued=[0.0, 1.0, 0.5])
    reports, load = view.reports(), np.empty((1, 3))
    reported._c3.py_func(view.in_flight, reports.queued_mean, reports.response_mean_s, reports.service_mean_s, 1.0, load)
    assert load == pytest.approx(reported.c3(view))


def test_it_is_refused_where_no_reports_are_kept():
    view = state([0, 0])
    object.__setattr__(view, "reports", None)
    with pytest.raises(UsageError, match="load reports"):
        choices("c3", view)

"""Reports by hand: what two servers' answers add up to."""

import numpy as np
import pytest

from builders import written_log
from trimtab.core import reports as told
from trimtab.core.reports import REPORT_GAIN, SILENT, empty_load_log, empty_reports, record_reports
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED, Outcomes

SLOTS = np.array([[1, 2]])


def answered(rows, loads, slots=SLOTS):
    """Reports after these completions, `loads` as (in flight, cpu, memory) of each request by number."""
    log = written_log(rows)
    written, reports = empty_load_log(1, len(loads)), empty_reports(1, 2)
    for request, load in enumerate(loads):
        written.in_flight[0, request], written.cpu_utilization[0, request], written.memory_utilization[0, request] = load
    record_reports(reports, log, written, Outcomes(np.array([0]), log.completed.copy()), slots)
    return reports


def test_averages_sums_and_the_last_report():
    rows = [(0, 0, 0, SERVED, 0.4, 0.1, 1.0), (1, 0, 0, SERVED, 0.2, 0.3, 1.5)]
    reports = answered(rows, [(3, 0.5, 0.1), (0, 0.25, 0.2)])
    assert reports.response_mean_s[0, 0] == pytest.approx(0.4 + REPORT_GAIN * (0.2 - 0.4))
    assert reports.service_mean_s[0, 0] == pytest.approx(0.1 + REPORT_GAIN * (0.3 - 0.1))
    assert reports.queued_mean[0, 0] == pytest.approx(2 + REPORT_GAIN * (0 - 2))  # three inside one slot: two waited
    assert (reports.in_flight[0, 0], reports.cpu_utilization[0, 0], reports.memory_utilization[0, 0]) == (0, 0.25, 0.2)
    assert (reports.reported_s[0, 0], reports.cpu_total[0, 0]) == (1.5, 0.75)
    assert (reports.outcomes[0, 0], reports.reports[0, 0], reports.failures[0, 0]) == (2, 2, 0)
    assert reports.outcomes[0, 1] == 0
    assert reports.reported_s[0, 1] == -np.inf


def test_slots_are_no_queue():
    assert answered([(0, 1, 0, SERVED, 0.4, 0.1, 1.0)], [(2, 0.5, 0.1)]).queued_mean[0, 1] == 0
    assert answered([(0, 1, 0, SERVED, 0.4, 0.1, 1.0)], [(3, 0.5, 0.1)]).queued_mean[0, 1] == 1


def test_a_failure_counts_as_two_seconds():
    reports = answered([(0, 0, 0, FAILED, 0.001, 0.0, 1.0), (1, 1, 0, FAILED, 3.0, 0.0, 2.0)], [(0, 0.0, 0.0)] * 2)
    assert reports.response_mean_s[0].tolist() == [2.0, 3.0]
    assert reports.service_mean_s[0].tolist() == [2.0, 2.0]
    assert reports.failures[0].tolist() == [1, 1]


def test_what_says_nothing_and_what_was_not_measured():
    silent = answered([(0, 0, 0, SERVED, 0.4, 0.0, 1.0)], [(SILENT, 0.0, 0.0)])
    assert (silent.outcomes[0, 0], silent.reports[0, 0]) == (1, 0)
    assert silent.response_mean_s[0, 0] == 0.4
    assert silent.service_mean_s[0, 0] == 0.0, "a server without service times is not infinitely fast"
    gone = answered([(0, 0, 0, UNMEASURED, 0.4, 0.1, 1.0)], [(1, 0.5, 0.0)])
    assert (gone.outcomes[0, 0], gone.reports[0, 0]) == (0, 0)


def test_the_kernel_is_its_python():
    rows = [(0, 0, 0, SERVED, 0.4, 0.1, 1.0), (1, 1, 0, FAILED, 0.2, 0.0, 1.5), (2, 0, 0, SERVED, 0.3, 0.2, 2.0)]
    log, loads = written_log(rows), empty_load_log(1, 3)
    loads.in_flight[0] = [2, 0, 1]
    found = []
    for kernel in (told._record, told._record.py_func):
        reports = empty_reports(1, 2)
        kernel(reports, log, loads, np.array([0]), np.array([3]), SLOTS)
        found.append(reports)
    for name, left, right in zip(told.Reports._fields, *found, strict=True):
        assert left == pytest.approx(right), name

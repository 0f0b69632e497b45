"""Work in processes: every result once, and nothing left behind."""

import multiprocessing
import os
from contextlib import closing

import pytest

from pool_work import die, double, process_id, refuse, take_long
from trimtab.errors import TrimtabError, UsageError
from trimtab.experiments.pool import in_processes


def test_every_unit_is_done_once_in_other_processes():
    assert dict(in_processes(double, range(10), 2)) == {place: 2 * place for place in range(10)}
    done_by = {process for _, process in in_processes(process_id, range(4), 2)}
    assert 1 <= len(done_by) <= 2
    assert os.getpid() not in done_by


def test_no_unit_is_no_work():
    assert list(in_processes(double, [], 2)) == []


def test_an_error_of_a_unit_is_the_error_of_the_whole():
    with pytest.raises(UsageError, match="makes no sense"):
        list(in_processes(refuse, range(3), 2))
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_is_one_line():
    with pytest.raises(TrimtabError, match=r"one of 1 worker processes died; .* --jobs 1") as raised:
        list(in_processes(die, range(3), 1))
    assert "\n" not in str(raised.value)
    assert multiprocessing.active_children() == []


def test_whoever_stops_listening_ends_the_work():
    with closing(in_processes(take_long, range(4), 2)) as results:
        assert next(results) == (0, 0)
    assert multiprocessing.active_children() == []

"""Work in processes: every result once, and nothing left behind."""

import multiprocessing
import os
from contextlib import closing

import pytest

from pool_work import die, double, interrupt, process_id, refuse, take_long
from trimtab.errors import TrimtabError, UsageError
from trimtab.experiments.pool import Workers, in_processes


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


# Workers


def test_workers_give_each_result_to_whoever_gave_the_work():
    with Workers(2) as workers:
        first, second, third = (workers.give(double, number) for number in range(3))
        assert third() == 4
        assert (first(), second()) == (0, 2)
        assert workers.give(process_id, 0)() != os.getpid()
    assert multiprocessing.active_children() == []


def test_workers_pass_errors_on_do_not_see_ctrl_c_and_go_on():
    with Workers(1) as workers:
        refused, interrupted, last = workers.give(refuse, 1), workers.give(interrupt, 5), workers.give(double, 4)
        with pytest.raises(UsageError, match="unit 1 makes no sense"):
            refused()
        assert interrupted() == 5
        assert last() == 8


def test_workers_that_die_are_one_line():
    def fail():
        with Workers(1) as workers:
            workers.give(die, 1)()

    with pytest.raises(TrimtabError, match="one of 1 worker processes died") as raised:
        fail()
    assert "\n" not in str(raised.value)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("error", [None, KeyboardInterrupt], ids=["at the end", "Ctrl-C"])
def test_leaving_ends_workers_that_are_still_busy(error):
    def leave():
        with Workers(2) as workers:
            first, _ = workers.give(double, 1), workers.give(take_long, 1)
            assert first() == 2
            if error is not None:
                raise error

    if error is None:
        leave()
    else:
        with pytest.raises(error):
            leave()
    assert multiprocessing.active_children() == []


def test_workers_that_were_given_nothing_are_no_processes():
    with Workers(2):
        assert multiprocessing.active_children() == []

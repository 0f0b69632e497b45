"""What is read back from a decision log, however it was written and wherever it was cut off."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from recorded import header, record, write
from trimtab.errors import ResultsError
from trimtab.experiments import log_reader
from trimtab.experiments.decision_log import (
    HEADER,
    Segment,
    check_same,
    decisions_in,
    read_deciders,
    read_header,
    records_in,
    segments,
)
from trimtab.experiments.log_lock import hold, holder
from trimtab.experiments.log_reader import LogReader


@pytest.fixture
def log(tmp_path):
    return header(tmp_path)


def steps_of(reader):
    steps = []
    while (step := reader.next()) is not None:
        steps.append(step)
    return steps


def ids(steps):
    return [int(step.record["id"]) for step in steps]


def breaks(steps):
    return [int(step.record["id"]) for step in steps if step.broken]


def all_of(folder, log):
    reader = LogReader(folder, log)
    steps = steps_of(reader)
    reader.finish()
    return steps + steps_of(reader)


def test_a_header_comes_back_as_it_was_written(tmp_path, log):
    folder = write(tmp_path / "log", log)
    found = read_header(folder)
    assert found == log
    assert found.read_scenario().server_ids == ("server-1", "server-2")
    assert found.unit_s == pytest.approx(found.read_scenario().fleet_service_s())
    assert read_deciders(folder) == ["sed-online"]


def test_records_come_back_in_the_order_of_decisions(tmp_path, log):
    ended = [record(log, 1, oldest=0), record(log, 3, oldest=0), record(log, 0, oldest=2), record(log, 2, oldest=4)]
    reader = LogReader(write(tmp_path / "log", log, ended), log)
    steps = steps_of(reader)
    assert ids(steps) == [0, 1, 2, 3]
    assert breaks(steps) == [0]
    assert steps[3].record["seen"].tolist() == ended[1]["seen"].tolist()


def test_what_waits_for_an_older_one_is_not_handed_out(tmp_path, log):
    folder = write(tmp_path / "log", log, [record(log, 0, oldest=1), record(log, 2, oldest=1), record(log, 3, oldest=1)])
    reader = LogReader(folder, log)
    assert ids(steps_of(reader)) == [0]
    with segments(folder)[0].path.open("ab") as file:
        file.write(record(log, 1, oldest=4).tobytes())
    assert ids(steps_of(reader)) == [1, 2, 3]
    assert reader.next() is None


def test_a_torn_tail_is_no_record_until_it_is_whole(tmp_path, log):
    last = record(log, 2).tobytes()
    folder = write(tmp_path / "log", log, [record(log, 0), record(log, 1)], torn=last[:-1])
    reader = LogReader(folder, log)
    assert ids(steps_of(reader)) == [0, 1]
    assert decisions_in(folder, log.record) == 2
    with segments(folder)[0].path.open("ab") as file:
        file.write(last[-1:])
    assert ids(steps_of(reader)) == [2]


def test_zeros_that_a_power_cut_left_are_no_records(tmp_path, log):
    folder = write(tmp_path / "log", log, [record(log, 0)], torn=bytes(3 * log.record.itemsize))
    assert ids(all_of(folder, log)) == [0]


def test_a_new_session_breaks_the_stream_and_settles_the_old_one(tmp_path, log):
    old = [record(log, 0), record(log, 2, oldest=1)]  # 1 was in flight when the gateway was killed
    new = [record(log, number, session=2) for number in range(2)]
    folder = write(tmp_path / "log", log, old, new, torn=b"x")
    steps = steps_of(LogReader(folder, log))
    assert ids(steps) == [0, 2, 0, 1]
    assert [step.broken for step in steps] == [True, True, True, False]


def test_decisions_that_were_lost_break_the_stream(tmp_path, log):
    folder = write(tmp_path / "log", log, [record(log, 0), record(log, 3, oldest=4), record(log, 4)])
    steps = steps_of(LogReader(folder, log))
    assert (ids(steps), breaks(steps)) == ([0, 3, 4], [0, 3])


def test_a_session_goes_on_over_segments(tmp_path, log):
    parts = [[record(log, 3 * part + place) for place in range(3)] for part in range(3)]
    steps = steps_of(LogReader(write(tmp_path / "log", log, *parts), log))
    assert (ids(steps), breaks(steps)) == (list(range(9)), [0])


def test_segments_that_were_deleted_are_counted_and_break_the_stream(tmp_path, log):
    parts = [[record(log, 3 * part + place) for place in range(3)] for part in range(4)]
    folder = write(tmp_path / "log", log, *parts)
    reader = LogReader(folder, log)
    first = [reader.next() for _ in range(3)]
    reader_state = reader.state_dict()
    for gone in segments(folder)[:3]:
        gone.path.unlink()
    rest = steps_of(reader)
    assert ids([*first, *rest]) == [0, 1, 2, 9, 10, 11]
    assert (breaks(rest), reader.missed) == ([9], 6)
    assert decisions_in(folder, log.record) == 12
    again = LogReader(folder, log)
    again.load_state_dict(reader_state)
    assert ids(steps_of(again)) == [9, 10, 11]


def test_one_that_never_ends_does_not_hold_up_the_others(tmp_path, log, monkeypatch):
    monkeypatch.setattr(log_reader, "MOST_WAITING", 10)
    ended = [record(log, number, oldest=0) for number in range(1, 30)] + [record(log, 0, oldest=30)]
    reader = LogReader(write(tmp_path / "log", log, ended), log)
    steps = steps_of(reader)
    assert ids(steps) == list(range(1, 30))
    assert reader.late == 1


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_reader_that_is_stored_anywhere_goes_on_there(tmp_path, log, monkeypatch, cut):
    monkeypatch.setattr(log_reader, "AT_ONCE", 5)
    rng = np.random.default_rng(cut)
    sessions = []
    for session in (1, 2):
        order = np.argsort(np.arange(30) + rng.uniform(0, 6, 30))
        ended, open_ids = [], set(range(30))
        for number in order.tolist():
            open_ids.remove(number)
            ended.append(record(log, number, oldest=min(open_ids, default=30), session=session))
        sessions.append(ended)
    folder = write(tmp_path / "log", log, *sessions)
    whole = [(int(s.record["session"]), int(s.record["id"]), s.broken) for s in all_of(folder, log)]
    assert [one[:2] for one in whole] == [(session, number) for session in (1, 2) for number in range(30)]
    reader = LogReader(folder, log)
    steps = [reader.next() for _ in range(cut)]
    other = LogReader(folder, log)
    other.load_state_dict(json.loads(json.dumps(reader.state_dict())))
    steps += steps_of(other)
    other.finish()
    steps += steps_of(other)
    assert [(int(s.record["session"]), int(s.record["id"]), s.broken) for s in steps] == whole


def test_a_reader_can_begin_again(tmp_path, log):
    folder = write(tmp_path / "log", log, [record(log, number) for number in range(4)])
    reader = LogReader(folder, log)
    once = steps_of(reader)
    reader.finish()
    reader.rewind()
    assert (ids(steps_of(reader)), reader.missed) == (ids(once), 0)


def test_segments_are_known_by_their_names_alone(tmp_path, log):
    folder = write(tmp_path / "log", log, [record(log, 0)])
    (folder / "notes.log").write_text("mine")
    assert segments(folder) == [Segment.at(folder, 1, 0)]
    assert len(records_in(Segment.at(folder, 9, 9), log.record)) == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 99}'])
def test_a_header_that_is_none_is_one_line(tmp_path, log, content):
    folder = write(tmp_path / "log", log)
    (folder / HEADER).write_text(content)
    with pytest.raises(ResultsError, match=HEADER) as raised:
        read_header(folder)
    assert "\n" not in str(raised.value)


def test_a_folder_without_a_log_says_how_to_record_one(tmp_path):
    with pytest.raises(ResultsError, match=r"app\.py --record"):
        read_header(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [("scenario_id", "other", "other"), ("servers", ("x", "y"), "x, y"), ("features", ("f",), "f"), ("unit_s", 9.0, "9.0")],
)
def test_what_differs_is_named(tmp_path, log, name, value, shown):
    with pytest.raises(ResultsError, match=shown):
        check_same(tmp_path, log, replace(log, **{name: value}))
    check_same(tmp_path, log, replace(log, scenario={}))


def test_one_writer_at_a_time(tmp_path):
    assert holder(tmp_path) is None
    with hold(tmp_path):
        assert holder(tmp_path) == os.getpid()
        with pytest.raises(ResultsError, match=str(os.getpid())):
            hold(tmp_path)
    assert holder(tmp_path) is None
    hold(tmp_path).close()

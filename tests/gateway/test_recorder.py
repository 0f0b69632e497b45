"""Every attempt is recorded once, in whole records, whatever happens to disk, process and log."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import urllib3

from tiny_runs import AGENT, write_scenario
from trimtab.core.observation import observation
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.errors import ResultsError
from trimtab.experiments.decision_log import decisions_in, read_deciders, read_header, records_in, segments
from trimtab.experiments.log_lock import holder
from trimtab.experiments.log_reader import LogReader
from trimtab.fleets.local import LocalServers, free_ports
from trimtab.gateway import log_writer
from trimtab.gateway.guard import PlainDecider
from trimtab.gateway.recorder import Recorder
from trimtab.gateway.router import Router
from trimtab.policies import catalogue
from trimtab.problems.routing.scenario_files import load_scenario

PATIENCE_S = 60.0
EVERYBODY = np.ones(2, dtype=bool)


@pytest.fixture
def tiny(tmp_path):
    return load_scenario(str(write_scenario(tmp_path)))


def until(condition):
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def routed(tiny, recorder):
    return Router(tiny, PlainDecider(catalogue.build("sed-online")), 16, recorder)


def drive(router, count, first=0):
    """Some requests one after the other, a hundredth of a second each."""
    for number in range(first, first + count):
        router.finish(router.route(number % 2, 0.01 * number, EVERYBODY), SERVED, 0.01 * number + 0.004, 0.003, 0.001)


def read(folder):
    reader = LogReader(folder, read_header(folder))
    steps = []
    while (step := reader.next()) is not None:
        steps.append(step)
    return steps


def test_a_record_holds_the_decision_as_it_was_made_and_as_it_ended(tiny, tmp_path):
    recorder = Recorder(tmp_path / "log", tiny, 16, clock=lambda: 1e9)
    router = routed(tiny, recorder)
    drive(router, 5)
    seen = observation(router.view(1, 7.0, np.array([False, True])))[0].copy()
    ticket = router.route(1, 7.0, np.array([False, True]))
    router.finish(ticket, FAILED, 7.5, 0.25, 0.125)
    recorder.close()
    last = read(tmp_path / "log")[-1].record
    assert (last["id"], last["kind"], last["server"], last["status"], bool(last["explored"])) == (5, 1, 1, FAILED, False)
    assert (last["sent_s"], last["latency_s"], last["service_s"], last["queue_s"], last["wall_s"]) == (7.0, 0.5, 0.25, 0.125, 1e9)
    assert np.array_equal(last["seen"], seen), "as it was before this request was booked"
    assert last["mask"].tolist() == [False, True]
    assert read_deciders(tmp_path / "log") == ["sed-online"]


def test_every_attempt_is_there_once_and_in_order(tiny, tmp_path):
    recorder = Recorder(tmp_path / "log", tiny, 16)
    router, open_tickets, rng = routed(tiny, recorder), [], np.random.default_rng(0)
    for number in range(300):
        if len(open_tickets) == 16 or (open_tickets and rng.random() < 0.5):
            ticket = open_tickets.pop(int(rng.integers(len(open_tickets))))
            router.finish(ticket, (SERVED, FAILED, UNMEASURED)[number % 3], 0.01 * number)
        else:
            open_tickets.append(router.route(number % 2, 0.01 * number, EVERYBODY))
    for ticket in open_tickets:
        router.finish(ticket, SERVED, 4.0)
    recorder.close()
    steps = read(tmp_path / "log")
    assert [int(step.record["id"]) for step in steps] == list(range(router.counts.sent))
    assert [step.broken for step in steps] == [True] + [False] * (len(steps) - 1)
    statuses = [int(step.record["status"]) for step in steps]
    assert [statuses.count(one) for one in (SERVED, FAILED, UNMEASURED)] == list(router.counts[1:4])


def test_records_are_on_disk_soon_without_an_end(tiny, tmp_path):
    recorder = Recorder(tmp_path / "log", tiny, 16)
    drive(routed(tiny, recorder), 3)
    until(lambda: decisions_in(tmp_path / "log", read_header(tmp_path / "log").record) == 3)
    recorder.close()


def test_what_explores_is_marked_only_where_it_decided(tiny, tmp_path):
    for learner, wanted in (("sed-online", [True, True]), ("dqn", [False, False])):
        recorder = Recorder(tmp_path / learner, tiny, 16, learner=learner, explored=lambda: True)
        drive(routed(tiny, recorder), 2)
        recorder.close()
        assert [bool(step.record["explored"]) for step in read(tmp_path / learner)] == wanted


def test_a_second_start_is_a_new_session_and_knows_how_many_came_before(tiny, tmp_path):
    for count, before in ((4, 0), (3, 4), (2, 7)):
        recorder = Recorder(tmp_path / "log", tiny, 16)
        assert recorder.decisions_before == before
        drive(routed(tiny, recorder), count)
        recorder.close()
    steps = read(tmp_path / "log")
    assert [(int(step.record["session"]), int(step.record["id"])) for step in steps] == [
        (session, number) for session, count in ((1, 4), (2, 3), (3, 2)) for number in range(count)
    ]
    assert sum(step.broken for step in steps) == 3


def test_writing_goes_on_safely_behind_a_torn_tail(tiny, tmp_path):
    recorder = Recorder(tmp_path / "log", tiny, 16)
    drive(routed(tiny, recorder), 4)
    recorder.close()
    torn = segments(tmp_path / "log")[0].path
    os.truncate(torn, torn.stat().st_size - 5)
    recorder = Recorder(tmp_path / "log", tiny, 16)
    assert recorder.decisions_before == 3
    drive(routed(tiny, recorder), 2)
    recorder.close()
    assert [int(step.record["id"]) for step in read(tmp_path / "log")] == [0, 1, 2, 0, 1]


def test_a_log_is_kept_to_its_limit(tiny, tmp_path, capfd):
    size = read_size(tiny, tmp_path)
    recorder = Recorder(tmp_path / "log", tiny, 16, 40 * size)  # four segments of ten records
    drive(routed(tiny, recorder), 200)
    recorder.close()
    kept = segments(tmp_path / "log")
    assert sum(one.path.stat().st_size for one in kept) <= 40 * size
    assert [(one.number, one.before) for one in kept] == [(17 + n, 160 + 10 * n) for n in range(4)]
    assert decisions_in(tmp_path / "log", read_header(tmp_path / "log").record) == 200
    assert capfd.readouterr().err.count("oldest decisions are deleted") == 1


def read_size(tiny, tmp_path):
    Recorder(tmp_path / "size", tiny, 16).close()
    return read_header(tmp_path / "size").record.itemsize


def test_a_full_disk_costs_records_and_nothing_else(tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(log_writer, "RETRY_S", 0.0)
    monkeypatch.setattr(log_writer, "MOST_BUFFERED", 20)
    full, written, write = [True], [], os.write

    def refused(file, content):
        if full[0] and len(content) > 100:
            written.append(write(file, content[:50]))  # half a record fits
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, content)

    monkeypatch.setattr(log_writer.os, "write", refused)
    recorder = Recorder(tmp_path / "log", tiny, 16)
    router = routed(tiny, recorder)
    drive(router, 50)
    until(lambda: len(written) > 1)
    assert recorder.lost == 30
    full[0] = False
    until(lambda: decisions_in(tmp_path / "log", read_header(tmp_path / "log").record) == 20)
    drive(router, 5, first=50)
    recorder.close()
    steps = read(tmp_path / "log")
    assert [int(step.record["id"]) for step in steps] == [*range(20), *range(50, 55)]
    assert [int(step.record["id"]) for step in steps if step.broken] == [0, 50]
    told = capfd.readouterr().err
    assert told.count("cannot record decisions") == 1
    assert "30 decisions could not be recorded" in told


def test_a_log_of_something_else_is_refused(tiny, tmp_path):
    Recorder(tmp_path / "log", tiny, 16).close()
    with pytest.raises(ResultsError, match="scenario id tiny, not compose-default") as raised:
        Recorder(tmp_path / "log", load_scenario("compose-default"), 16)
    assert "\n" not in str(raised.value)
    assert holder(tmp_path / "log") is None


def test_one_gateway_writes_a_log(tiny, tmp_path):
    recorder = Recorder(tmp_path / "log", tiny, 16)
    with pytest.raises(ResultsError, match=f"written by process {os.getpid()}"):
        Recorder(tmp_path / "log", tiny, 16)
    recorder.close()


def test_a_folder_that_cannot_be_made_is_one_line(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="--record"):
        Recorder(tmp_path / "file" / "log", tiny, 16)


# A real gateway


@pytest.fixture
def servers(tiny):
    with LocalServers(tiny) as local:
        yield local.urls


def start(tmp_path, servers, *words):
    (port,) = free_ports(1)
    command = [sys.executable, str(AGENT / "app.py"), "--scenario", str(tmp_path / "tiny.toml"), "--servers", ",".join(servers)]
    command += ["--port", str(port), "--record", str(tmp_path / "log"), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline().startswith("gateway:")
    return process, f"http://127.0.0.1:{port}"


def test_a_gateway_that_is_killed_loses_a_moment_and_no_more(tmp_path, tiny, servers):
    folder = tmp_path / "log"
    with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
        for session in (1, 2):
            process, url = start(tmp_path, servers, "--policy", "least-outstanding")
            try:
                for number in range(40):
                    assert pool.request("GET", f"{url}/job/{'ab'[number % 2]}").status == 200
                until(lambda session=session: len(sessions(folder).get(session, [])) == 40)
                pool.request("GET", f"{url}/job/a")
            finally:
                process.send_signal(signal.SIGKILL)
                process.communicate()
    found = sessions(folder)
    assert [ids[:40] for ids in found.values()] == [list(range(40))] * 2
    assert all(len(ids) in (40, 41) for ids in found.values())
    assert holder(folder) is None


def sessions(folder):
    if not (folder / "log.json").exists():
        return {}
    record = read_header(folder).record
    rows = [row for one in segments(folder) for row in records_in(one, record)]
    return {int(session): [int(row["id"]) for row in rows if row["session"] == session] for session in {row["session"] for row in rows}}


def test_a_gateway_that_ends_in_order_loses_nothing(tmp_path, tiny, servers):
    process, url = start(tmp_path, servers, "--policy", "sed-online")
    with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
        assert [pool.request("GET", f"{url}/job/a").status for _ in range(15)] == [200] * 15
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_S)
    steps = read(tmp_path / "log")
    assert [int(step.record["id"]) for step in steps] == list(range(15))
    assert all(step.record["service_s"] > 0 for step in steps), "the servers report their times"

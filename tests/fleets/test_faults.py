"""The fault timeline: against a client that only writes down what it is told, and on live servers."""

import threading
import time

import numpy as np
import pytest

from builders import episodes, scenario, server
from trimtab.core.scenario import Fault
from trimtab.fleets.client import ServerClient
from trimtab.fleets.faults import FaultTimeline, fault_body
from trimtab.fleets.http import HttpFleet

LONG_AGO_S = 1000.0


class Recorder:
    """Stands for a `ServerClient`; `is_on` is what each server would be doing."""

    def __init__(self, expected=0):
        self.is_on, self.history, self.expected = {}, [], expected
        self.done = threading.Event()

    def set_fault(self, number, fault):
        self.is_on.setdefault(number, []).append(fault["kind"])
        self._note(number)

    def clear_faults(self, number):
        self.is_on[number] = []
        self._note(number)

    def _note(self, number):
        self.history.append((number, tuple(self.is_on[number])))
        if len(self.history) >= self.expected:
            self.done.set()


def three(*faults):
    return scenario(server(), server(), server(), faults=faults)


def alive():
    return [thread for thread in threading.enumerate() if thread.name == "faults"]


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        (Fault("server-1", "slowdown", 0, factor=4.0), {"kind": "slowdown", "factor": 4.0}),
        (Fault("server-1", "fail_fast", 0, after_s=0.002), {"kind": "fail_fast", "after_ms": 2.0}),
        (Fault("server-1", "error_share", 0, share=0.25), {"kind": "error_share", "share": 0.25}),
        (Fault("server-1", "freeze", 0), {"kind": "freeze"}),
        (Fault("server-1", "crash", 0), {"kind": "crash"}),
    ],
)
def test_faults_as_servers_take_them(fault, body):
    assert fault_body(fault) == body


def test_a_scenario_without_server_side_faults_starts_nothing():
    recorder = Recorder()
    timeline = FaultTimeline(three(Fault("server-1", "leave", 0, 5), Fault("server-2", "join", 3)), recorder)
    timeline.start(time.monotonic())
    assert not alive()
    timeline.stop()
    assert recorder.history == []


def test_each_change_sets_what_is_on_from_then():
    faults = (
        Fault("server-1", "slowdown", 1, 4, factor=2.0),
        Fault("server-1", "freeze", 2, 3),
        Fault("server-3", "crash", 2.5),
        Fault("server-2", "leave", 0, 9),
    )
    expected = [
        (0, ()), (2, ()),  # a clean start
        (0, ()), (0, ("slowdown",)),  # at 1
        (0, ()), (0, ("slowdown",)), (0, ("slowdown", "freeze")),  # at 2
        (2, ()), (2, ("crash",)),  # at 2.5
        (0, ()), (0, ("slowdown",)),  # at 3
        (0, ()),  # at 4
    ]  # fmt: skip
    recorder = Recorder(len(expected))
    timeline = FaultTimeline(three(*faults), recorder)
    timeline.start(time.monotonic() - LONG_AGO_S)  # every edge is past, so each is played at once, in order
    assert recorder.done.wait(10)
    assert recorder.history == expected
    timeline.stop()
    assert recorder.is_on == {0: [], 2: []}
    assert not alive()


def test_stopping_does_not_wait_for_faults_to_come():
    recorder = Recorder()
    timeline = FaultTimeline(three(Fault("server-2", "freeze", 3600, 7200)), recorder)
    timeline.start(time.monotonic())
    timeline.stop()
    timeline.stop()
    assert recorder.history == [(1, ()), (1, ())]
    assert not alive()


def test_it_plays_again_after_a_stop():
    recorder = Recorder()
    timeline = FaultTimeline(three(Fault("server-1", "freeze", 0)), recorder)
    for _ in range(2):
        recorder.done.clear()
        recorder.expected = len(recorder.history) + 3
        timeline.start(time.monotonic() - LONG_AGO_S)
        assert recorder.done.wait(10)
        assert recorder.is_on == {0: ["freeze"]}
        timeline.stop()
        assert recorder.is_on == {0: []}


def test_a_slowdown_is_played_on_live_servers_and_taken_back(live_scenario, local_servers):
    faulty = scenario(
        *live_scenario.servers, classes=live_scenario.classes, faults=[Fault("server-1", "slowdown", 0.0, 3600.0, factor=10.0)]
    )
    fleet = HttpFleet(faulty, local_servers.urls, concurrency=4)
    try:
        fleet.reset(episodes(0.2 + 0.06 * np.arange(4), 0.003))
        for n in range(4):
            fleet.wait_until(np.array([0.2 + 0.06 * n]))
            fleet.dispatch(n, np.array([n % 2]))
        assert [[fault["kind"] for fault in state["faults"]] for state in fleet.client.states()] == [["slowdown"], []]
        fleet.wait_until(np.array([np.inf]))
        assert (fleet.log.service_s[0, [0, 2]] > 0.027).all()
        assert [state["faults"] for state in fleet.client.states()] == [[], []], "whoever is next finds the servers well"
        assert not [thread for thread in threading.enumerate() if thread.name == "faults"], "and nobody switches them"
        fleet.reset(episodes(np.array([0.2]), 0.003))
        fleet.wait_until(np.array([0.2]))
        assert [fault["kind"] for fault in fleet.client.states()[0]["faults"]] == ["slowdown"], "the next episode has them again"
    finally:
        fleet.close()
    client = ServerClient(local_servers.urls, connections=1)
    assert [state["faults"] for state in client.states()] == [[], []]
    client.close()

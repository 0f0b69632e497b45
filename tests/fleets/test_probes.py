"""Twin against live servers: the same requests and probes at the same moments are answered alike."""

import numpy as np
import pytest

from builders import episodes, scenario, server
from trimtab.core.scenario import RequestClass
from trimtab.fleets.http import HttpFleet
from trimtab.fleets.local import LocalServers
from trimtab.fleets.simulated import SimulatedFleet

WORK_S = 0.1
CLASSES = (RequestClass("a", 1.0, WORK_S, "fixed", 0.0, cpu=300.0, memory=100.0),)
ARRIVALS_S = np.array([0.0, 0.02, 0.04, 0.06, 0.8, 0.82])
SENT_TO = (0, 0, 0, 0, 1, 1)  # the first four share a slot and leave at .1, .2, .3 and .4
PROBED_AFTER_S = {3: (0.16, 0.6), 5: (0.85,)}  # request: moments


@pytest.fixture(scope="module")
def world():
    return scenario(server(1), server(2), classes=CLASSES, rate_rps=50.0)


@pytest.fixture
def live(world):
    with LocalServers(world) as servers:
        fleet = HttpFleet(world, servers.urls, concurrency=8)
        yield fleet
        fleet.close()


def told(fleet):
    """Answers of both servers to the probes, as (in flight, latency) by server, and the reports."""
    fleet.reset(episodes(ARRIVALS_S, WORK_S))
    answers = []
    for n, where in enumerate(SENT_TO):
        fleet.wait_until(ARRIVALS_S[n : n + 1].copy())
        fleet.dispatch(n, np.array([where]))
        answers += [ask(fleet, at_s) for at_s in PROBED_AFTER_S.get(n, ())]
    fleet.wait_until(np.array([np.inf]))
    loads = fleet.load_reports()
    return answers, loads.in_flight[0].tolist(), loads.cpu_utilization[0].tolist()


def ask(fleet, at_s):
    fleet.wait_until(np.array([at_s]))
    fleet.probe(np.array([[0, 1]]))
    found = {}
    for more in range(1, 100):
        fleet.wait_until(np.array([at_s + 0.005 * more]))
        answers = fleet.probe_answers()
        for place in range(int(answers.start[0]), int(answers.stop[0])):
            found[int(answers.log.server[0, place])] = (int(answers.log.in_flight[0, place]), float(answers.log.latency_s[0, place]))
        if len(found) == 2:
            break
    return found


def test_what_the_twin_says_by_hand(world):
    """At .16 three are inside, and the first, which found nobody, took .1 s. At .6 nobody is; at .85 two are on the second."""
    answers, in_flight, cpu = told(SimulatedFleet([world]))
    assert answers == [
        {0: (3, pytest.approx(0.1)), 1: (0, 0.0)},
        {0: (0, pytest.approx(0.1)), 1: (0, 0.0)},
        {0: (0, pytest.approx(0.1)), 1: (2, 0.0)},
    ]
    assert in_flight == [3, 2, 1, 0, 1, 0]
    assert cpu == pytest.approx([0.3, 0.3, 0.3, 0.0, 0.3, 0.0])


def test_live_servers_say_the_same(world, live):
    (twin, in_flight, cpu), (answers, live_in_flight, live_cpu) = told(SimulatedFleet([world])), told(live)
    assert live_in_flight == in_flight
    assert live_cpu == pytest.approx(cpu)
    for simulated, real in zip(twin, answers, strict=True):
        assert {server: inside for server, (inside, _) in real.items()} == {server: inside for server, (inside, _) in simulated.items()}
        for server_number, (_, latency_s) in simulated.items():
            assert real[server_number][1] == pytest.approx(latency_s, rel=0.3)

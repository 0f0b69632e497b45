"""What the twin's servers say of themselves, by hand and against a count over the whole log."""

import numpy as np
import pytest

from builders import drive, episodes, scenario, server
from trimtab.core.request_log import SERVED
from trimtab.core.scenario import Fault, RequestClass
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.problems.routing.env import Plan
from trimtab.problems.routing.world import draw_episodes

CLASSES = (RequestClass("a", 0.5, 1.0, "exponential", cpu=30.0, memory=400.0), RequestClass("b", 0.5, 2.0, "exponential", cpu=70.0))
MODES = ("crash", "freeze", "slowdown", "fail_fast", "error_share")


def at(*seconds):
    return np.array(seconds, dtype=np.float64)


def sent(fleet, drawn, choices, until_s):
    """Send request n to choices[n] on schedule, then let time pass."""
    fleet.reset(drawn)
    for n, where in enumerate(choices):
        fleet.wait_until(drawn.arrival_s[:, n].copy())
        fleet.dispatch(n, np.array([where]))
    fleet.wait_until(at(until_s))


def test_a_report_is_made_when_the_successor_has_the_slot():
    fleet = SimulatedFleet([scenario(server(1, classes=("a",), cpu=100.0, memory=500.0), classes=CLASSES[:1])])
    sent(fleet, episodes([0.0, 0.1, 0.2], [1.0, 1.0, 1.0]), [0, 0, 0], 10.0)
    loads = fleet.load_reports()
    assert loads.in_flight[0].tolist() == [2, 1, 0]
    assert loads.cpu_utilization[0].tolist() == [0.3, 0.3, 0.0]
    assert loads.memory_utilization[0].tolist() == [0.8, 0.8, 0.0]


def test_nothing_is_known_before_it_has_arrived():
    fleet = SimulatedFleet([scenario(server(1), overhead_s=0.5)])
    sent(fleet, episodes([0.0, 0.1], [1.0, 1.0]), [0, 0], 1.4)
    assert fleet.load_reports().in_flight[0].tolist() == [-1, -1]
    fleet.wait_until(at(1.6))
    assert fleet.load_reports().in_flight[0].tolist() == [1, -1], "as at 1.0, when it left"


def test_what_is_refused_was_never_inside():
    fleet = SimulatedFleet([scenario(server(1, queue_limit=0))])
    sent(fleet, episodes([0.0, 0.1], [1.0, 1.0]), [0, 0], 0.5)
    assert fleet.load_reports().in_flight[0].tolist() == [-1, 1]


def test_a_probe_tells_of_its_own_moment_one_overhead_later():
    fleet = SimulatedFleet([scenario(server(1), server(1), overhead_s=0.25)])
    fleet.reset(episodes([0.0, 0.0], [1.0, 1.0]))
    fleet.dispatch(0, np.array([0]))
    fleet.dispatch(1, np.array([0]))
    fleet.wait_until(at(0.5))
    fleet.probe(np.array([[1, 0, -1]]))
    fleet.wait_until(at(0.7))
    early = fleet.probe_answers()
    assert early.start.tolist() == early.stop.tolist() == [0]
    fleet.wait_until(at(0.76))
    answers = fleet.probe_answers()
    assert (answers.start[0], answers.stop[0]) == (0, 2)
    assert answers.log.server[0, :2].tolist() == [1, 0]
    assert answers.log.in_flight[0, :2].tolist() == [0, 2]
    assert answers.log.latency_s[0, :2].tolist() == [0.0, 0.0], "nothing has completed there"
    assert answers.log.answered_s[0, :2].tolist() == [0.75, 0.75]
    assert fleet.probe_answers().start[0] == 2, "what has been told is not told again"


def test_a_probe_follows_its_request_and_sees_it():
    fleet = SimulatedFleet([scenario(server(1))])
    fleet.reset(episodes([0.0, 1.0], [5.0, 5.0]))
    fleet.dispatch(0, np.array([0]))
    fleet.probe(np.array([[0]]))
    fleet.wait_until(at(1.0))
    assert fleet.probe_answers().log.in_flight[0, 0] == 1


def test_the_latency_is_the_median_at_that_number_in_flight():
    """Three find nobody (1, 3 and 2 s), one finds one inside (waits): a probe of the idle server is told 2, of a busy one the other."""
    fleet = SimulatedFleet([scenario(server(1), overhead_s=0.0)])
    arrivals, works = [0.0, 2.0, 6.0, 7.0, 20.0, 30.0, 40.0], [1.0, 3.0, 2.0, 4.0, 1.0, 9.0, 1.0]
    fleet.reset(episodes(arrivals, works))
    for n in range(4):
        fleet.wait_until(at(arrivals[n]))
        fleet.dispatch(n, np.array([0]))
        fleet.probe(np.array([[-1]]))
    fleet.wait_until(at(15.0))
    fleet.probe(np.array([[0]]))
    fleet.wait_until(at(20.0))
    answers = fleet.probe_answers()
    assert (answers.log.in_flight[0, 0], answers.log.latency_s[0, 0]) == (0, 2.0)
    fleet.dispatch(4, np.array([0]))
    fleet.probe(np.array([[0]]))  # one inside: request 3 found one and took 1 + 4 s
    fleet.wait_until(at(20.5))
    answers = fleet.probe_answers()
    assert (answers.log.in_flight[0, 1], answers.log.latency_s[0, 1]) == (1, 5.0)


def test_a_crashed_server_does_not_answer():
    fleet = SimulatedFleet([scenario(server(1), server(1), faults=[Fault("server-1", "crash", 1.0, 3.0)])])
    fleet.reset(episodes([0.0, 2.0, 4.0], [0.1, 0.1, 0.1]))
    for n, now_s in enumerate((0.0, 2.0, 4.0)):
        fleet.wait_until(at(now_s))
        fleet.dispatch(n, np.array([1]))
        fleet.probe(np.array([[0, 1]]))
    fleet.wait_until(at(5.0))
    answers = fleet.probe_answers()
    assert answers.log.server[0, : answers.stop[0]].tolist() == [0, 1, 1, 0, 1]


@pytest.mark.parametrize("mode", ["no fault", *MODES])
def test_reports_agree_with_a_count_over_the_log(mode):
    """Two batches of random traffic: at every departure, who was inside and who was in a slot, counted from scratch."""
    servers = (server(2, {"a": 1.0, "b": 0.5}, queue_limit=4, cpu=200.0), server(1, {"a": 0.7, "b": 2.0}, number=2, contention=0.3))
    faults = [] if mode == "no fault" else [Fault("server-1", mode, 20.0, 40.0, factor=3.0, after_s=0.1, share=0.4)]
    world = scenario(*servers, classes=CLASSES, faults=faults, rate_rps=2.0, overhead_s=0.05)
    drawn = draw_episodes([world] * 3, Plan(0, 200, closing=False), 5, [0, 1, 2])
    fleet = SimulatedFleet([world] * 3)
    log = drive(fleet, drawn, np.random.default_rng(3).integers(0, 2, (3, 200)))
    loads, checked = fleet.load_reports(), 0
    cpu = np.array([30.0, 70.0])
    for b in range(3):
        left_s = log.completed_s[b] - 0.05
        began_s = log.scheduled_s[b] + log.queue_s[b]
        inside = (log.queue_s[b] > 0) | (log.service_s[b] > 0)
        for n in range(200):
            here = (log.server[b] == log.server[b, n]) & inside & (log.scheduled_s[b] <= left_s[n])
            here &= left_s > left_s[n] + 1e-9
            serving = here & (began_s <= left_s[n] + 1e-9)
            if mode == "crash" and 19.9 < left_s[n] < 20.1:
                continue  # all leave at one moment, in some order
            assert loads.in_flight[b, n] == here.sum()
            capacity = 200.0 if log.server[b, n] == 0 else 1000.0
            assert loads.cpu_utilization[b, n] == pytest.approx(cpu[log.request_class[b][serving]].sum() / capacity)
            checked += 1
    assert checked > 550
    assert mode == "no fault" or (log.status != SERVED).any() or mode in {"freeze", "slowdown"}

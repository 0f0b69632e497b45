"""The live fleet where things go wrong, and its book-keeping."""

import socket
import threading

import numpy as np
import pytest

from builders import episodes, scenario, server
from trimtab.core.ledger import FAILURE_SAMPLE_S, empty_ledger, record_dispatch, record_outcomes
from trimtab.core.request_log import FAILED, SERVED
from trimtab.core.scenario import Fault
from trimtab.errors import FleetError, UsageError
from trimtab.fleets import client
from trimtab.fleets.http import HttpFleet

FOREVER = np.array([np.inf])


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("http-")]


@pytest.fixture
def make_fleet(live_scenario):
    """Makes fleets that are closed at the end."""
    made = []

    def make(urls, world=live_scenario):
        made.append(HttpFleet(world, urls, concurrency=8))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()
    assert not workers()


def one_server(faults=()):
    return scenario(server(2), classes=scenario().classes, faults=faults)


def send_all(fleet, choice, work_s=0.003):
    fleet.reset(episodes(0.005 * np.arange(1, len(choice) + 1), work_s))
    for n, where in enumerate(choice):
        fleet.wait_until(fleet.log.scheduled_s[:, n].copy())
        fleet.dispatch(n, np.array([where]))
    return fleet.wait_until(FOREVER)


def test_a_killed_server_fails_and_looks_slow_while_the_other_serves(make_fleet, local_servers):
    fleet, ledger = make_fleet(local_servers.urls), empty_ledger(1, 2, 1, 12)
    local_servers.kill(0)
    try:
        outcomes = send_all(fleet, [0, 1] * 6)
    finally:
        local_servers.restart(0)
    log = fleet.log
    assert log.status[0].tolist() == [FAILED, SERVED] * 6
    assert (log.latency_s[0] > 0).all()
    for n in range(12):
        record_dispatch(ledger, log, n, np.array([n % 2]), log.scheduled_s[:, n])
    record_outcomes(ledger, log, outcomes._replace(start=np.array([0])))
    assert ledger.service_s[0, 0, 0] == FAILURE_SAMPLE_S > ledger.service_s[0, 1, 0]
    assert ledger.latency_peak_s[0, 0] >= FAILURE_SAMPLE_S > ledger.latency_peak_s[0, 1]
    assert ledger.error_rate[0, 0] > 0.4 > ledger.error_rate[0, 1]
    fleet.reset(episodes([0.0], 0.003))
    fleet.dispatch(0, np.array([0]))
    fleet.wait_until(FOREVER)
    assert fleet.log.status[0, 0] == SERVED  # the server is back, and no stale connection stands in its way


def test_work_and_class_reach_the_server(make_fleet, local_servers):
    fleet = make_fleet(local_servers.urls)
    send_all(fleet, [0, 0, 1], work_s=[[0.03, 0.003, 0.06]])
    assert (fleet.log.service_s[0] >= np.array([0.027, 0.0027, 0.036])).all()


def test_dispatch_returns_before_the_server_answers(make_fleet, stub):
    """The stub answers only after dispatch has returned: a dispatch that waited for it would never end."""
    fleet = make_fleet([stub.url], one_server())
    fleet.reset(episodes([0.0, 0.0], 1.0))
    fleet.dispatch(0, np.array([0]))
    assert stub.asked.wait(10)
    assert fleet.wait_until(np.array([0.0])).stop.tolist() == [0]
    stub.release.set()
    assert fleet.wait_until(FOREVER).stop.tolist() == [1]
    assert (fleet.log.service_s[0, 0], fleet.log.queue_s[0, 0]) == (0.0025, 0.0015)


def test_a_server_that_stays_silent_is_a_failure_after_the_read_time_out(make_fleet, stub, monkeypatch):
    monkeypatch.setattr(client, "READ_TIMEOUT_S", 0.3)
    fleet = make_fleet([stub.url], one_server())
    send_all(fleet, [0, 0])
    assert fleet.log.status[0].tolist() == [FAILED, FAILED]
    assert (fleet.log.latency_s[0] >= 0.3).all()
    assert (fleet.log.service_s[0] == 0).all()


def test_an_answer_of_an_earlier_episode_is_ignored(make_fleet, stub):
    stub.release.set()
    fleet = make_fleet([stub.url], one_server())
    send_all(fleet, [0])
    finished = fleet.client.send(0, "/job/a", {})
    fleet.reset(episodes([0.0], 1.0))
    fleet._done.put((finished.finished_s, fleet._round - 1, 0, 0, finished))  # as a worker of the last round would
    fleet.dispatch(0, np.array([0]))
    fleet.wait_until(FOREVER)
    assert fleet.log.completed[0] == 1
    assert fleet.log.completed_s[0, 0] > 0


def test_outcomes_are_those_of_the_servers_not_of_the_model_beside_them(make_fleet, stub):
    stub.release.set()
    fleet = make_fleet([stub.url], one_server())
    send_all(fleet, [0], work_s=5.0)
    assert fleet.log.service_s[0, 0] == 0.0025  # the model would say 5 s
    assert fleet.log.latency_s[0, 0] < 5


def test_leave_and_join_are_the_balancers_business(make_fleet, stub):
    world = scenario(server(), server(), faults=[Fault("server-1", "leave", 0.0, 0.05)])
    fleet = make_fleet([stub.url, stub.url], world)
    fleet.reset(episodes([0.0, 0.1], 0.001))
    assert fleet.available()[0].tolist() == [False, True]
    fleet.wait_until(np.array([0.1]))
    assert fleet.available()[0].tolist() == [True, True]


def test_a_wrong_url_or_number_of_urls_is_a_usage_error(live_scenario):
    with pytest.raises(UsageError, match="allowed are addresses"):
        HttpFleet(live_scenario, ["localhost:1", "http://localhost:2"])
    with pytest.raises(UsageError, match=r"1 server URLs for scenario 'tiny' of 2 servers"):
        HttpFleet(live_scenario, ["http://localhost:1"])
    assert not workers()


def test_nobody_there_is_an_error_now_and_leaves_no_thread(live_scenario, stub):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(FleetError, match="no Trimtab server answers at") as caught:
            HttpFleet(live_scenario, [stub.url, nobody])
    assert nobody in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not workers()


def test_close_ends_every_thread(live_scenario, local_servers):
    fleet = HttpFleet(live_scenario, local_servers.urls, concurrency=5)
    assert len(workers()) == 5
    send_all(fleet, [0, 1])
    fleet.close()
    assert not workers()

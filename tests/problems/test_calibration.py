"""Calibration: the fits on paper, a stub in place of servers, and two real servers of known speed."""

import time

import numpy as np
import pytest

from builders import scenario, server
from trimtab.core.request_log import FAILED, SERVED
from trimtab.core.scenario import RequestClass
from trimtab.errors import FleetError
from trimtab.fleets.client import Answer, ServerClient
from trimtab.fleets.local import LocalServers
from trimtab.problems.routing.calibration import fit_contention, fit_speed, measure
from trimtab.problems.routing.scenario_files import load_scenario
from trimtab.problems.routing.world import LiveWorld

CLASSES = (RequestClass("a", 0.5, 0.020, "fixed", 0.0), RequestClass("b", 0.5, 0.040, "fixed", 0.0))


def test_speed_is_work_over_the_median_service_time():
    assert fit_speed(0.03, [0.01, 0.02, 0.9]) == pytest.approx(1.5)


def test_contention_is_the_slowdown_a_busy_slot():
    assert fit_contention(3, [1.0, 1.0, 1.0], [1.4, 1.4, 9.0]) == pytest.approx(0.2)
    assert fit_contention(2, [1.0], [1.3]) == pytest.approx(0.3)


def test_noise_is_no_contention():
    assert fit_contention(4, [1.0], [1.0149]) == 0.0
    assert fit_contention(4, [1.0], [0.8]) == 0.0
    assert fit_contention(4, [1.0], [1.0151]) > 0.0


def test_one_slot_or_no_samples_have_no_contention():
    assert fit_contention(1, [1.0], [2.0]) == 0.0
    assert fit_contention(4, [], [2.0]) == 0.0
    assert fit_contention(4, [1.0], []) == 0.0


class ExactServers:
    """Answers like servers of these speeds and contentions would, without taking any time."""

    def __init__(self, speeds, contentions=(), status=SERVED):
        self.urls = tuple(f"http://{n}" for n in range(len(speeds)))
        self.speeds, self.contentions, self.status, self.asked = speeds, contentions, status, []

    def send(self, number, path, headers):
        assert headers == {"X-Work": "1"}
        name = path.removeprefix("/job/")
        self.asked.append((number, name))
        work = {one.name: one.work_s for one in CLASSES}[name]
        return Answer(self.status, time.monotonic(), work / self.speeds[number][name], 0.0)


def declared(*slots):
    return scenario(*(server(count, {"a": 1.0, "b": 1.0}) for count in slots), classes=CLASSES, overhead_s=0.5)


def test_speeds_are_measured_for_each_server_and_class():
    speeds = [{"a": 0.5, "b": 2.0}, {"a": 1.25, "b": 0.2}]
    measured = measure(declared(1, 3), ExactServers(speeds), rounds=3)
    assert [dict(one.speed) for one in measured.servers] == [pytest.approx(table) for table in speeds]
    assert [one.contention for one in measured.servers] == [0.0, 0.0]
    assert measured.overhead_s == 0.0  # answers took no time at all: less than they claim to have worked
    assert measured.traffic == declared(1, 3).traffic
    assert measured.classes == CLASSES


def test_each_class_is_asked_alone_and_with_every_slot_busy():
    servers = ExactServers([{"a": 1.0, "b": 1.0}] * 2)
    measure(declared(1, 3), servers, rounds=4)
    counts = {pair: servers.asked.count(pair) for pair in set(servers.asked)}
    assert counts == {(0, "a"): 4, (0, "b"): 4, (1, "a"): 4 + 12, (1, "b"): 4 + 12}


def test_a_server_that_fails_cannot_be_calibrated():
    with pytest.raises(FleetError, match=r"http://0 did not serve /job/a during calibration; .*no fault may be switched on"):
        measure(declared(1), ExactServers([{"a": 1.0, "b": 1.0}], status=FAILED), rounds=2)


def test_a_server_that_does_not_report_its_service_time_cannot_be_calibrated():
    servers = ExactServers([{"a": np.inf, "b": 1.0}])
    with pytest.raises(FleetError, match="during calibration"):
        measure(declared(1), servers, rounds=2)


@pytest.fixture(scope="module")
def real():
    """Servers whose speeds differ from what the scenario of the balancer says."""
    return scenario(server(1, {"a": 2.0, "b": 0.8}), server(2, {"a": 0.5, "b": 1.6}, contention=0.0), classes=CLASSES, rate_rps=20.0)


@pytest.fixture(scope="module")
def running(real):
    with LocalServers(real) as servers:
        yield servers


def assert_close(measured, real):
    for found, true in zip(measured.servers, real.servers, strict=True):
        assert dict(found.speed) == pytest.approx(dict(true.speed), rel=0.1)
        assert found.contention < 0.1
    assert 0.0 <= measured.overhead_s < 0.02


def test_real_servers_are_measured_within_ten_per_cent(real, running):
    client = ServerClient(running.urls, connections=4)
    assert_close(measure(declared(1, 2), client), real)
    client.close()


def test_a_live_world_writes_what_it_measured_and_gives_its_twin(real, running, tmp_path):
    world = LiveWorld(declared(1, 2), running.urls, "two servers")
    try:
        path = tmp_path / "run" / "calibrated.toml"
        twin = world.calibrate(path)
    finally:
        world.close()
    written = load_scenario(str(path))
    assert_close(written, real)
    assert twin.scenario_id == written.id
    assert path.read_text().startswith("# tiny as measured on live servers at ")

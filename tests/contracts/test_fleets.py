"""The twin and the live fleet against the same contract."""

import pytest

from builders import scenario, server
from contracts.fleet_contract import WORK_S, FleetContract
from trimtab.core.scenario import RequestClass
from trimtab.fleets.http import HttpFleet
from trimtab.fleets.local import LocalServers
from trimtab.fleets.simulated import SimulatedFleet


@pytest.fixture(scope="module")
def world():
    classes = (RequestClass("a", 1.0, WORK_S, "fixed", 0.0),)
    return scenario(server(2), server(1, 1.5, queue_limit=1), classes=classes, rate_rps=100.0)


@pytest.fixture(scope="module")
def servers(world):
    with LocalServers(world) as running:
        yield running


class TestSimulatedFleet(FleetContract):
    @pytest.fixture
    def fleet(self, world):
        fleet = SimulatedFleet([world])
        yield fleet
        fleet.close()


class TestHttpFleet(FleetContract):
    @pytest.fixture
    def fleet(self, world, servers):
        fleet = HttpFleet(world, servers.urls, concurrency=8)
        yield fleet
        fleet.close()

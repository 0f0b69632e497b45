"""The page over HTTP: where it listens, and what happens when it cannot."""

import socket
import sys

import pytest
import urllib3
from prometheus_client import CollectorRegistry, Counter

from trimtab.fleets.local import free_ports
from trimtab.telemetry.exporter import LOOPBACK, Exporter, PortTakenError, default_addresses, interface_address


@pytest.fixture
def port():
    return free_ports(1)[0]


@pytest.fixture
def collector():
    counter = Counter("requests", "some", registry=CollectorRegistry())
    counter.inc(3)
    return counter


def text(port, path="/metrics"):
    with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
        return pool.request("GET", f"http://{LOOPBACK}:{port}{path}").data.decode()


def test_the_page_is_there_between_start_and_close(port, collector):
    with Exporter([collector]) as exporter:
        exporter.start(port, [LOOPBACK])
        assert "requests_total 3.0" in text(port)
        collector.inc()
        assert "requests_total 4.0" in text(port)
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        text(port)


def test_a_silent_client_holds_up_nobody(port, collector):
    with Exporter([collector]) as exporter:
        exporter.start(port, [LOOPBACK])
        with socket.create_connection((LOOPBACK, port), timeout=5.0):
            assert "requests_total" in text(port)


def test_a_taken_port_is_an_error_and_nothing_listens(port, collector):
    with socket.create_server((LOOPBACK, port)):
        exporter = Exporter([collector])
        with pytest.raises(PortTakenError, match=f"metrics port {port}"):
            exporter.start(port, [LOOPBACK])
        assert exporter._servers == []


def test_loopback_always_and_never_every_interface():
    addresses = default_addresses()
    assert addresses[0] == LOOPBACK
    assert "0.0.0.0" not in addresses


@pytest.mark.skipif(sys.platform != "linux", reason="interfaces are looked up on Linux only")
def test_interfaces_have_addresses_or_do_not_exist():
    assert interface_address("lo") == LOOPBACK
    assert interface_address("no-such-interface") is None

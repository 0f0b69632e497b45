"""The live fleet behind real proxies. Where a proxy is not installed its tests are skipped, and say so."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from builders import drive, episodes
from trimtab.core.request_log import FAILED, SERVED
from trimtab.errors import FleetError, UsageError
from trimtab.fleets import client, proxies
from trimtab.fleets.proxied import UNKNOWN, ProxiedFleet, answering_server, places
from trimtab.fleets.proxies import PROXIES, proxy
from trimtab.fleets.proxy_process import ProxyProcess, reached_address
from trimtab.fleets.simulated import SimulatedFleet

NAMES = [one.name for one in PROXIES]
ONE_OF_EACH = ("haproxy-leastconn", "nginx-least-conn")
EVERY_10_MS = 0.01 * np.arange(1, 41)


def installed(name):
    if proxy(name).missing:
        pytest.skip(proxy(name).missing)
    return name


@pytest.fixture
def make_fleet(live_scenario, local_servers):
    """Makes fleets that are closed at the end."""
    made = []

    def make(name):
        made.append(ProxiedFleet(live_scenario, local_servers.urls, installed(name), concurrency=8))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("http-")]


def alive(pid):
    """A process that nobody has waited for yet does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until_gone(pid):
    deadline = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < deadline, "the proxy outlived its parent"
        time.sleep(0.02)


@pytest.mark.parametrize("name", NAMES)
def test_every_request_is_answered_once_and_by_a_server_that_is_known(make_fleet, name):
    fleet = make_fleet(name)
    log = drive(fleet, episodes(EVERY_10_MS, 0.003))
    assert log.completed[0] == EVERY_10_MS.size
    assert sorted(log.order[0].tolist()) == list(range(EVERY_10_MS.size))
    assert (log.status[0] == SERVED).all()
    assert set(log.server[0].tolist()) == {0, 1}
    assert (log.service_s[0] > 0).all(), "the server's own times come through the proxy"
    assert (log.latency_s[0] > log.service_s[0]).all()


def test_round_robin_shares_equally_and_starts_anew_in_each_episode(make_fleet):
    fleet = make_fleet("haproxy-roundrobin")
    for _ in range(2):
        server = drive(fleet, episodes(EVERY_10_MS, 0.003)).server[0]
        assert np.bincount(server).tolist() == [20, 20]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_proxy_runs_only_while_an_episode_does(make_fleet, name):
    fleet = make_fleet(name)
    fleet.reset(episodes([0.0], 0.003))
    process, folder = fleet._process._process, Path(fleet._process._folder.name)
    assert process.poll() is None
    assert folder.is_dir()
    fleet.dispatch(0, np.array([0]))
    fleet.wait_until(np.array([np.inf]))
    assert process.poll() is not None
    assert not folder.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_server_is_survived(make_fleet, local_servers, name):
    fleet = make_fleet(name)
    fleet.reset(episodes(EVERY_10_MS, 0.003))
    local_servers.kill(0)
    try:
        for n in range(EVERY_10_MS.size):
            fleet.wait_until(fleet.log.scheduled_s[:, n].copy())
            fleet.dispatch(n, np.array([0]))
        fleet.wait_until(np.array([np.inf]))
    finally:
        local_servers.restart(0)
    log = fleet.log
    # A proxy answers by itself what was on its way when the server ended; nothing is lost.
    assert log.completed[0] == EVERY_10_MS.size
    assert set(log.server[0, log.status[0] == SERVED].tolist()) == {1}
    assert (log.status[0] == SERVED).mean() > 0.5


def test_what_the_proxy_answers_itself_has_no_server(make_fleet, local_servers):
    fleet = make_fleet("nginx-least-conn")
    fleet.reset(episodes([0.0, 0.01], 0.003))
    for index in (0, 1):
        local_servers.kill(index)
    try:
        for n in (0, 1):
            fleet.dispatch(n, np.array([0]))
        fleet.wait_until(np.array([np.inf]))
    finally:
        for index in (0, 1):
            local_servers.restart(index)
    assert fleet.log.status[0].tolist() == [FAILED, FAILED]
    assert fleet.log.server[0].tolist() == [UNKNOWN, UNKNOWN]
    assert not fleet.expected_best().any()


def test_best_decisions_are_those_of_the_model_fed_with_what_went_where(make_fleet, live_scenario):
    fleet, drawn = make_fleet("haproxy-leastconn"), episodes(EVERY_10_MS / 5, 0.003)
    log = drive(fleet, drawn)
    model = SimulatedFleet([live_scenario])
    drive(model, drawn, log.server.astype(np.int64))
    assert fleet.expected_best().tolist() == model.expected_best().tolist()
    assert fleet.expected_best().any()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_proxy_that_ends_by_itself_is_an_error_and_no_measurement(make_fleet, name):
    fleet = make_fleet(name)
    fleet.reset(episodes([0.0], 0.003))
    os.killpg(fleet._process._process.pid, signal.SIGKILL)
    fleet._process._process.wait(10)
    fleet.dispatch(0, np.array([0]))
    with pytest.raises(FleetError, match=f"{name} ended by itself"):
        fleet.wait_until(np.array([np.inf]))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_refused_configuration_is_one_line_and_leaves_nothing(local_servers, monkeypatch, name):
    installed(name)
    monkeypatch.setattr(client, "READ_TIMEOUT_S", -1.0)
    one = ProxyProcess(name, local_servers.urls)
    with pytest.raises(FleetError, match=f"{name} refuses the configuration made for it") as caught:
        one.start()
    assert "\n" not in str(caught.value)
    assert (one.url, one._process, one._folder) == ("", None, None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_it_dies_with_its_parent_however_that_ends(local_servers, name):
    installed(name)
    code = (
        "import sys, time; from trimtab.fleets.proxy_process import ProxyProcess; one = ProxyProcess(sys.argv[1], sys.argv[2:]); "
        "one.start(); print(one._process.pid, one._folder.name, flush=True); time.sleep(60)"
    )
    agent = Path(proxies.__file__).parents[2]
    command = [sys.executable, "-c", code, name, *local_servers.urls]
    with subprocess.Popen(command, cwd=agent, stdout=subprocess.PIPE, text=True) as parent:
        pid, folder = parent.stdout.readline().split()
        assert alive(int(pid))
        parent.kill()
    until_gone(int(pid))
    for path in sorted(Path(folder).rglob("*"), reverse=True):  # what a killed parent cannot remove
        path.rmdir() if path.is_dir() else path.unlink()
    Path(folder).rmdir()


def test_servers_are_told_by_their_ids():
    assert places([{"id": "b"}, {"id": "a"}]) == {"b": 0, "a": 1}
    with pytest.raises(UsageError, match="2 servers state 1 different ids"):
        places([{"id": "a"}, {"id": "a"}])


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b'{"server": "server-2", "class": "a"}', "server-2"), (b"<html>503</html>", ""), (b"", ""), (b"[1]", ""), (b'{"server": 3}', "")],
)
def test_the_server_is_read_from_the_body(body, expected):
    assert answering_server(body) == expected


def test_addresses_are_those_that_connections_reach(stub):
    port = stub.server_address[1]
    assert reached_address(f"http://localhost:{port}") == f"127.0.0.1:{port}"
    for url in (f"https://127.0.0.1:{port}", f"http://127.0.0.1:{port}/api"):
        with pytest.raises(UsageError, match="a proxy is put before plain http://host:port only"):
            reached_address(url)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(FleetError, match="no Trimtab server answers at"):
            reached_address(f"http://127.0.0.1:{bound.getsockname()[1]}")

"""app.py as people run it: it serves, says where, refuses what makes no sense in one line, and ends in order."""

import json
import signal
import socket
import subprocess
import sys
import time

import pytest
import urllib3

from tiny_runs import AGENT, write_scenario
from trimtab.cli.app import main
from trimtab.fleets.local import LocalServers, free_ports
from trimtab.problems.routing.scenario_files import load_scenario

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing answers there
PATIENCE_S = 60.0


@pytest.fixture
def port():
    return free_ports(1)[0]


class Running:
    """A started app.py and its address."""

    def __init__(self, process, url):
        self.process, self.url = process, url
        self.pool = urllib3.PoolManager(retries=False, timeout=10.0)

    def get(self, path):
        return self.pool.request("GET", self.url + path)

    def state(self):
        return json.loads(self.get("/api/state").data)

    def end(self, number):
        self.process.send_signal(number)
        return self.ended()

    def ended(self):
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Servers of the tiny scenario for every gateway of a file that need not start its own; no test harms them."""
    with LocalServers(load_scenario(str(write_scenario(tmp_path_factory.mktemp("fleet"))))) as servers:
        yield ",".join(servers.urls)


@pytest.fixture
def start(tmp_path, port, fleet):
    """Start app.py with the tiny scenario, wait for its two lines. Without --servers it gets those of `fleet`, unless `own_servers`."""
    started = []

    def begin(*words, own_servers=False):
        if not own_servers and "--servers" not in words:
            words = (*words, "--servers", fleet)
        command = [sys.executable, str(AGENT / "app.py"), "--scenario", str(write_scenario(tmp_path)), "--port", str(port), *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[0].startswith(f"gateway: http://127.0.0.1:{port} "), process.stderr.read()
        assert lines[1] == f"page:    http://127.0.0.1:{port}/ui\n"
        return Running(process, f"http://127.0.0.1:{port}")

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_it_routes_and_sigterm_ends_it_with_0(start):
    gateway = start("--policy", "sed-online", own_servers=True)
    for number in range(20):
        answer = gateway.get("/job/a" if number % 2 else "/job/b?x=1")
        assert answer.status == 200
    state = gateway.state()
    assert state["policy"] == "sed-online"
    assert state["counts"]["served"] == 20
    assert {one["status"] for one in state["servers"]} == {"ok"}
    assert gateway.get("/readyz").status == 200
    assert b"<title>Trimtab gateway</title>" in gateway.get("/ui").data
    assert b'trimtab_gateway_requests_total{class="a",code_class="2xx"' in gateway.get("/metrics").data
    code, _, err = gateway.end(signal.SIGTERM)
    assert (code, err) == (0, "ended: 20 served, 0 failed, 0 cut off\n")


def test_ctrl_c_ends_it_with_130(start):
    code, _, err = start("--policy", "p2c", own_servers=True).end(signal.SIGINT)
    assert (code, err.splitlines()[-1]) == (130, "interrupted")
    assert "Traceback" not in err


def test_a_request_under_way_is_answered_before_the_end(start):
    gateway = start("--policy", "round-robin")
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])), timeout=PATIENCE_S) as client:
        client.sendall(b"POST /job/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        wait_until(lambda: gateway.state()["counts"]["in_flight"] == 1)
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(gateway.url))
        client.sendall(b"b")
        assert client.recv(4096).startswith(b"HTTP/1.1 ")
    assert gateway.ended()[0] == 0


def refuses(url):
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (ConnectionRefusedError, ConnectionResetError):  # reset: the listener closed with this connection in its queue
        return True
    return False


def wait_until(condition):
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


def test_servers_that_do_not_answer_yet_are_no_reason_not_to_start(start):
    gateway = start("--policy", "sed-online", "--servers", f"{NOBODY},{NOBODY}")
    assert gateway.get("/healthz").status == 200
    assert gateway.get("/job/a").status == 502
    wait_until(lambda: {one["status"] for one in gateway.state()["servers"]} == {"down"})
    assert gateway.get("/readyz").status == 503


def test_a_port_that_is_taken_is_one_line(tmp_path, port, capsys):
    words = ["--policy", "p2c", "--scenario", str(write_scenario(tmp_path)), "--servers", f"{NOBODY},{NOBODY}", "--port", str(port)]
    with socket.create_server(("127.0.0.1", port)):
        assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert f"127.0.0.1 port {port}" in captured.err


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ([], 2, ["--policy", "--model"]),
        (["--policy", "p2c", "--model", "x.pth"], 2, ["--model"]),
        (["--policy", "sed-onlin"], 2, ["did you mean 'sed-online'"]),
        (["--policy", "oracle-sed"], 2, ["oracle-sed", "simulator", "sed-online"]),
        (["--policy", "dqn"], 2, ["--model PATH"]),
        (["--policy", "p2c", "--port", "70000"], 2, ["70000", "65535"]),
        (["--policy", "p2c", "--port", "0"], 2, ["0"]),
        (["--policy", "p2c", "--scenario", "family:grey"], 2, ["family:grey", "live servers"]),
        (["--policy", "p2c", "--scenario", "nope"], 2, ["nope"]),
        (["--policy", "p2c", "--servers", NOBODY], 2, ["names 1", "4 servers"]),
        (["--policy", "p2c", "--servers", "a,b,c,d"], 2, ["'a'", "http://localhost:8081"]),
        (["--policy", "p2c", "--default-class", "x"], 2, ["'x'", "light"]),
        (["--model", "nope.pth"], 1, ["nope.pth"]),
    ],
)
def test_mistakes_are_one_line(words, code, named, capsys):
    assert main(words) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert [one for one in named if one not in captured.err] == []


def test_policies_and_scenarios_can_be_listed(capsys):
    assert main(["--policy", "list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert "sed-online" in listed
    assert not any(name.startswith("oracle") for name in listed)
    assert main(["--scenario", "list"]) == 0
    assert "compose-default" in capsys.readouterr().out


def test_a_model_decides_with_sed_online_in_reserve(start):
    reference = AGENT.parent / "Models" / "reference.pth"
    gateway = start("--model", str(reference), "--scenario", "compose-default", "--servers", ",".join([NOBODY] * 4))
    assert gateway.get("/job/light").status == 502
    decider = gateway.state()["decider"]
    assert (decider["primary"], decider["fallback"]) == ("dqn", "sed-online")
    assert sum(decider["decisions"].values()) > 0
    assert gateway.end(signal.SIGTERM)[0] == 0

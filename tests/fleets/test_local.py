import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import urllib3

from trimtab.core.scenario import RequestClass, Scenario, Server, Traffic
from trimtab.errors import FleetError
from trimtab.fleets import local
from trimtab.fleets.local import LocalServers, server_document

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn does not run on Windows")
ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 20

PARENT = """
import sys, time
from trimtab.core.scenario import RequestClass, Scenario, Server, Traffic
from trimtab.fleets.local import LocalServers
classes = (RequestClass("a", 1.0, 0.001),)
with LocalServers(Scenario("s", classes, (Server("server-1", 1, {"a": 1.0}),), Traffic(rate_rps=1.0))) as servers:
    sys.stdout.write(servers.urls[0] + "\\n")
    sys.stdout.flush()
    time.sleep(300)
"""


def scenario(count=2):
    classes = (RequestClass("a", 1.0, 0.001, "fixed", 0.0, cpu=50, memory=30),)
    servers = tuple(Server(f"server-{number}", number, {"a": 1.0}) for number in range(1, count + 1))
    return Scenario("test", classes, servers, Traffic(rate_rps=1.0))


@pytest.fixture
def pool():
    with urllib3.PoolManager(retries=False, timeout=5.0) as manager:
        yield manager


def refused(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def eventually(condition):
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "the condition never held"
        time.sleep(0.01)


def test_profile_keys_are_those_of_a_scenario_file():
    one = scenario()
    assert server_document(one.servers[1], one.classes) == {
        "server": {
            "id": "server-2",
            "slots": 2,
            "speed": {"a": 1.0},
            "queue_limit": 64,
            "contention": 0.0,
            "cpu": 1000.0,
            "memory": 1000.0,
            "work": "sleep",
        },
        "classes": [{"name": "a", "share": 1.0, "work_ms": 1.0, "distribution": "fixed", "spread": 0.0, "cpu": 50, "memory": 30}],
    }


def test_servers_answer_in_order_survive_a_kill_of_their_neighbour_and_come_back(pool):
    with LocalServers(scenario(), faults_enabled=True) as servers:
        urls = servers.urls
        states = [pool.request("GET", f"{url}/state").json() for url in urls]
        assert [(one["id"], one["slots"]) for one in states] == [("server-1", 1), ("server-2", 2)]
        reply = pool.request("GET", f"{urls[0]}/job/a", headers={"X-Request-Id": "r-7"})
        assert (reply.status, reply.headers["X-Request-Id"]) == (200, "r-7")
        assert pool.request("GET", f"{urls[0]}/faults").status == 200
        with pytest.raises(FleetError, match="run already"):
            servers.start()

        servers.kill(0)
        servers.kill(0)  # killing the dead changes nothing
        pool.clear()
        assert refused(urls[0])
        assert pool.request("GET", f"{urls[1]}/job/a").status == 200

        servers.restart(0)
        assert servers.urls == urls
        assert pool.request("GET", f"{urls[0]}/job/a").status == 200
    assert all(refused(url) for url in urls)
    assert servers.urls == ()
    servers.stop()


def test_an_exception_inside_leaves_nothing_behind():
    with contextlib.suppress(RuntimeError), LocalServers(scenario(1)) as servers:
        (url,) = servers.urls
        raise RuntimeError
    assert refused(url)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")
def test_no_child_outlives_its_parent_however_that_ends(ending):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "agent")}
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        url = parent.stdout.readline().strip()
        pid = urllib3.request("GET", f"{url}/health").json()["pid"]
        group = os.getpgid(pid)  # the master
        parent.send_signal(ending)
        parent.wait(DEADLINE_S)
    eventually(lambda: refused(url))
    eventually(lambda: not alive(pid) and not alive(group))


def alive(pid):
    """Whether the process exists and is more than a zombie that its new parent has yet to collect."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_taken_port_is_an_error_and_nothing_is_left(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (good,) = local.free_ports(1)
        monkeypatch.setattr(local, "free_ports", lambda count: (good, taken.getsockname()[1]))
        with pytest.raises(FleetError, match=r"port \d+ is in use by another program; stop that"):
            LocalServers(scenario()).start()
    assert refused(f"http://127.0.0.1:{good}")


def test_a_child_that_ends_at_once_gives_its_last_words(tmp_path, monkeypatch):
    (tmp_path / "launch.py").write_text("import sys\nsys.exit('no such thing as a server')\n")
    monkeypatch.setenv("TRIMTAB_SERVERS", str(tmp_path))
    with pytest.raises(FleetError, match=r"server server-\d on port \d+ ended at once: no such thing as a server; .*--servers"):
        LocalServers(scenario()).start()


def test_a_child_that_never_answers_runs_into_the_time_limit(tmp_path, monkeypatch):
    (tmp_path / "launch.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("TRIMTAB_SERVERS", str(tmp_path))
    with pytest.raises(FleetError, match=r"did not answer /health within 0\.3 s"):
        LocalServers(scenario(1), start_timeout_s=0.3).start()


def test_missing_parts_are_named(tmp_path, monkeypatch):
    servers = LocalServers(scenario(1))
    with pytest.raises(FleetError, match=r"call start\(\) first"):
        servers.restart(0)
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(FleetError, match="gunicorn, which is not installed"):
            servers.start()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        with pytest.raises(FleetError, match="docker compose up"):
            servers.start()
    monkeypatch.setenv("TRIMTAB_SERVERS", str(tmp_path))
    with pytest.raises(FleetError, match=r"found no launch\.py"):
        servers.start()

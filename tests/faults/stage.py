"""The stage of every test: five servers with faults, and the gateway as a process of its own."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from trimtab.fleets.local import LocalServers, free_ports
from trimtab.problems.routing.scenario_files import load_scenario

REPOSITORY = Path(__file__).resolve().parents[2]
SCENARIO = Path(__file__).with_name("five.toml")
HOST, START_S, CALL_S, SETTLE_S, POLL_S = "127.0.0.1", 60.0, 5.0, 45.0, 0.05


PROC_STAT = Path("/proc/stat")


def processor_ticks():
    """Ticks that the machine's processors were withheld by its host, and all ticks, since it started; zeros where that is not told."""
    if not PROC_STAT.exists():
        return 0, 0
    ticks = [int(one) for one in PROC_STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return ticks[7], sum(ticks)


class StageError(Exception):
    """The stage itself failed, so that the test says nothing about the gateway."""


def call(url, method="GET", document=None):
    """The text of an answer. Raises OSError."""
    data = None if document is None else json.dumps(document).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=CALL_S) as answer:
        return answer.read().decode()


def sums(page, family, label=None):
    """Sum of a family's samples on a metrics page, or of each value of a label."""
    found: dict[str, float] = {}
    for one in text_string_to_metric_families(page):
        for sample in one.samples:
            if sample.name == family:
                key = sample.labels[label] if label else ""
                found[key] = found.get(key, 0.0) + sample.value
    return found if label else found.get("", 0.0)


async def until(condition, seconds, what):
    """Seconds until `condition()` holds; asks in a thread, since it may wait. Raises StageError."""
    began_s = time.monotonic()
    while not await asyncio.to_thread(condition):
        if time.monotonic() - began_s > seconds:
            raise StageError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(POLL_S)
    return time.monotonic() - began_s


class Fleet:
    """Five servers on this machine."""

    def __init__(self, servers):
        self.servers, self.scenario = servers, load_scenario(str(SCENARIO))
        self.ids = [one.id for one in self.scenario.servers]
        work_s = self.scenario.classes[0].work_s
        self.rate_rps = 0.6 * sum(one.slots * dict(one.speed)["page"] for one in self.scenario.servers) / work_s

    @property
    def urls(self):
        return self.servers.urls

    def fault(self, index, **document):
        call(f"{self.urls[index]}/faults", "POST", document)

    def clear(self):
        for url in self.urls:
            call(f"{url}/faults", "DELETE")

    def signal(self, index, number):
        """To the server's whole process group, as a frozen container would feel it."""
        os.killpg(self._groups[index], number)

    def learn_groups(self):
        """Where to send signals; a stopped server cannot be asked any more."""
        self._groups = [self._group(index) for index in range(len(self.urls))]

    def learn_group(self, index):
        """The same of one server, for a test in which another may be unable to answer."""
        self._groups[index] = self._group(index)

    def _group(self, index):
        return os.getpgid(json.loads(call(f"{self.urls[index]}/health"))["pid"])

    def requests(self):
        """Jobs that the servers have answered since they started."""
        return sum(sums(call(f"{url}/metrics"), "trimtab_server_requests_total") for url in self.urls)

    def idle(self):
        return all(json.loads(call(f"{url}/state"))["in_flight"] == 0 for url in self.urls)

    def repair(self):
        """Everything as it was at the start, for the next test."""
        for index, url in enumerate(self.urls):
            try:
                call(f"{url}/health")
            except OSError:
                self.servers.restart(index)
        self.clear()
        self.learn_groups()


@contextlib.contextmanager
def fleet():
    """The servers, running."""
    with LocalServers(load_scenario(str(SCENARIO)), faults_enabled=True) as servers:
        made = Fleet(servers)
        made.repair()
        yield made


@dataclass
class Gateway:
    """A running gateway, seen from outside."""

    process: subprocess.Popen
    port: int

    def state(self):
        return json.loads(call(f"http://{HOST}:{self.port}/api/state"))

    def metrics(self):
        return call(f"http://{HOST}:{self.port}/metrics")

    def status(self, index):
        """ok, ramping, ejected or down."""
        return self.state()["servers"][index]["status"]

    def quiet(self):
        return self.state()["counts"]["in_flight"] == 0

    def memory_kib(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))

    def descriptors(self):
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextlib.asynccontextmanager
async def gateway(urls, *decider, seed=0):
    """`agent/app.py` in front of these servers; `decider` as its options, sed-online where none are given. Ends it in the end."""
    (port,) = free_ports(1)
    options = decider or ("--policy", "sed-online")
    command = [sys.executable, str(REPOSITORY / "agent" / "app.py"), *options, "--scenario", str(SCENARIO)]
    command += ["--servers", ",".join(urls), "--port", str(port), "--seed", str(seed)]
    # In a session of its own, as a service manager starts it: Linux shares processors among sessions, and it would go halves with the load.
    settings = {"stdout": subprocess.DEVNULL, "start_new_session": True}
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stderr=log, **settings) as process:
        try:
            await until(lambda: process.poll() is not None or _ready(port), START_S, "the gateway was not ready")
            _check_alive(process, log)
            yield Gateway(process, port)
            _check_alive(process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, 20)
            except subprocess.TimeoutExpired:
                process.kill()


def _check_alive(process, log):
    if process.poll() is not None:
        log.seek(0)
        raise StageError(f"the gateway ended by itself: {log.read().decode(errors='replace').strip()[-300:]}")


def _ready(port):
    try:
        call(f"http://{HOST}:{port}/readyz")
    except OSError:
        return False
    return True

"""Starts servers/ as child processes on free loopback ports: the live fleet where there is no Docker."""

import contextlib
import importlib.util
import itertools
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

import urllib3

from trimtab.core.scenario import RequestClass, Scenario, Server
from trimtab.errors import FleetError
from trimtab.paths import servers_dir

HOST = "127.0.0.1"
# Below the ports that Linux hands to outgoing connections (from 32768): one of those could hold a killed server's port when it restarts.
PORTS = range(20000, 32000)
POLL_S = 0.02
STOP_TIMEOUT_S = 5.0


def server_document(server: Server, classes: Sequence[RequestClass]) -> dict[str, Any]:
    """The server's TRIMTAB_PROFILE: the keys of a scenario file, times in milliseconds."""
    keys = ("id", "slots", "queue_limit", "contention", "cpu", "memory", "work")
    table = {key: getattr(server, key) for key in keys} | {"speed": dict(server.speed)}
    return {"server": table, "classes": [_class_document(one) for one in classes]}


def _class_document(one: RequestClass) -> dict[str, Any]:
    keys = ("name", "share", "distribution", "spread", "cpu", "memory")
    return {key: getattr(one, key) for key in keys} | {"work_ms": one.work_s * 1000}


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does: connections of a past server do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> tuple[int, ...]:
    """`count` loopback ports that nobody listens on now. Raises FleetError."""
    candidates = random.SystemRandom().sample(PORTS, k=len(PORTS))  # unseeded: two fleets started at once must not try the same ports
    found = tuple(itertools.islice(filter(_can_bind, candidates), count))
    if len(found) < count:
        raise FleetError(f"found {len(found)} free ports in {PORTS.start}-{PORTS.stop - 1}, {count} are needed; stop other servers")
    return found


@dataclass(slots=True)
class _Child:
    """One server: gunicorn's master, and by it the worker. Both hold the pipe `alive`, so its end tells that both are gone."""

    process: subprocess.Popen[bytes]
    stderr: IO[bytes]
    alive: IO[bytes]

    def last_line(self) -> str:
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"nothing on stderr, exit code {self.process.poll()}"

    def kill(self) -> None:
        """Master and worker at once: servers hold nothing worth a slow goodbye."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT_S)
        with selectors.DefaultSelector() as selector:  # select() itself fails in a program that holds more than 1024 descriptors
            selector.register(self.alive, selectors.EVENT_READ)
            selector.select(STOP_TIMEOUT_S)
        self.alive.close()
        self.stderr.close()


class LocalServers:
    """The scenario's servers as child processes, a context manager. Index = position in the scenario = action.

    No child outlives this process: `stop` kills them, and on Linux the kernel does when this process dies in any other way.
    """

    def __init__(self, scenario: Scenario, *, faults_enabled: bool = False, start_timeout_s: float = 30.0) -> None:
        self._scenario = scenario
        self._faults_enabled = faults_enabled
        self._start_timeout_s = start_timeout_s
        self._ports: tuple[int, ...] = ()
        self._children: dict[int, _Child] = {}
        # The kernel ties a child's life to the thread that started it, so one thread starts them all and lives until `stop`.
        self._starter: ThreadPoolExecutor | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Base URLs in server order; empty before `start`."""
        return tuple(f"http://{HOST}:{port}" for port in self._ports)

    def __enter__(self) -> "LocalServers":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Starts all servers and waits until each answers /health. Raises FleetError; then nothing is left running."""
        if self._starter is not None:
            raise FleetError("the local servers run already; stop them before starting them again")
        _require_runnable()
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            self._ports = free_ports(len(self._scenario.servers))
            self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-servers")
            for index in range(len(self._ports)):
                self._spawn(index)
            self._await_healthy(range(len(self._ports)))
            undo.pop_all()

    def stop(self) -> None:
        """Kills all servers and waits for their end. Calling it again does nothing."""
        while self._children:
            self._children.popitem()[1].kill()
        if self._starter is not None:
            self._starter.shutdown()
        self._starter, self._ports = None, ()

    def kill(self, index: int) -> None:
        """Kills one server as `kill -9` would: connections are refused from now on."""
        if index in self._children:
            self._children.pop(index).kill()

    def restart(self, index: int) -> None:
        """Starts a killed server on its old port, or replaces a running one. Raises FleetError."""
        if self._starter is None:
            raise FleetError("the local servers are not running; call start() first")
        self.kill(index)
        self._spawn(index)
        self._await_healthy([index])

    def _spawn(self, index: int) -> None:
        assert self._starter is not None  # noqa: S101 -- start() and restart() have set or checked it
        if not _can_bind(self._ports[index]):
            raise FleetError(f"port {self._ports[index]} is in use by another program; stop that, or start the local servers anew")
        environment = self._environment(index)
        self._children[index] = self._starter.submit(_start_process, environment).result()

    def _environment(self, index: int) -> dict[str, str]:
        profile = json.dumps(server_document(self._scenario.servers[index], self._scenario.classes))
        own = {"TRIMTAB_PROFILE": profile, "TRIMTAB_BIND": f"{HOST}:{self._ports[index]}", "TRIMTAB_FAULTS": str(int(self._faults_enabled))}
        # These, of the user's shell, would override the address and the number of workers.
        foreign = {"GUNICORN_CMD_ARGS", "WEB_CONCURRENCY"}
        return {key: value for key, value in os.environ.items() if key not in foreign} | own

    def _await_healthy(self, indices: Sequence[int]) -> None:
        deadline_s = time.monotonic() + self._start_timeout_s
        waiting = list(indices)
        with urllib3.PoolManager(retries=False, timeout=1.0) as pool:
            while waiting:
                waiting = [index for index in waiting if not self._healthy(pool, index)]
                if waiting and time.monotonic() > deadline_s:
                    raise self._failure(waiting[0], f"did not answer /health within {self._start_timeout_s:g} s")
                time.sleep(POLL_S if waiting else 0)

    def _healthy(self, pool: urllib3.PoolManager, index: int) -> bool:
        child = self._children[index]
        if child.process.poll() is not None:
            raise self._failure(index, "ended at once")
        try:
            reply = pool.request("GET", f"{self.urls[index]}/health")
            return reply.status == 200 and os.getpgid(reply.json()["pid"]) == child.process.pid
        except (urllib3.exceptions.HTTPError, ProcessLookupError):
            return False
        except (ValueError, KeyError, TypeError) as error:
            raise self._failure(index, f"found something else listening on port {self._ports[index]}") from error

    def _failure(self, index: int, what: str) -> FleetError:
        server, reason = self._scenario.servers[index].id, self._children[index].last_line()
        return FleetError(f"server {server} on port {self._ports[index]} {what}: {reason}; remove the cause, or pass --servers URL,URL,...")


def _require_runnable() -> None:
    if sys.platform == "win32":
        raise FleetError(
            "local servers need gunicorn, which does not run on Windows; use `docker compose up` and pass --servers URL,URL,..."
        )
    if importlib.util.find_spec("gunicorn") is None:
        raise FleetError("local servers need gunicorn, which is not installed; run `pip install -r requirements.txt`")
    if not (servers_dir() / "launch.py").is_file():
        raise FleetError(f"found no launch.py in {servers_dir()}; set TRIMTAB_SERVERS to the servers/ folder of the repository")


def _start_process(environment: dict[str, str]) -> _Child:
    stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by _Child.kill
    command = [sys.executable, str(servers_dir() / "launch.py"), str(os.getpid())]
    # A session of its own: Ctrl-C reaches this process only, which then stops its children in order.
    process = subprocess.Popen(  # noqa: S603 -- our own interpreter and our own file
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
    )
    assert process.stdout is not None  # noqa: S101 -- it is a pipe
    return _Child(process, stderr, process.stdout)

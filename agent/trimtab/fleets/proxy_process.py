"""One real proxy as a child process before a fleet, on a free loopback port."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

import urllib3

from trimtab.errors import FleetError, UsageError
from trimtab.fleets import client, proxies
from trimtab.fleets.local import POLL_S, STOP_TIMEOUT_S, free_ports
from trimtab.paths import servers_dir

CHECK_TIMEOUT_S: Final = 10.0
START_TIMEOUT_S: Final = 10.0
# Becomes the proxy after asking the kernel to end it with us, however we end.
_EXEC: Final = (
    "import os, sys; sys.path.insert(0, sys.argv[1]); from lifeline import die_with_parent; "
    "die_with_parent(int(sys.argv[2])); os.execv(sys.argv[3], sys.argv[3:])"
)


class ProxyProcess:
    """A proxy of `proxies.PROXIES` before the servers at `urls`. `start` begins with nothing remembered, `stop` leaves nothing behind."""

    def __init__(self, name: str, urls: Sequence[str]) -> None:
        self.proxy = proxies.proxy(name)
        self.url = ""  # while it runs
        self._urls = tuple(urls)
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        """Write and test the configuration, start the proxy and wait until it answers. Raises FleetError; then nothing is left running."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            self._folder = tempfile.TemporaryDirectory(prefix="trimtab-proxy-")
            (port,) = free_ports(1)
            path = Path(self._folder.name, f"{self.proxy.program}.cfg")
            servers = [reached_address(url) for url in self._urls]
            text = proxies.configuration(self.proxy, port, servers, path.parent, client.CONNECT_TIMEOUT_S, client.READ_TIMEOUT_S)
            path.write_text(text, encoding="utf-8")
            self._test(path)
            self._spawn(path)
            self._await_ready(f"http://{proxies.HOST}:{port}")
            undo.pop_all()

    def require_alive(self) -> None:
        """Raise FleetError where the proxy has ended by itself: what was measured since is not its work."""
        if self._process is None or self._process.poll() is not None:
            raise FleetError(f"{self.proxy.name} ended by itself: {self._last_line()}; run it again, or leave it out")

    def stop(self) -> None:
        """End the proxy at once and remove its files. Calling it again does nothing."""
        self.url = ""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # it holds nothing worth a slow goodbye
            self._process.wait(STOP_TIMEOUT_S)
        if self._stderr is not None:
            self._stderr.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._process, self._stderr, self._folder = None, None, None

    def _test(self, path: Path) -> None:
        command = proxies.check_command(self.proxy, path)
        try:
            done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=CHECK_TIMEOUT_S, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = type(error).__name__
            raise FleetError(f"{command[0]} could not test its configuration ({reason}); reinstall it, or leave it out") from None
        if done.returncode != 0:
            found = _first_complaint(done.stderr)
            raise FleetError(f"{self.proxy.name} refuses the configuration made for it: {found}; is this {self.proxy.program} very old?")

    def _spawn(self, path: Path) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by stop()
        command = [sys.executable, "-c", _EXEC, str(servers_dir()), str(os.getpid()), *proxies.run_command(self.proxy, path)]
        # A session of its own: Ctrl-C reaches this process only, which then ends the proxy.
        self._process = subprocess.Popen(  # noqa: S603 -- a program found on the path, and our own file
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._stderr, start_new_session=True
        )

    def _await_ready(self, url: str) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        with urllib3.PoolManager(retries=False, timeout=2.0) as pool:
            while True:
                self.require_alive()
                with contextlib.suppress(urllib3.exceptions.HTTPError):
                    pool.request("GET", f"{url}/health")  # any answer is one: a server that is down is the proxy's business
                    break
                if time.monotonic() > deadline_s:
                    raise FleetError(f"{self.proxy.name} did not answer within {START_TIMEOUT_S:g} s: {self._last_line()}; leave it out")
                time.sleep(POLL_S)
        self.require_alive()
        self.url = url

    def _last_line(self) -> str:
        if self._stderr is None:
            return "it was not started"
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing on stderr"


def reached_address(url: str) -> str:
    """The address host:port of a server as connections reach it: proxies would take every address of a name for a server of its own.

    Raises UsageError for a URL that no proxy here is configured for, FleetError where nobody listens.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.path or parts.hostname is None:
        raise UsageError(f"server URL {url!r}: a proxy is put before plain http://host:port only; leave the proxies out of --policies")
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), client.CONNECT_TIMEOUT_S) as reached:
            host, port = reached.getpeername()[:2]
    except OSError as error:
        reason = type(error).__name__
        raise FleetError(f"no Trimtab server answers at {url} ({reason}); start it (docker compose up -d) or name others") from error
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _first_complaint(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    loud = [line for line in lines if any(word in line for word in ("[ALERT]", "[emerg]", "[EMERG]"))]
    return next(iter(loud or lines), "nothing on stderr")

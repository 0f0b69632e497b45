"""The gateway that runs beside a learner, as a process of its own: either may end, and the other goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import urllib3

from trimtab.errors import GatewayError, UsageError
from trimtab.experiments.log_lock import holder
from trimtab.experiments.runs import RunFolder
from trimtab.paths import REPOSITORY

if TYPE_CHECKING:
    from trimtab.experiments.session import Settings

DEFAULT_PORT: Final = 8080
DEFAULT_SCENARIO: Final = "compose-default"
START_S: Final = 120.0  # kernels may have to be compiled, servers started
END_S: Final = 20.0  # it drains for 10 s
POLL_S: Final = 0.05
NICENESS: Final = 10  # serving comes first where the cores do not suffice for both


class GatewayProcess:
    """`app.py --model live.pth --explore`, writing the run's decision log.

    One that still writes it, because its learner was killed, is taken over as it is. What it prints goes to a file: a terminal or a pipe
    might end before it does.
    """

    def __init__(self, folder: RunFolder, settings: "Settings", port: int, control_share: float | None = None) -> None:
        """`control_share` of the requests are decided by its heuristic; None: as many as is usual."""
        self.url = f"http://127.0.0.1:{port}"
        self._folder, self._settings, self._port, self._control_share = folder, settings, port, control_share
        self._process: subprocess.Popen[bytes] | None = None

    def wait(self) -> None:
        """Wait a moment for decisions. Raises GatewayError where nobody makes any."""
        self._check()
        time.sleep(POLL_S)

    @contextmanager
    def running(self) -> Iterator[str]:
        """While the block runs; yields what to tell people. It drains and ends with the block, unless it had been running before."""
        found = holder(self._folder.decisions)
        if found is not None:
            yield f"goes on with process {found}, which still serves and is not ended with this one (kill {found})"
            return
        self._start()
        try:
            yield f"gateway: {self.url}  page: {self.url}/ui  send requests there, such as: {self._locust()}"
        finally:
            self._stop()

    def _start(self) -> None:
        self._folder.gateway_log.parent.mkdir(parents=True, exist_ok=True)
        with self._folder.gateway_log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the learner only, which then ends the gateway in order.
            self._process = subprocess.Popen(  # noqa: S603 -- our own interpreter and our own file
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        give_up_s = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > give_up_s:
                self._stop()
                raise GatewayError(f"the gateway did not start within {START_S:g} s; see {self._folder.gateway_log}")
            time.sleep(POLL_S)

    def _command(self) -> list[str]:
        settings, folder = self._settings, self._folder
        command = [sys.executable, str(REPOSITORY / "agent" / "app.py"), "--model", str(folder.live), "--reload", "--explore"]
        command += ["--record", str(folder.decisions), "--scenario", settings.scenario, "--seed", str(settings.seed)]
        command += ["--servers", ",".join(settings.servers)] if settings.servers else []
        command += [] if self._control_share is None else ["--control-share", str(self._control_share)]
        return [*command, "--port", str(self._port)]

    def _answers(self) -> bool:
        self._check()
        try:
            # Only the one that we started: another program on that port keeps ours from starting, which the check finds.
            urllib3.request("GET", f"{self.url}/healthz", timeout=1.0, retries=False)
        except urllib3.exceptions.HTTPError:
            return False
        return holder(self._folder.decisions) is not None

    def _check(self) -> None:
        if self._process is None:
            if holder(self._folder.decisions) is None:
                raise GatewayError("the gateway has ended; go on with --resume")
        elif (code := self._process.poll()) is not None:
            self._process = None
            raise GatewayError(f"the gateway ended with exit code {code}: {_last_line(self._folder.gateway_log)}")

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _locust(self) -> str:
        words = ["python -m locust -f load/locustfile.py --headless -t 10m"]
        words += [f"--scenario {self._settings.scenario}"] if self._settings.scenario != DEFAULT_SCENARIO else []
        words += [f"--targets {self.url}"] if self._port != DEFAULT_PORT else []
        return " ".join(words)


@contextmanager
def low_priority() -> Iterator[None]:
    """From now on the gateway comes first. SIGTERM becomes an orderly end: the gateway must not be left behind by accident."""
    os.nice(NICENESS)
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_words(given: Sequence[tuple[str, bool]], why: str) -> None:
    """Raises UsageError for the first option that is given and makes no sense `why`."""
    for option, present in given:
        if present:
            raise UsageError(f"{option} means nothing {why}; leave it out")


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1].removeprefix('error: ')}; see {path}" if lines else f"it said nothing in {path}"

"""The part of a run that one process plays: a worker, or the only process there is."""

import time
from typing import Any

import gevent
from closed_loop import ClosedLoop
from locust.env import Environment
from locust.runners import WorkerRunner
from open_loop import OpenLoop
from settings import Settings
from users import user_classes

HELLO, BEGIN, STOP, TALLY = "trimtab_hello", "trimtab_begin", "trimtab_stop", "trimtab_tally"  # messages between master and workers


class RequestFailed(Exception):  # noqa: N818 -- what Locust shows in its own failure table
    """A request that was not answered with 200."""


class Performer:
    """Follows the master's messages, and sends it the counts: with each of Locust's reports, and once more at the end."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.loop: OpenLoop | ClosedLoop | None = None
        self._run = 0
        runner = environment.runner
        runner.register_message(BEGIN, self._on_begin)
        runner.register_message(STOP, self._on_stop, concurrent=isinstance(runner, WorkerRunner))  # it waits; messages must go on
        environment.events.report_to_master.add_listener(self._on_report)
        if isinstance(runner, WorkerRunner):
            runner.send_message(HELLO)

    def _on_begin(self, environment: Environment, msg: Any, **_: Any) -> None:
        """Users come after this message: their classes are made here."""
        message = msg.data
        settings = Settings.from_message(message["settings"])
        # The master says when by the clock on the wall; from here on only this machine's steady clock counts.
        started_s = time.monotonic() + message["start_at"] - time.time()
        environment.user_classes = user_classes(settings, self)
        made = OpenLoop if settings.loop == "open" else ClosedLoop
        self._run = message["run"]
        self.loop = made(settings, message["index"], message["workers"], started_s, self._announce)
        self.loop.start()
        gevent.spawn(self._tell_the_end, self.loop, self._run)

    def _on_stop(self, environment: Environment, msg: Any, **_: Any) -> None:
        if self.loop is not None:
            self.loop.stop()

    def _on_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        if self.loop is not None:
            data[TALLY] = {"run": self._run, "tally": self.loop.tally.to_message()}

    def _tell_the_end(self, loop: OpenLoop | ClosedLoop, run: int) -> None:
        loop.finished.wait()
        self.environment.runner.send_message(TALLY, {"run": run, "tally": loop.tally.to_message()})

    def _announce(self, path: str, outcome: str, latency_s: float) -> None:
        """For Locust's own tables and exit code."""
        self.environment.events.request.fire(
            request_type="GET",
            name=path,
            response_time=latency_s * 1000,
            response_length=0,
            exception=None if outcome == "served" else RequestFailed(outcome),
            context={},
        )

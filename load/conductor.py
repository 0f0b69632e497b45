"""The side that decides: the master, or the only process. Starts a run for all workers at one moment and puts their counts together."""

import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import load_report
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner
from performer import BEGIN, HELLO, STOP, TALLY
from product import TrimtabError
from schedule import Schedule, draw_schedule
from settings import Settings, read_settings
from tally import Tally, merged

LEAD_S = 1.0  # between the message and the first moment of the schedule, so that every worker has drawn its part by then
_GRACE_S = 5.0
_HELLO_TIMEOUT_S = 5.0
_POLL_S = 0.05
_LOCAL = "local"


@dataclass(slots=True)
class Run:
    """One run: who takes part, what they have told, and who has told the end."""

    number: int
    settings: Settings
    schedule: Schedule | None  # None in a closed loop
    nodes: list[str]
    tallies: dict[str, Tally] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    late: int = 0  # workers that came when it had begun


class Conductor:
    """Listens to Locust's events; one run from a test_start to its test_stop."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.run: Run | None = None
        self._runs = 0
        self._able = {_LOCAL}
        environment.runner.register_message(HELLO, self._on_hello)
        environment.runner.register_message(TALLY, self._on_tally)
        environment.events.worker_report.add_listener(self._on_worker_report)
        environment.events.test_start.add_listener(self._on_start)
        environment.events.test_stopping.add_listener(self._on_stopping)
        environment.events.test_stop.add_listener(self._on_stop)

    @property
    def workers(self) -> int:
        """How many processes take part, or would now."""
        return len(self.run.nodes if self.run else self._connected())

    @property
    def finished(self) -> bool:
        """Whether a run is on of which every process that still lives has told the end."""
        return self.run is not None and not self._awaited(self.run)

    def _connected(self) -> list[str]:
        runner = self.environment.runner
        if not isinstance(runner, MasterRunner):
            return [_LOCAL]
        return [one.id for one in (*runner.clients.ready, *runner.clients.running, *runner.clients.spawning)]

    def _listening(self) -> list[str]:
        """Locust calls a worker ready a moment before its locustfile can listen; a message would be lost, so wait for its own word."""
        deadline_s = time.monotonic() + _HELLO_TIMEOUT_S
        while not set(self._connected()) <= self._able and time.monotonic() < deadline_s:
            gevent.sleep(_POLL_S)
        return [node for node in self._connected() if node in self._able]

    def _awaited(self, run: Run) -> list[str]:
        runner = self.environment.runner
        silent = [node for node in run.nodes if node not in run.ended]
        if not isinstance(runner, MasterRunner):
            return silent
        return [node for node in silent if node in runner.clients and runner.clients[node].state != STATE_MISSING]

    def _on_start(self, environment: Environment, **_: Any) -> None:
        try:
            settings = read_settings(environment.parsed_options)
        except TrimtabError as error:  # options of the web UI; those of the command line were checked before
            self._fail(error)
            gevent.spawn(environment.runner.stop)
            return
        # As the workers will have it: a number that went through a message may differ in the last bit.
        settings = Settings.from_message(settings.to_message())
        schedule = draw_schedule(settings) if settings.loop == "open" else None
        self._runs += 1
        self.run = Run(self._runs, settings, schedule, self._listening())
        start_at = time.time() + (LEAD_S if schedule else 0.0)
        common = {"run": self._runs, "settings": settings.to_message(), "workers": len(self.run.nodes), "start_at": start_at}
        for index, node in enumerate(self.run.nodes):
            environment.runner.send_message(BEGIN, common | {"index": index}, node)

    def _on_hello(self, environment: Environment, msg: Any, **_: Any) -> None:
        self._able.add(msg.node_id)
        if self.run is not None and msg.node_id not in self.run.nodes:
            self.run.late += 1

    def _on_worker_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        if TALLY in data:
            self._keep(client_id, data[TALLY])

    def _on_tally(self, environment: Environment, msg: Any, **_: Any) -> None:
        if self._keep(msg.node_id, msg.data):
            self.run.ended.add(msg.node_id)

    def _keep(self, node: str, told: dict[str, Any]) -> bool:
        """Counts are since the start of the run, so each message replaces the one before. Those of an earlier run are late: dropped."""
        run = self.run
        if run is None or told["run"] != run.number or node not in run.nodes or node in run.ended:
            return False
        run.tallies[node] = Tally.from_message(told["tally"])
        return True

    def _on_stopping(self, environment: Environment, **_: Any) -> None:
        """Ends the run everywhere, and waits for the last counts: at most until the last request has timed out."""
        if self.run is None:
            return
        if self._awaited(self.run):
            environment.runner.send_message(STOP)
        deadline_s = time.monotonic() + self.run.settings.http_timeout_s + _GRACE_S
        while self._awaited(self.run) and time.monotonic() < deadline_s:
            gevent.sleep(_POLL_S)

    def _on_stop(self, environment: Environment, **_: Any) -> None:
        run, self.run = self.run, None
        if run is None:
            return
        figures = _figures(run)
        sys.stdout.write(f"\n{load_report.text(figures)}\n\n")
        sys.stdout.flush()
        options = environment.parsed_options
        if options.report:
            try:
                load_report.write(Path(options.report), figures, overwrite=options.report_overwrite)
            except TrimtabError as error:
                self._fail(error)

    def _fail(self, error: TrimtabError) -> None:
        logging.getLogger(__name__).error("error: %s", error)
        self.environment.process_exit_code = error.exit_code


def _figures(run: Run) -> dict[str, Any]:
    tally = merged(run.tallies.values())
    offered = None
    if run.schedule is not None:
        # Stopped early, by a person or since workers died: what was due by then was offered.
        span_s = min(tally.span_s or run.schedule.span_s, run.schedule.span_s)
        offered = load_report.Offered(run.schedule.due_before(span_s), span_s)
    return load_report.document(run.settings, tally, offered, workers=len(run.nodes), reported=len(run.ended), late=run.late)

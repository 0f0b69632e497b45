"""How a command lets itself be watched: its options, its page of metrics, and what it says when the port is taken."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from prometheus_client.registry import Collector

from trimtab.cli import options
from trimtab.dqn.errors import LearningError
from trimtab.experiments.yardsticks import Yardsticks
from trimtab.telemetry.counts import TallyCollector
from trimtab.telemetry.exporter import Exporter, PortTakenError, default_addresses
from trimtab.telemetry.pages import Row, TrainingPage

if TYPE_CHECKING:
    from trimtab.experiments.session import RunSession

TRAINING_PORT: Final = 9101  # prometheus/prometheus.yml names both
EVALUATION_PORT: Final = 9102
LINGER_S: Final = 8.0  # after learning broke down: a scrape and an evaluation of rules, so that an alert says why the run ended


def add_options(parser: argparse.ArgumentParser, port: int) -> None:
    """--metrics-port and --metrics-bind."""
    text = f"page for Prometheus while it runs (default {port} where free; 0: none)"
    parser.add_argument("--metrics-port", type=options.count, default=None, metavar="N", help=text)
    parser.add_argument("--metrics-bind", default=None, metavar="ADDRESS", help="of that page (default loopback and Docker's bridge)")


@contextmanager
def page(args: argparse.Namespace, default_port: int, collectors: Sequence[Collector]) -> Iterator[bool]:
    """Serve the collectors while the block runs; yields whether anybody can look.

    A port that the user named must be free; where the default one is taken, the run goes on unwatched and says so.
    """
    exporter = Exporter(collectors)
    port = default_port if args.metrics_port is None else args.metrics_port
    addresses = default_addresses() if args.metrics_bind is None else (args.metrics_bind,)
    try:
        if port:
            exporter.start(port, addresses)
    except PortTakenError as error:
        if args.metrics_port is not None or args.metrics_bind is not None:
            raise
        print(f"note: {error} with --metrics-port; Prometheus does not see this run", file=sys.stderr, flush=True)
        port = 0
    try:
        yield bool(port)
    finally:
        exporter.close()


class TrainingWatch:
    """The page of one training session, and the yardsticks measured for it."""

    def __init__(self, session: "RunSession") -> None:
        settings, problem = session.settings, session.problem
        about = {"problem": problem.id, "scenario": settings.scenario, "backend": settings.backend, "seed": str(settings.seed)}
        self._session = session
        self._page = TrainingPage(session.agent, problem.training_metrics, session.total, about, time.time)
        self._yardsticks = Yardsticks(problem, settings.seed, session.trainer.tallies)
        self.collectors: tuple[Collector, ...] = (self._page, TallyCollector(session.trainer.tallies))

    def batches(self, *, watched: bool) -> Iterator[list[Row]]:
        """The session's batches of rows, shown on the page as they pass."""
        try:
            for rows in self._session.run():
                self._page.add(rows)
                yield list(rows)
                if watched:
                    self._measure(int(str(rows[-1]["episode_length"])))
        except LearningError:
            self._page.diverged()
            time.sleep(LINGER_S if watched else 0.0)
            raise

    def _measure(self, decisions: int) -> None:
        if self._session.trainer.world is not None:
            for policy, mean_latency_ms in self._yardsticks.measure(self._session.trainer.world, decisions):
                self._page.yardstick(policy, mean_latency_ms)

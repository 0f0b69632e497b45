"""One gateway put together from its parts, and run until a signal ends it."""

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector

from trimtab.core.scenario import Scenario
from trimtab.gateway.candidates import Canary
from trimtab.gateway.classes import ClassMatcher
from trimtab.gateway.control import create_control, own_paths
from trimtab.gateway.decider_metrics import DeciderCollector, OnTrial
from trimtab.gateway.deciders import Deciding
from trimtab.gateway.decision_times import TimedDecider
from trimtab.gateway.forward import Balancer
from trimtab.gateway.guard import Decider
from trimtab.gateway.health import HealthBook, HealthConfig
from trimtab.gateway.limits import Limits, Timeouts
from trimtab.gateway.models import ModelFiles
from trimtab.gateway.on_loop import LoopState, ask
from trimtab.gateway.retries import RetryBudget
from trimtab.gateway.router import Observer, Router
from trimtab.gateway.scores import Scores
from trimtab.gateway.shell import Gateway
from trimtab.gateway.snapshot import Watched, gauges, state_document
from trimtab.gateway.telemetry import GatewayCollector, GatewayCounts, Gauges
from trimtab.gateway.trials import trial_gauges
from trimtab.gateway.window import Window
from trimtab.gateway.wsgi import WsgiServer

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def build_balancer(
    scenario: Scenario,
    decider: Decider,
    matcher: ClassMatcher,
    seed: int,
    limits: Limits,
    canary: Canary | None = None,
    observer: Observer | None = None,
    *,
    health: HealthConfig | None = None,
) -> Balancer:
    """Router, health, budget, counts, window and scores of one gateway, on the monotonic clock; a `canary` of the decider's is judged.

    The router's decider is the given one with a clock around it, so that no gateway decides without its decisions being timed.
    """
    servers, classes, now_s = len(scenario.servers), len(scenario.classes), time.monotonic()
    counts = GatewayCounts(scenario.server_ids, scenario.class_names, decider.names)
    router = Router(scenario, TimedDecider(decider, counts.decision_times), limits.in_flight, observer)
    return Balancer(
        router=router,
        health=HealthBook(servers, health or HealthConfig(), on_return=router.forget),
        budget=RetryBudget(),
        matcher=matcher,
        counts=counts,
        window=Window(servers, classes, now_s),
        scores=Scores(decider.names, scenario.fleet_service_s(), now_s, canary),
        clock=time.monotonic,
        generator=np.random.default_rng(seed),
    )


async def run(
    scenario: Scenario,
    urls: Sequence[str],
    balancer: Balancer,
    deciding: Deciding,
    host: str,
    port: int,
    limits: Limits,
    timeouts: Timeouts,
    on_ready: Callable[[int], None],
) -> signal.Signals:
    """Serve until SIGTERM or SIGINT, drain, and return which of them it was. `on_ready` is told the port once it listens.

    SIGHUP has the model files of `deciding` loaded anew; where there are none it means what it meant before.

    While it drains, signals mean what they meant before: a second Ctrl-C does not wait. Raises UsageError where the port cannot be had.
    """
    gateway = Gateway(balancer, urls, limits, timeouts)
    loop = asyncio.get_running_loop()
    app = create_control(*_sources(scenario, gateway, deciding, loop))
    control = WsgiServer(app, own_paths(app))
    gateway.reserved = control.reserved
    try:
        with deciding.files.watched(loop.call_soon_threadsafe):
            await gateway.start(host, port)
            _settle()
            try:
                with _signalled() as stopped, _reloads(deciding.files, loop):
                    on_ready(gateway.port)
                    number = await stopped
            finally:
                await gateway.stop()
    finally:
        control.close()
    return number


def _settle() -> None:
    """Take what stays for ever, libraries and compiled kernels, out of the garbage collector's sight.

    A full collection walks through all of it, tens of milliseconds during which no request is served.
    """
    gc.collect()
    gc.freeze()


def _sources(
    scenario: Scenario, gateway: Gateway, deciding: Deciding, loop: asyncio.AbstractEventLoop
) -> tuple[LoopState, CollectorRegistry]:
    """What the control API reads: the state, and the metrics."""
    balancer = gateway.balancer
    watched = Watched(
        scenario=scenario,
        urls=gateway.urls,
        router=balancer.router,
        health=balancer.health,
        window=balancer.window,
        counts=balancer.counts,
        scores=balancer.scores,
        deciding=deciding,
        started_s=balancer.clock(),
    )

    def document() -> dict[str, Any]:
        return state_document(watched, balancer.clock(), draining=gateway.draining)

    def present() -> Gauges:
        return gauges(watched, balancer.clock(), draining=gateway.draining)

    def on_trial() -> OnTrial:
        return trial_gauges(deciding, balancer.clock())

    registry = CollectorRegistry()
    registry.register(GatewayCollector(balancer.counts, lambda: ask(loop, present)))
    registry.register(DeciderCollector(balancer.scores, lambda: ask(loop, on_trial)))
    ProcessCollector(registry=registry)
    return LoopState(loop, document), registry


@contextmanager
def _reloads(files: ModelFiles, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """SIGHUP asks for the files. Under nohup too, which has it ignored: here it ends nothing."""
    if not files.files or not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda _number, _frame: loop.call_soon_threadsafe(files.ask))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def _signalled() -> Iterator["asyncio.Future[signal.Signals]"]:
    """A future of the first signal. One that was ignored at the start, as shells do for background jobs, stays ignored."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[signal.Signals] = loop.create_future()

    def tell(number: int) -> None:
        if not stopped.done():
            stopped.set_result(signal.Signals(number))

    before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, lambda caught, _frame: loop.call_soon_threadsafe(tell, caught))
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

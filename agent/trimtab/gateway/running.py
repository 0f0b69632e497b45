"""One gateway put together from its parts, and run until a signal ends it."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector

from trimtab.core.scenario import Scenario
from trimtab.gateway.classes import ClassMatcher
from trimtab.gateway.control import create_control
from trimtab.gateway.forward import Balancer
from trimtab.gateway.guard import Decider
from trimtab.gateway.health import HealthBook
from trimtab.gateway.limits import Limits, Timeouts
from trimtab.gateway.on_loop import LoopState, ask
from trimtab.gateway.retries import RetryBudget
from trimtab.gateway.router import Router
from trimtab.gateway.shell import Gateway
from trimtab.gateway.snapshot import Watched, gauges, state_document
from trimtab.gateway.telemetry import GatewayCollector, GatewayCounts, Gauges
from trimtab.gateway.window import Window
from trimtab.gateway.wsgi import WsgiServer

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def build_balancer(scenario: Scenario, decider: Decider, matcher: ClassMatcher, seed: int, limits: Limits) -> Balancer:
    """Router, health, budget, counts and window of one gateway, on the monotonic clock."""
    servers, classes = len(scenario.servers), len(scenario.classes)
    deciders = [decider.primary] if decider.fallback is None else [decider.primary, decider.fallback]
    router = Router(scenario, decider, limits.in_flight)
    return Balancer(
        router=router,
        health=HealthBook(servers, on_return=router.forget),
        budget=RetryBudget(),
        matcher=matcher,
        counts=GatewayCounts(scenario.server_ids, scenario.class_names, deciders),
        window=Window(servers, classes, time.monotonic()),
        clock=time.monotonic,
        generator=np.random.default_rng(seed),
    )


async def run(
    scenario: Scenario, urls: Sequence[str], balancer: Balancer, host: str, port: int, limits: Limits, on_ready: Callable[[int], None]
) -> signal.Signals:
    """Serve until SIGTERM or SIGINT, drain, and return which of them it was. `on_ready` is told the port once it listens.

    While it drains, signals mean what they meant before: a second Ctrl-C does not wait. Raises UsageError where the port cannot be had.
    """
    gateway = Gateway(balancer, urls, limits, Timeouts())
    control = WsgiServer(create_control(*_sources(scenario, gateway, asyncio.get_running_loop())))
    gateway.reserved = control.reserved
    try:
        await gateway.start(host, port)
        try:
            with _signalled() as stopped:
                on_ready(gateway.port)
                number = await stopped
        finally:
            await gateway.stop()
    finally:
        control.close()
    return number


def _sources(scenario: Scenario, gateway: Gateway, loop: asyncio.AbstractEventLoop) -> tuple[LoopState, CollectorRegistry]:
    """What the control API reads: the state, and the metrics."""
    balancer = gateway.balancer
    watched = Watched(
        scenario, gateway.urls, balancer.router, balancer.health, balancer.window, balancer.counts, started_s=balancer.clock()
    )

    def document() -> dict[str, Any]:
        return state_document(watched, balancer.clock(), draining=gateway.draining)

    def present() -> Gauges:
        return gauges(watched, balancer.clock(), draining=gateway.draining)

    registry = CollectorRegistry()
    registry.register(GatewayCollector(balancer.counts, lambda: ask(loop, present)))
    ProcessCollector(registry=registry)
    return LoopState(loop, document), registry


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

"""Measure live servers and write down the scenario that they really are.

Each server gets requests of known work: one class at a time, first one by one, then as many at once as it has slots. What the
server reports as service time gives speed and contention; what the client sees beyond it gives the overhead of network and stack.
"""

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from trimtab.core.request_log import SERVED
from trimtab.core.scenario import Scenario, Server
from trimtab.errors import FleetError
from trimtab.fleets.client import ServerClient

ROUNDS: Final = 8  # requests of each class at each level and slot: the median of eight forgets one hiccup of the machine


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured request."""

    request_class: str
    concurrency: int
    service_s: float
    overhead_s: float  # seen by the client beyond queue and service


def measure(scenario: Scenario, client: ServerClient, rounds: int = ROUNDS) -> Scenario:
    """The scenario with measured speeds, contention and overhead. Servers are measured side by side, load is light.

    It keeps its id: it is the same scenario, known better, and results of its twin stand beside results of the live fleet.

    Raises FleetError where a server does not serve what it is asked.
    """
    with ThreadPoolExecutor(len(scenario.servers)) as pool:
        runs = list(pool.map(lambda s: _measure_server(scenario, client, s, rounds), range(len(scenario.servers))))
    servers = tuple(_fitted(scenario, server, samples) for server, samples in zip(scenario.servers, runs, strict=True))
    overhead_s = statistics.median(one.overhead_s for samples in runs for one in samples)
    return replace(scenario, servers=servers, overhead_s=max(0.0, overhead_s))


def fit_speed(work_s: float, service_s: Sequence[float]) -> float:
    """Speed from services of known work: work / median service time."""
    return work_s / statistics.median(service_s)


def fit_contention(slots: int, alone_s: Sequence[float], together_s: Sequence[float]) -> float:
    """Contention per busy slot beyond the first, from service times alone and with all slots busy; 0 for one slot."""
    if slots < 2 or not alone_s or not together_s:
        return 0.0
    slowdown = statistics.median(together_s) / statistics.median(alone_s) - 1.0
    # Below half a per cent a slot it is timer noise, and a contention of noise would bend every service time.
    return slowdown / (slots - 1) if slowdown / (slots - 1) > 0.005 else 0.0


def _measure_server(scenario: Scenario, client: ServerClient, server: int, rounds: int) -> list[Sample]:
    slots = scenario.servers[server].slots
    levels = sorted({1, slots})
    return [
        sample for one in scenario.classes for level in levels for sample in _measure_level(client, server, one.name, level, rounds * level)
    ]


def _measure_level(client: ServerClient, server: int, request_class: str, concurrency: int, count: int) -> list[Sample]:
    with ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(lambda _: _one(client, server, request_class, concurrency), range(count)))


def _one(client: ServerClient, server: int, request_class: str, concurrency: int) -> Sample:
    started = time.monotonic()
    answer = client.send(server, f"/job/{request_class}", {"X-Work": "1"})
    if answer.status != SERVED or answer.service_s <= 0.0:
        found = f"{client.urls[server]} did not serve /job/{request_class} during calibration"
        raise FleetError(f"{found}; the scenario's classes must be those of the servers, and no fault may be switched on")
    elapsed = answer.finished_s - started
    return Sample(request_class, concurrency, answer.service_s, elapsed - answer.service_s - answer.queue_s)


def _fitted(scenario: Scenario, server: Server, samples: Sequence[Sample]) -> Server:
    work_s = {one.name: one.work_s for one in scenario.classes}
    relative = [(one.concurrency, one.service_s / work_s[one.request_class] * server.speed[one.request_class]) for one in samples]
    alone = [value for concurrency, value in relative if concurrency == 1]
    together = [value for concurrency, value in relative if concurrency == server.slots]
    speed = {
        name: fit_speed(work_s[name], [one.service_s for one in samples if one.request_class == name and one.concurrency == 1])
        for name in work_s
    }
    return replace(server, speed=speed, contention=fit_contention(server.slots, alone, together))

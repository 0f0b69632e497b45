"""Serving one request: fault, slot, work. No HTTP here."""

import random
import time
from typing import NamedTuple

import work
from faults import FaultSet
from gate import CrashedError, Gate, QueueFullError, RefusedError, Ticket
from recent import RecentTimes
from server_profile import Profile


class Answer(NamedTuple):
    """What became of a request: status as in HTTP, times in seconds."""

    status: int
    reason: str
    queue_s: float = 0.0
    work_s: float = 0.0


class Service:
    """One server: its slots, its faults, its generator (seeded by its id, so a restart repeats the same draws)."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.gate = Gate(profile.slots, profile.queue_limit, len(profile.classes))
        self.faults = FaultSet(self.gate)
        self.recent = RecentTimes()
        self._generator = random.Random(profile.id)
        self._mean_service_s = [one.work_s / profile.speed[one.name] for one in profile.classes]  # [K]
        self._blocks_per_s = work.calibrate() if profile.work == "cpu" else 0.0

    def utilization(self) -> tuple[float, float]:
        """Live CPU and memory cost of the requests in slots, as parts of the server's capacities."""
        cpu = memory = 0.0
        for one, number in zip(self.profile.classes, self.gate.serving_by_kind, strict=True):
            cpu += number * one.cpu
            memory += number * one.memory
        return cpu / self.profile.cpu, memory / self.profile.memory

    def draw(self, kind: int) -> float:
        """Work for a request that brought none, in units of the class mean."""
        one = self.profile.classes[kind]
        return work.draw_work(one.distribution, one.spread, self._generator)

    def serve(self, kind: int, units: float) -> Answer:
        """Waits, works and says how it went; never raises for a fault or a full queue."""
        arrived_s = time.monotonic()
        try:
            return self._serve(kind, units, arrived_s)
        except QueueFullError:
            return Answer(503, "queue full")
        except RefusedError:
            return Answer(503, "crashed")
        except CrashedError:
            return Answer(500, "crashed", time.monotonic() - arrived_s)

    def _serve(self, kind: int, units: float, arrived_s: float) -> Answer:
        fail_after_s = self.faults.fail_after_s(arrived_s)
        if fail_after_s is not None:
            self.gate.linger(fail_after_s)
            return Answer(500, "fail_fast fault")
        found = self.gate.in_flight
        ticket = self.gate.enter(kind)
        try:
            self._work(ticket, units)
        finally:
            self.gate.leave(ticket)
        ended_s = time.monotonic()
        share = self.faults.error_share(ended_s)
        failed = share > 0 and self._generator.random() < share
        if not failed:
            self.recent.add(found, ended_s - arrived_s)
        status, reason = (500, "error_share fault") if failed else (200, "served")
        return Answer(status, reason, max(ticket.granted_s - arrived_s, 0.0), ended_s - ticket.granted_s)

    def _work(self, ticket: Ticket, units: float) -> None:
        service_s = self._mean_service_s[ticket.kind] * units * self._stretch(ticket)
        if self.profile.work == "sleep":
            self.gate.hold(ticket, service_s, ticket.granted_s)
        else:
            work.burn(max(1, round(service_s * self._blocks_per_s)), lambda: self.gate.checkpoint(ticket))

    def _stretch(self, ticket: Ticket) -> float:
        """Contention and slowdown, both fixed when the service starts."""
        return (1.0 + self.profile.contention * (ticket.busy - 1)) * self.faults.slowdown(ticket.granted_s)

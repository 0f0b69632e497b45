"""What a scenario is: request classes, servers, traffic and faults as frozen records, in seconds.

Files speak milliseconds (`work_ms`), records speak seconds (`work_s`); `core/scenario_text.py` turns one into the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

Distribution = Literal["lognormal", "exponential", "pareto", "fixed"]
WorkKind = Literal["sleep", "cpu"]
FaultKind = Literal["slowdown", "fail_fast", "error_share", "freeze", "crash", "leave", "join"]
TrafficKind = Literal["poisson", "mmpp", "sinusoid", "flash", "ramp", "trace"]


@dataclass(frozen=True, slots=True)
class Match:
    """How the gateway tells that a request belongs to a class. Exactly one of `prefix`, `header` (with `value`) and `regex` is set."""

    prefix: str | None = None  # of the path, up to a segment boundary
    header: str | None = None  # the name of one, whose value must equal `value`
    value: str | None = None
    regex: str | None = None  # found anywhere in the path


@dataclass(frozen=True, slots=True)
class RequestClass:
    """An endpoint family with its own cost. `work_s` is the mean service time at speed 1."""

    name: str
    share: float
    work_s: float
    distribution: Distribution = "lognormal"
    spread: float = 1.0  # coefficient of variation of the work
    cpu: float = 10.0  # capacity units held while in a slot; observed, never limiting
    memory: float = 10.0
    match: Match | None = None  # gateway only; None: the path prefix /job/<name>


@dataclass(frozen=True, slots=True)
class Server:
    """One server: `slots` workers behind a first-in-first-out queue; service time = work / speed[class]."""

    id: str
    slots: int
    speed: Mapping[str, float]
    queue_limit: int = 64  # waiting requests, those in slots not counted
    contention: float = 0.0  # service time x (1 + contention x (busy slots - 1))
    cpu: float = 1000.0
    memory: float = 1000.0
    work: WorkKind = "sleep"
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to one server from `start_s` (counted from the start of the warm-up) until `end_s`."""

    server: str
    kind: FaultKind
    start_s: float
    end_s: float = float("inf")
    factor: float = 1.0  # slowdown only
    after_s: float = 0.0  # fail_fast only
    share: float = 0.0  # error_share only


@dataclass(frozen=True, slots=True)
class Traffic:
    """Arrivals: exactly one of `rate_rps` and `load` is set; the other fields belong to one kind each."""

    kind: TrafficKind = "poisson"
    rate_rps: float | None = None
    load: float | None = None
    rates_rps: tuple[float, ...] = ()  # mmpp: rates of the states (in requests/s)
    loads: tuple[float, ...] = ()  # mmpp: the same as multiples of capacity
    dwell_s: float = 10.0  # mmpp: mean time in a state
    amplitude: float = 0.5  # sinusoid
    period_s: float = 60.0  # sinusoid
    factor: float = 5.0  # flash: peak rate / base rate
    start_s: float = 5.0  # flash
    rise_s: float = 10.0  # flash
    decay_s: float = 10.0  # flash: time constant of the fall
    steps: tuple[float, ...] = ()  # ramp: multiples of the base rate
    step_s: float = 10.0  # ramp
    file: str | None = None  # trace: a CSV file, or the name of a packaged trace
    column: str | None = None  # trace
    interval_s: float = 1.0  # trace: seconds a row


@dataclass(frozen=True, slots=True)
class Scenario:
    """Classes, servers, traffic, faults and length of one experiment. Index of a server = action."""

    id: str
    classes: tuple[RequestClass, ...]
    servers: tuple[Server, ...]
    traffic: Traffic
    requests: int = 2000
    warmup: int = 0
    slo_s: float = 0.2
    overhead_s: float = 0.0
    faults: tuple[Fault, ...] = field(default=())

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.classes)

    @property
    def server_ids(self) -> tuple[str, ...]:
        return tuple(one.id for one in self.servers)

    def shares(self) -> F64:
        """Share of each class among arrivals.  # [K]"""
        return np.array([one.share for one in self.classes])

    def mean_service_s(self) -> F64:
        """Mean service time of each server and class, contention and faults aside.  # [S, K]"""
        return np.array([[k.work_s / s.speed[k.name] for k in self.classes] for s in self.servers])

    def service_rate_rps(self) -> F64:
        """Requests a second each server completes under the class mix: slots / E[work / speed].  # [S]"""
        slots = np.array([one.slots for one in self.servers], dtype=np.float64)
        return slots / (self.mean_service_s() @ self.shares())

    def capacity_rps(self) -> float:
        """What a class-blind balancer can use: the sum of `service_rate_rps`."""
        return float(self.service_rate_rps().sum())

    def rate_rps(self) -> float:
        """Mean arrival rate, from `rate_rps` or `load` x capacity; an mmpp without either takes its states' mean."""
        if self.traffic.rate_rps is not None:
            return self.traffic.rate_rps
        if self.traffic.load is not None:
            return self.traffic.load * self.capacity_rps()
        if self.traffic.rates_rps:
            return float(np.mean(self.traffic.rates_rps))
        return float(np.mean(self.traffic.loads)) * self.capacity_rps()

    def fleet_service_s(self) -> float:
        """The fleet's own mean service time, each server weighted by its service rate: the unit of the reward."""
        rate = self.service_rate_rps()
        return float((rate * (self.mean_service_s() @ self.shares())).sum() / rate.sum())

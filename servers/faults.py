"""Faults as data: what may go wrong with a server, for how long, and what that does to a request.

Slowdown multiplies services that start inside it, overlapping factors multiply; freeze and crash are carried out by the gate.
"""

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gate import FOREVER, Gate

# kind: (key of its number, default, least, most)
KINDS: Mapping[str, tuple[str, float | None, float, float] | None] = {
    "slowdown": ("factor", None, 0.001, 1e6),
    "fail_fast": ("after_ms", 0.5, 0.0, 60_000.0),
    "error_share": ("share", None, 0.0, 1.0),
    "freeze": None,
    "crash": None,
}


class FaultError(ValueError):
    """A fault description that makes no sense; the message is one line."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`value` is the factor, the milliseconds or the share of its kind; `until_s` is monotonic."""

    kind: str
    value: float = 0.0
    until_s: float = FOREVER

    def description(self, now_s: float) -> dict[str, Any]:
        """As JSON: the keys of the POST, and how long it still lasts."""
        parameter = KINDS[self.kind]
        named = {parameter[0]: self.value} if parameter else {}
        rest = {} if self.until_s == FOREVER else {"remaining_s": round(self.until_s - now_s, 3)}
        return {"kind": self.kind, **named, **rest}


def parse_fault(document: Any, now_s: float) -> Fault:
    """The JSON of `POST /faults` as a record. Raises FaultError."""
    if not isinstance(document, dict) or document.get("kind") not in list(KINDS):  # a list: the kind may be unhashable
        raise FaultError(f"a fault is a JSON object whose kind is one of {', '.join(KINDS)}")
    kind, parameter = document["kind"], KINDS[document["kind"]]
    allowed = {"kind", "duration_s"} | ({parameter[0]} if parameter else set())
    if unknown := sorted(set(document) - allowed):
        raise FaultError(f"unknown key {unknown[0]!r} for {kind}; allowed: {', '.join(sorted(allowed))}")
    value = _bounded(document, *parameter) if parameter else 0.0
    if "duration_s" not in document:
        return Fault(kind, value)
    return Fault(kind, value, now_s + _bounded(document, "duration_s", None, 0.0, 86_400.0))


def _bounded(document: Mapping[str, Any], key: str, default: float | None, least: float, most: float) -> float:
    value = document.get(key, default)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:
        raise FaultError(f"{key} = {value!r} is not possible; allowed: a number from {least:g} to {most:g}")
    return float(value)


class FaultSet:
    """The faults of one server. Reading costs nothing while there are none, since every request reads it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._faults: tuple[Fault, ...] = ()
        self._mutex = threading.Lock()

    def active(self, now_s: float) -> tuple[Fault, ...]:
        """Faults that have not ended."""
        return tuple(one for one in self._faults if now_s < one.until_s) if self._faults else ()

    def add(self, fault: Fault) -> None:
        """Starts a fault."""
        with self._mutex:
            self._faults = (*self.active(time.monotonic()), fault)
            if fault.kind == "freeze":
                self._gate.freeze(fault.until_s)
            elif fault.kind == "crash":
                self._gate.crash(fault.until_s)

    def clear(self) -> None:
        """Ends all faults."""
        with self._mutex:
            self._faults = ()
            self._gate.restore()

    def _values(self, kind: str, now_s: float) -> list[float]:
        return [one.value for one in self.active(now_s) if one.kind == kind]

    def slowdown(self, now_s: float) -> float:
        """Factor on a service that starts now: the product of the active factors."""
        return math.prod(self._values("slowdown", now_s)) if self._faults else 1.0

    def fail_after_s(self, now_s: float) -> float | None:
        """How long a request waits for its immediate failure; None without that fault."""
        values = self._values("fail_fast", now_s) if self._faults else []
        return min(values) / 1000 if values else None

    def error_share(self, now_s: float) -> float:
        """Share of requests to fail after their service; independent faults combine."""
        return 1.0 - math.prod(1.0 - share for share in self._values("error_share", now_s)) if self._faults else 0.0

"""How long decisions take, by who made them: tallies that know no clock, and a decider around another one that asks one.

A request waits for all of this, so an increment is one of a Python list: one of an array by index takes several times as long.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from trimtab.core.request_log import I64
from trimtab.gateway.guard import Decider, Wrapping
from trimtab.policies.base import RoutingView

# A decision takes microseconds, and the guard calls one late after 2 ms: most of the edges lie below.
DECISION_EDGES_S: Final = (1e-5, 2e-5, 3e-5, 5e-5, 7.5e-5, 1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.1)


class Took(NamedTuple):
    """The decisions of one decider since the start."""

    counts: I64  # [E + 1] that took up to each of DECISION_EDGES_S, and longer than the last; not cumulative
    total_s: float


@dataclass(slots=True)
class _Tally:
    counts: list[int] = field(default_factory=lambda: [0] * (len(DECISION_EDGES_S) + 1))  # as Took
    total_s: float = 0.0


class DecisionTimes:
    """Kept for the `deciders` by name. Everything only grows, so that another thread may read it without a lock."""

    def __init__(self, deciders: Sequence[str]) -> None:
        self._tallies = {name: _Tally() for name in deciders}

    def took(self, decider: str, duration_s: float) -> None:
        """`decider` has decided. Raises KeyError for one that was not named."""
        tally = self._tallies[decider]
        tally.counts[bisect_left(DECISION_EDGES_S, duration_s)] += 1
        tally.total_s += duration_s

    def read(self) -> Iterator[tuple[str, Took]]:
        """Every decider by name, in the order in which they were named."""
        for name, tally in self._tallies.items():
            yield name, Took(np.array(tally.counts, dtype=np.int64), tally.total_s)


class TimedDecider(Wrapping):
    """A decider whose decisions are timed: with everything in it that a request waits for, such as a model asked in vain, or a shadow.

    `clock` gives monotonic seconds, fine enough for microseconds. Rehearsals and decisions that raise are not counted.
    """

    def __init__(self, decider: Decider, times: DecisionTimes, clock: Callable[[], float] = time.perf_counter) -> None:
        """`times` is told; it has to know all of the decider's `names`."""
        self.inner, self._times, self._clock = decider, times, clock
        self.primary, self.fallback, self.names = decider.primary, decider.fallback, decider.names

    def decide(self, view: RoutingView) -> tuple[int, str]:
        began_s = self._clock()
        server, by = self.inner.decide(view)
        self._times.took(by, self._clock() - began_s)
        return server, by

    def rehearse(self, view: RoutingView) -> None:
        self.inner.rehearse(view)

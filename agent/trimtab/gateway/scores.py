"""How decisions turned out, by who made them: outcomes, latencies, rewards. Pure; times are arguments.

What is measured is the attempt, from the decision to its end: time that a request lost with an earlier server is not held against the
one who chose the next.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from trimtab.core.request_log import F64, FAILED, I64, SERVED, UNMEASURED
from trimtab.core.reward import response_cost
from trimtab.core.tally import LATENCY_EDGES_S
from trimtab.gateway.candidates import Canary
from trimtab.gateway.window import BINS, SLOTS, Ring, bin_of, quantile_s

OUTCOMES: Final = ("served", "failed", "unmeasured")
_PLACE: Final = {SERVED: 0, FAILED: 1, UNMEASURED: 2}


class ScoreTotals(NamedTuple):
    """Sums since the start over D deciders; they only grow, so that another thread may read them without a lock."""

    outcomes: I64  # [D, 3] in the order of OUTCOMES
    latencies: I64  # [D, E + 1] of served attempts, up to each of LATENCY_EDGES_S and beyond; not cumulative
    latency_s: F64  # [D]
    cost: F64  # [D] minus the reward, in mean service times of the fleet; served and failed attempts have one


class Score(NamedTuple):
    """Of one decider, or of all, over the last ten seconds; None where nothing was measured."""

    rate_rps: float  # attempts ended
    reward: float | None  # mean, in mean service times of the fleet: 0 is the best, training's unit
    failed_share: float | None  # of those served or failed
    mean_s: float | None  # latency of those served
    p50_s: float | None  # None where fewer than ten lie beyond
    p95_s: float | None


class Scores:
    """Kept for the `deciders` by name. `unit_s`: the fleet's mean service time, which is what training's rewards are counted in."""

    def __init__(self, deciders: Sequence[str], unit_s: float, now_s: float, canary: Canary | None = None) -> None:
        """`canary` is told how everything ends, and judges itself by it."""
        self.deciders = tuple(dict.fromkeys(deciders))
        self._place = {name: place for place, name in enumerate(self.deciders)}
        self._canary = canary
        many = len(self.deciders)
        self.totals = ScoreTotals(
            np.zeros((many, 3), dtype=np.int64), np.zeros((many, len(LATENCY_EDGES_S) + 1), dtype=np.int64), np.zeros(many), np.zeros(many)
        )
        self._outcomes: I64 = np.zeros((SLOTS, many, 3), dtype=np.int64)
        self._bins: I64 = np.zeros((SLOTS, many, BINS), dtype=np.int64)
        self._latency_s: F64 = np.zeros((SLOTS, many))
        self._cost: F64 = np.zeros((SLOTS, many))
        self._ring = Ring(now_s, self._outcomes, self._bins, self._latency_s, self._cost)
        self._unit_s = unit_s

    def ended(self, decider: str, status: int, latency_s: float, now_s: float) -> None:
        """An attempt that `decider` sent ended SERVED, FAILED or UNMEASURED. Raises KeyError for a decider that was not named."""
        d, slot, outcome = self._place[decider], self._ring.slot(now_s), _PLACE[status]
        self.totals.outcomes[d, outcome] += 1
        self._outcomes[slot, d, outcome] += 1
        if status != UNMEASURED:
            cost = response_cost(latency_s, status, self._unit_s)
            self.totals.cost[d] += cost
            self._cost[slot, d] += cost
        if status == SERVED:
            self.totals.latencies[d, bisect_left(LATENCY_EDGES_S, latency_s)] += 1
            self.totals.latency_s[d] += latency_s
            self._bins[slot, d, bin_of(latency_s)] += 1
            self._latency_s[slot, d] += latency_s
        if self._canary is not None:
            self._canary.ended(decider, status, now_s)

    def read(self, now_s: float) -> tuple[Score, dict[str, Score]]:
        """Of everybody together, and of each decider."""
        self._ring.slot(now_s)
        covered_s = self._ring.covered_s(now_s)
        sums = [array.sum(axis=0) for array in (self._outcomes, self._bins, self._latency_s, self._cost)]
        each = {name: _score(covered_s, *(one[d] for one in sums)) for d, name in enumerate(self.deciders)}
        return _score(covered_s, *(one.sum(axis=0) for one in sums)), each


def _score(covered_s: float, outcomes: I64, bins: I64, latency_s: F64, cost: F64) -> Score:
    served, failed, _ = outcomes.tolist()
    known = served + failed
    return Score(
        rate_rps=int(outcomes.sum()) / covered_s,
        reward=-float(cost) / known if known else None,
        failed_share=failed / known if known else None,
        mean_s=float(latency_s) / served if served else None,
        p50_s=quantile_s(bins, 0.5),
        p95_s=quantile_s(bins, 0.95),
    )

"""A static split: every class has its servers, worked out beforehand from what is known, whatever the queues do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.ledger import service_estimate_s
from trimtab.core.request_log import F64, I32, I64
from trimtab.errors import UsageError
from trimtab.policies import pick
from trimtab.policies.base import RoutingView
from trimtab.policies.load import UNPROVEN_S, truth
from trimtab.policies.pick import U64

TIE_BREAK: Final = 1e-3  # weight of the total work beside the highest utilisation: of equally flat splits the one with least work
SMALLEST_PART: Final = 1e-6  # of the traffic; less is rounding of the solver


def split(mean_service_s: F64, slots: I64, shares: F64) -> F64:
    """Part of all traffic that is class k and goes to server s, so that the busiest server is as idle as can be.  # [S, K]

    The linear programme of Stolyar's and others' static planning problem: least u with sum_k part[s, k] mean[s, k] / slots[s] <= u for
    each server and sum_s part[s, k] = shares[k]. Harrison and Lopez, "Heavy traffic resource pooling in parallel-server systems" (1999).
    """
    from scipy.optimize import linprog  # here: it takes half a second that other policies need not pay

    servers, classes = mean_service_s.shape
    per_slot = mean_service_s / slots[:, None]
    per_slot = per_slot / per_slot.mean()  # seconds would leave the tie-break to the unit
    use = np.zeros((servers, servers * classes + 1))
    for s in range(servers):
        use[s, s * classes : (s + 1) * classes] = per_slot[s]
    use[:, -1] = -1.0
    whole = np.hstack([np.tile(np.eye(classes), servers), np.zeros((classes, 1))])
    cost = np.append(TIE_BREAK * per_slot.ravel(), 1.0)
    found = linprog(cost, A_ub=use, b_ub=np.zeros(servers), A_eq=whole, b_eq=shares, bounds=(0.0, None), method="highs")
    if found.x is None:  # no such programme is infeasible, so the numbers are at fault
        raise UsageError(f"no split for mean service times {mean_service_s.tolist()} and shares {shares.tolist()}: {found.message}")
    part = np.asarray(found.x[:-1], dtype=np.float64).reshape(servers, classes)
    return np.where(part > SMALLEST_PART, part, 0.0)


def learned_means_s(view: RoutingView) -> F64:
    """The mean service times that the ledger has seen, and its guesses.  # [B, S, K]"""
    return service_estimate_s(view.ledger)


def true_means_s(view: RoutingView) -> F64:
    """The true mean service times, for an oracle.  # [B, S, K]"""
    return truth(view).mean_service_s


@dataclass
class ClassSplit:
    """Each class goes to the servers of its split, there to the one with fewest of its own requests in flight for its part.

    `means_s` says how fast the servers are: the truth, as someone who measured the fleet beforehand has it, or what was learned.
    The shares of the classes are counted. The split is solved again when the count has doubled or the members have changed: a
    dozen times in an episode, some milliseconds each, and in between nothing that happens to a server moves it.
    """

    name: str
    means_s: Callable[[RoutingView], F64]  # [B, S, K]
    _seeds: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)
    _draws: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)
    _seen: I64 = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64), repr=False)  # [B, K] requests of each class
    _due: I64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64), repr=False)  # [B] at how many requests to solve again
    _members: pick.Mask = field(default_factory=lambda: np.zeros((0, 0), dtype=np.bool_), repr=False)  # [B, S] of the last solution
    _part: F64 = field(default_factory=lambda: np.zeros((0, 0, 0)), repr=False)  # [B, S, K]

    def reset(self, seeds: I64) -> None:
        self._seeds = seeds.astype(np.uint64)
        self._draws = np.zeros(seeds.size, dtype=np.uint64)
        self._part = np.zeros((seeds.size, 0, 0))

    def select(self, view: RoutingView) -> I64:
        in_flight = view.ledger.in_flight
        if self._part.shape != in_flight.shape:
            self._begin(in_flight.shape)
        self._seen[np.arange(view.now_s.size), view.request_class] += 1
        due = (self._seen.sum(axis=1) >= self._due) | (self._members != view.available).any(axis=1)
        if due.any():
            self._solve(view, np.flatnonzero(due))
        loads = np.empty(view.slots.shape)
        _own_queue(self._part, in_flight, view.in_flight, view.request_class, loads)
        chosen = np.empty(view.now_s.size, dtype=np.int64)
        pick.least(loads, view.available, self._seeds, self._draws, chosen)
        return chosen

    def _begin(self, shape: tuple[int, ...]) -> None:
        batch, servers, classes = shape
        self._part = np.zeros(shape)
        self._seen = np.ones((batch, classes), dtype=np.int64)  # one each, so that a class not seen yet has its servers too
        self._due = np.zeros(batch, dtype=np.int64)
        self._members = np.zeros((batch, servers), dtype=np.bool_)

    def _solve(self, view: RoutingView, fleets: I64) -> None:
        mean_s = self.means_s(view)
        for b in fleets:
            members, seen = view.available[b], self._seen[b]
            self._part[b] = 0.0
            self._part[b, members] = split(mean_s[b, members], view.slots[b, members], seen / seen.sum())
            self._members[b], self._due[b] = members, 2 * seen.sum()


@compiled
def _own_queue(part: F64, in_flight: I64, outstanding: I64, request_class: I32, loads: F64) -> None:
    for b in range(part.shape[0]):
        k = request_class[b]
        for s in range(part.shape[1]):
            own = part[b, s, k]
            loads[b, s] = (in_flight[b, s, k] + 1) / own if own > 0.0 else UNPROVEN_S * (1.0 + outstanding[b, s])

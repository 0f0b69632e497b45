"""Classical policies: a load estimate and a pick rule each."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from trimtab.core.request_log import F64, I64
from trimtab.policies.base import RoutingView
from trimtab.policies.pick import U64, Mask

LoadEstimate = Callable[[RoutingView], F64]
PickRule = Callable[[F64, Mask, U64, U64, I64], None]


@dataclass
class ClassicalPolicy:
    """Estimate every server's load, then pick. Keeps nothing but its count of random draws."""

    name: str
    load: LoadEstimate
    pick: PickRule
    _seeds: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)
    _draws: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)

    def reset(self, seeds: I64) -> None:
        self._seeds = seeds.astype(np.uint64)
        self._draws = np.zeros(seeds.size, dtype=np.uint64)

    def select(self, view: RoutingView) -> I64:
        chosen = np.empty(view.now_s.size, dtype=np.int64)
        self.pick(self.load(view), view.available, self._seeds, self._draws, chosen)
        return chosen


@dataclass
class TurnPolicy:
    """Servers take turns in proportion to a weight (stride scheduling: Waldspurger and Weihl 1995).

    Each server has a pass that rises by 1 / weight per turn; the lowest is next, ties to the lowest index.
    """

    name: str
    weight: Callable[[RoutingView], F64]
    _passes: F64 = field(default_factory=lambda: np.zeros((0, 0)), repr=False)

    def reset(self, seeds: I64) -> None:
        self._passes = np.zeros((seeds.size, 0))

    def select(self, view: RoutingView) -> I64:
        fleets = np.arange(view.now_s.size)
        if self._passes.shape != view.slots.shape:
            self._passes = np.zeros(view.slots.shape)
        waiting = np.where(view.available, self._passes, np.inf)
        # A server that was away keeps pace with the others: with its old pass it would get every request on its return.
        self._passes = np.maximum(self._passes, waiting.min(axis=1, keepdims=True))
        chosen = np.argmin(waiting, axis=1)
        self._passes[fleets, chosen] += 1.0 / self.weight(view)[fleets, chosen]
        return np.asarray(chosen, dtype=np.int64)

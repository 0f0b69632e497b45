"""Local shortest queue (LSQ): join the shortest queue of a local, partly outdated view of the servers."""

from dataclasses import dataclass, field

import numpy as np

from trimtab.core.request_log import F64, I64
from trimtab.policies import pick
from trimtab.policies.base import RoutingView
from trimtab.policies.pick import U64


@dataclass
class LocalShortestQueue:
    """LSQ-Sample (Vargaftik, Keslassy and Orda 2020, "LSQ: Load Balancing in Large-Scale Heterogeneous Systems with Multiple Dispatchers").

    The dispatcher keeps its own count of every queue: before each request it asks `samples` random servers and corrects their
    counts, then sends the request to the shortest (ties at random) and adds it there. It sees no completion by itself.

    With one balancer a server's queue is the balancer's own count of requests in flight, so that is the answer and asking costs
    nothing; for the same reason `least-outstanding` is this policy with every server asked. What stands here is the price of a stale view.
    """

    name: str
    samples: int = 1
    _seeds: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)
    _draws: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)
    _length: F64 = field(default_factory=lambda: np.zeros((0, 0)), repr=False)

    def reset(self, seeds: I64) -> None:
        self._seeds = seeds.astype(np.uint64)
        self._draws = np.zeros(seeds.size, dtype=np.uint64)
        self._length = np.zeros((seeds.size, 0))

    def select(self, view: RoutingView) -> I64:
        if self._length.shape != view.slots.shape:
            self._length = np.zeros(view.slots.shape)
        fleets = np.arange(view.now_s.size)
        server = np.empty(view.now_s.size, dtype=np.int64)
        for _ in range(self.samples):
            pick.any_of_all(self._length, view.available, self._seeds, self._draws, server)
            self._length[fleets, server] = view.in_flight[fleets, server]
        pick.least(self._length, view.available, self._seeds, self._draws, server)
        self._length[fleets, server] += 1.0
        return server

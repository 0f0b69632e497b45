"""Envoy's LEAST_REQUEST balancer, for equal and for unequal weights.

Read in Envoy's documentation (load_balancing_policies.least_request.v3) and its source (least_request_lb.cc, load_balancer_impl.cc,
edf_scheduler.h): with equal weights two hosts are drawn with replacement and the one with fewer active requests is taken, the first
on a tie; with unequal ones an earliest-deadline-first schedule takes turns, the host's weight being divided by its active requests.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.request_log import F64, I64
from trimtab.policies import load, pick
from trimtab.policies.base import RoutingView
from trimtab.policies.classical import ClassicalPolicy
from trimtab.policies.pick import Mask


@dataclass
class _Schedules:
    """One earliest-deadline-first schedule a fleet."""

    deadline: F64  # [B, S] in turns of weight 1; only its order matters
    entered: I64  # [B, S] when the server was put back: of equal deadlines the earliest entry goes first
    entries: I64  # [B] how many there have been
    members: Mask  # [B, S] whom the schedule holds


def _no_schedules(batch: int, servers: int) -> _Schedules:
    shape = (batch, servers)
    return _Schedules(np.zeros(shape), np.zeros(shape, dtype=np.int64), np.zeros(batch, dtype=np.int64), np.zeros(shape, dtype=np.bool_))


@dataclass
class EnvoyWeighted:
    """LEAST_REQUEST with declared weights: turns in proportion to weight / (active requests + 1), which is active_request_bias 1.

    The weight of a server is looked at when its turn comes and decides when the next one is, so a server that has just become busy
    still gets the turn it was promised. A change of members builds the schedule anew, as in Envoy; a fleet of equal weights is
    served by two draws, as in Envoy. Its random first picks, which keep workers from moving in step, are left out: here is one balancer.
    """

    name: str
    weight: Callable[[RoutingView], F64]  # [B, S], each positive
    _two_draws: ClassicalPolicy = field(init=False, repr=False)
    _schedules: _Schedules = field(default_factory=lambda: _no_schedules(0, 0), repr=False)

    def __post_init__(self) -> None:
        self._two_draws = ClassicalPolicy(self.name, load.outstanding, pick.less_of_two_drawn)

    def reset(self, seeds: I64) -> None:
        self._two_draws.reset(seeds)
        self._schedules = _no_schedules(seeds.size, 0)

    def select(self, view: RoutingView) -> I64:
        chosen = self._two_draws.select(view)  # for all, so that a fleet's chance does not depend on the others' weights
        held = self._schedules
        if held.members.shape != view.slots.shape:
            held = self._schedules = _no_schedules(*view.slots.shape)
        _earliest(self.weight(view), view.in_flight, view.available, held.deadline, held.entered, held.entries, held.members, chosen)
        return chosen


@compiled
def _unequal(weight: F64, available: Mask, b: int) -> bool:
    known = -1.0
    for s in range(weight.shape[1]):
        if available[b, s]:
            if known >= 0.0 and weight[b, s] != known:
                return True
            known = weight[b, s]
    return False


@compiled
def _rebuild(weight: F64, active: I64, available: Mask, deadline: F64, entered: I64, entries: I64, members: Mask, b: int) -> None:
    entries[b] = 0
    for s in range(weight.shape[1]):
        members[b, s] = available[b, s]
        if available[b, s]:
            deadline[b, s] = (active[b, s] + 1) / weight[b, s]
            entered[b, s] = entries[b]
            entries[b] += 1


@compiled
def _earliest(weight: F64, active: I64, available: Mask, deadline: F64, entered: I64, entries: I64, members: Mask, chosen: I64) -> None:
    """Take the server of the earliest deadline and put it back 1 / weight later; fleets of equal weights keep their choice."""
    for b in range(weight.shape[0]):
        if not _unequal(weight, available, b):
            continue
        changed = False
        for s in range(weight.shape[1]):
            changed |= members[b, s] != available[b, s]
        if changed:
            _rebuild(weight, active, available, deadline, entered, entries, members, b)
        first = -1
        for s in range(weight.shape[1]):
            if not available[b, s]:
                continue
            earlier = first < 0 or deadline[b, s] < deadline[b, first]
            if earlier or (deadline[b, s] == deadline[b, first] and entered[b, s] < entered[b, first]):
                first = s
        # Time stands at the deadline that was met, and the request that is being routed does not count as active yet.
        deadline[b, first] += (active[b, first] + 1) / weight[b, first]
        entered[b, first] = entries[b]
        entries[b] += 1
        chosen[b] = first

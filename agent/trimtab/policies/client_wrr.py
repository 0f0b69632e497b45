"""Client-side weighted round robin from load reports: gRPC's proposal A58, Envoy's policy of the same name.

Read in the proposal's text and in gRPC's static_stride_scheduler.cc, whose limits and arithmetic these are.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.request_log import F64, I64
from trimtab.policies import pick
from trimtab.policies.base import RoutingView
from trimtab.policies.pick import Mask
from trimtab.policies.reported import heard

BLACKOUT_S: Final = 10.0  # after a server's first weight in which it is not used
EXPIRY_S: Final = 180.0  # a weight older than that is none
UPDATE_S: Final = 1.0
LEAST_UPDATE_S: Final = 0.1
ERROR_PENALTY: Final = 1.0
WINDOW_S: Final = 1.0  # over which a server's rate and utilisation are averaged; slower ones do not see a slow spell in time
MAX_WEIGHT: Final = 65_535  # sixteen bits
MAX_RATIO: Final = 10.0  # of a weight to the mean
MIN_RATIO: Final = 0.01


class _State(NamedTuple):
    """Per server [B, S] unless said otherwise; sums decay with the window."""

    seen_outcomes: I64
    seen_failures: I64
    seen_reports: I64
    seen_cpu: F64
    outcomes: F64
    failures: F64
    reports: F64
    cpu: F64
    weight: F64  # 0 before the first
    updated_s: F64
    since_s: F64  # of the first weight, infinity before it
    scaled: I64  # what the scheduler goes by, 1 to MAX_WEIGHT
    members: Mask  # whom it knows
    span_s: F64  # [B] time that the sums stand for
    looked_s: F64  # [B] of the last update, -inf before the first
    sequence: I64  # [B] of the scheduler


def _no_state(batch: int, servers: int) -> _State:
    pair = (batch, servers)
    real, whole = np.zeros(pair), np.zeros(pair, dtype=np.int64)
    return _State(
        seen_outcomes=whole.copy(),
        seen_failures=whole.copy(),
        seen_reports=whole.copy(),
        seen_cpu=real.copy(),
        outcomes=real.copy(),
        failures=real.copy(),
        reports=real.copy(),
        cpu=real.copy(),
        weight=real.copy(),
        updated_s=real,
        since_s=np.full(pair, np.inf),
        scaled=whole,
        members=np.zeros(pair, dtype=np.bool_),
        span_s=np.zeros(batch),
        looked_s=np.full(batch, -np.inf),
        sequence=np.zeros(batch, dtype=np.int64),
    )


@dataclass
class ClientSideWrr:
    """weight = qps / (utilisation + eps / qps x penalty), servers taking turns by weight; without a weight they get the mean of the others.

    Servers here report what they do at one moment and no rates, where gRPC's report averages of their own. So rate (qps) and errors
    (eps) are counted by the balancer, which is their only client, and the reported utilisation is the mean over a server's answers, all
    of them weighing less with age (`window_s`). Fewer than two weights mean plain round robin, as in gRPC: with the default blackout
    the first ten seconds of every episode, which is half of a short one.
    """

    name: str
    blackout_s: float = BLACKOUT_S
    update_s: float = UPDATE_S
    window_s: float = WINDOW_S
    _state: _State = field(default_factory=lambda: _no_state(0, 0), repr=False)
    _first: I64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64), repr=False)

    def reset(self, seeds: I64) -> None:
        start = np.empty((seeds.size, 1))
        pick.uniforms(seeds.astype(np.uint64), np.zeros(seeds.size, dtype=np.uint64), start)
        self._first = (start[:, 0] * MAX_WEIGHT).astype(np.int64)  # gRPC's sequence starts at random, too
        self._state = _no_state(seeds.size, 0)

    def select(self, view: RoutingView) -> I64:
        if self._state.members.shape != view.slots.shape:
            self._state = _no_state(*view.slots.shape)
            self._state.sequence[:] = self._first
        reports, state, chosen = heard(view), self._state, np.empty(view.now_s.size, dtype=np.int64)
        every_s = max(LEAST_UPDATE_S, self.update_s)
        columns = (reports.outcomes, reports.failures, reports.reports, reports.cpu_total)
        _update(state, *columns, view.now_s, every_s, self.window_s, self.blackout_s, view.available)
        _turn(state.scaled, state.sequence, view.available, chosen)
        return chosen


@compiled
def _weigh(state: _State, b: int, s: int, now_s: float) -> None:
    """A58's weight from what is known of the server; nothing changes while it has no rate or no utilisation."""
    if state.outcomes[b, s] <= 0.0 or state.reports[b, s] <= 0.0:
        return
    qps, utilization = state.outcomes[b, s] / state.span_s[b], state.cpu[b, s] / state.reports[b, s]
    if qps <= 0.0 or utilization <= 0.0:
        return
    state.weight[b, s] = qps / (utilization + state.failures[b, s] / state.outcomes[b, s] * ERROR_PENALTY)
    if state.since_s[b, s] == np.inf:
        state.since_s[b, s] = now_s
    state.updated_s[b, s] = now_s


@compiled
def _absorb(state: _State, outcomes: I64, failures: I64, reports: I64, cpu: F64, b: int, now_s: float, window_s: float) -> None:
    first = state.looked_s[b] == -np.inf
    elapsed_s = now_s if first else now_s - state.looked_s[b]
    kept = np.exp(-elapsed_s / window_s)
    state.span_s[b] = state.span_s[b] * kept + elapsed_s
    state.looked_s[b] = now_s
    for s in range(outcomes.shape[1]):
        fresh = reports[b, s] > state.seen_reports[b, s]
        state.outcomes[b, s] = state.outcomes[b, s] * kept + (outcomes[b, s] - state.seen_outcomes[b, s])
        state.failures[b, s] = state.failures[b, s] * kept + (failures[b, s] - state.seen_failures[b, s])
        state.reports[b, s] = state.reports[b, s] * kept + (reports[b, s] - state.seen_reports[b, s])
        state.cpu[b, s] = state.cpu[b, s] * kept + (cpu[b, s] - state.seen_cpu[b, s])
        state.seen_outcomes[b, s], state.seen_failures[b, s] = outcomes[b, s], failures[b, s]
        state.seen_reports[b, s], state.seen_cpu[b, s] = reports[b, s], cpu[b, s]
        if fresh and state.span_s[b] > 0.0:
            _weigh(state, b, s, now_s)


@compiled
def _usable(state: _State, b: int, s: int, now_s: float, blackout_s: float) -> float:
    """The weight, 0 where it is too young or too old."""
    if now_s - state.updated_s[b, s] >= EXPIRY_S:
        state.since_s[b, s] = np.inf
        return 0.0
    return float(state.weight[b, s]) if now_s - state.since_s[b, s] >= blackout_s else 0.0


@compiled
def _schedule(state: _State, available: Mask, b: int, now_s: float, blackout_s: float) -> None:
    """Weights in sixteen bits, the largest at their end; all equal where fewer than two are known."""
    total, known, largest = 0.0, 0, 0.0
    for s in range(available.shape[1]):
        state.members[b, s] = available[b, s]
        usable = _usable(state, b, s, now_s, blackout_s) if available[b, s] else 0.0
        if usable > 0.0:
            total, known, largest = total + usable, known + 1, max(largest, usable)
    if known < 2:
        state.scaled[b, :] = MAX_WEIGHT
        return
    mean = total / known
    largest = min(largest, MAX_RATIO * mean)
    scale = MAX_WEIGHT / largest
    lowest = max(1, int(np.rint(np.rint(scale * mean) * MIN_RATIO)))
    for s in range(available.shape[1]):
        usable = _usable(state, b, s, now_s, blackout_s)
        own = int(np.rint(min(usable, largest) * scale)) if usable > 0.0 else int(np.rint(scale * mean))
        state.scaled[b, s] = max(own, lowest)


@compiled
def _update(
    state: _State,
    outcomes: I64,
    failures: I64,
    reports: I64,
    cpu: F64,
    now_s: F64,
    every_s: float,
    window_s: float,
    blackout_s: float,
    available: Mask,
) -> None:
    for b in range(now_s.shape[0]):
        due = now_s[b] - state.looked_s[b] >= every_s
        if due:
            _absorb(state, outcomes, failures, reports, cpu, b, now_s[b], window_s)
        for s in range(available.shape[1]):
            due = due or state.members[b, s] != available[b, s]
        if due:
            _schedule(state, available, b, now_s[b], blackout_s)


@compiled
def _nth_available(available: Mask, b: int, n: int) -> int:
    for s in range(available.shape[1]):
        if available[b, s]:
            if n == 0:
                return s
            n -= 1
    return -1


@compiled
def _turn(scaled: I64, sequence: I64, available: Mask, chosen: I64) -> None:
    """gRPC's static stride: every server is passed once a generation and skipped in proportion to what it lacks of the largest weight."""
    for b in range(chosen.shape[0]):
        members, largest = 0, 0
        for s in range(available.shape[1]):
            if available[b, s]:
                members += 1
                largest = max(largest, scaled[b, s])
        while True:
            place, generation = sequence[b] % members, sequence[b] // members
            sequence[b] += 1
            s = _nth_available(available, b, place)
            weight = scaled[b, s]
            # Whoever has the largest weight of the members is always taken, so this ends within a generation.
            if weight >= largest or (weight * generation + place * (MAX_WEIGHT // 2)) % MAX_WEIGHT >= MAX_WEIGHT - weight:
                chosen[b] = s
                break

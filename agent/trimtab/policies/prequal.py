"""Prequal: probes that serve later requests, and the hot-cold rule (Wydrowski, Kleinberg, Rumble and Archer, NSDI 2024)."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.reports import ProbeLog
from trimtab.core.request_log import F64, I64
from trimtab.policies import pick
from trimtab.policies.base import RoutingView
from trimtab.policies.pick import U64, Mask
from trimtab.policies.reported import probing

POOL: Final = 16
PROBES: Final = 3  # a request
REMOVED: Final = 1.0  # pooled probes a request
DELTA: Final = 1.0  # head-room of the reuse budget
AGE_S: Final = 1.0
HOT_QUANTILE: Final = 0.84
REMEMBERED: Final = 128  # numbers in flight, as answered by any server, that the quantile is taken of
LARGEST: Final = 255  # numbers above count as this one
LEAST_POOLED: Final = 2  # fewer, and the request goes anywhere
ERROR_LIMIT: Final = 0.2  # share of failures among recent requests from which a server is shunned
ERROR_MEMORY_S: Final = 10.0  # in which that share falls to a third while nothing is sent there: shunned servers are tried again


class _Pool(NamedTuple):
    """Probes that may still be used, P of each fleet at most; and the numbers in flight seen of late, H of them."""

    server: I64  # [B, P] -1 where the place is free
    in_flight: I64  # [B, P] plus what has been sent there since
    latency_s: F64  # [B, P]
    since_s: F64  # [B, P]
    uses: F64  # [B, P] left
    seen: I64  # [B, H]
    seen_count: I64  # [B]
    histogram: I64  # [B, 256] how many of them have each value
    removals: I64  # [B] alternates between the oldest and the worst
    owed: F64  # [B] fractions of removals
    uses_owed: F64  # [B] fractions of uses


def _empty_pool(batch: int) -> _Pool:
    pair = (batch, POOL)
    return _Pool(
        np.full(pair, -1, dtype=np.int64),
        np.zeros(pair, dtype=np.int64),
        np.zeros(pair),
        np.zeros(pair),
        np.zeros(pair),
        np.zeros((batch, REMEMBERED), dtype=np.int64),
        np.zeros(batch, dtype=np.int64),
        np.zeros((batch, LARGEST + 1), dtype=np.int64),
        np.zeros(batch, dtype=np.int64),
        np.zeros(batch),
        np.zeros(batch),
    )


def reuse_budget(servers: int, probes: float = PROBES, removed: float = REMOVED, pool: int = POOL, delta: float = DELTA) -> float:
    """How often a probe may be used: (1 + delta) / ((1 - pool / servers) probes - removed), 1 at least.

    Infinite where new probes cannot fill the pool; that is so in every fleet no larger than it. Then age, newer answers of the same
    server and removal bound a probe's life.
    """
    surplus = (1.0 - pool / servers) * probes - removed
    return max(1.0, (1.0 + delta) / surplus) if surplus > 0.0 else np.inf


@dataclass
class Prequal:
    """Each request sends three probes to random servers and is itself decided by answers to earlier ones.

    Hot is a server with more requests in flight than the 0.84 quantile of those answered of late, by whomever. Of cold servers the one
    of least latency is taken, of hot ones that of fewest requests. A chosen probe counts one request more, is used as often as its budget
    allows, and one probe a request leaves the pool: the oldest and the worst in turn. The paper demands that servers that fail fast do
    not look idle and leaves open how; here one that has failed too often of late comes after all others.
    """

    name: str
    _seeds: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)
    _draws: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)
    _pool: _Pool = field(default_factory=lambda: _empty_pool(0), repr=False)

    def reset(self, seeds: I64) -> None:
        self._seeds = seeds.astype(np.uint64)
        self._draws = np.zeros(seeds.size, dtype=np.uint64)
        self._pool = _empty_pool(seeds.size)

    def select(self, view: RoutingView) -> I64:
        batch, servers = view.slots.shape
        probes, ledger, pool = probing(view), view.ledger, self._pool
        answers = probes.answers()
        _absorb(pool, answers.log, answers.start, answers.stop, reuse_budget(servers))
        chance = np.empty((batch, 1 + PROBES))
        pick.uniforms(self._seeds, self._draws, chance)
        shunned = np.empty((batch, servers), dtype=np.bool_)
        _shun(ledger.error_rate, ledger.last_completion_s, view.now_s, shunned)
        chosen = np.empty(batch, dtype=np.int64)
        _choose(pool, view.now_s, view.available, shunned, chance, chosen)
        targets = np.empty((batch, PROBES), dtype=np.int64)
        _aim(view.available, chance, targets)
        probes.ask(targets)
        return chosen


@compiled
def _place_for(pool: _Pool, b: int, server: int) -> int:
    """Where a new answer of the server goes: over its own earlier one, else a free place, else over the oldest."""
    free, oldest = -1, 0
    for p in range(pool.server.shape[1]):
        if pool.server[b, p] == server:
            return p
        if pool.server[b, p] < 0:
            free = p if free < 0 else free
        elif pool.since_s[b, p] < pool.since_s[b, oldest]:
            oldest = p
    return free if free >= 0 else oldest


@compiled
def _remember(pool: _Pool, b: int, inside: int) -> None:
    place = pool.seen_count[b] % pool.seen.shape[1]
    if pool.seen_count[b] >= pool.seen.shape[1]:
        pool.histogram[b, pool.seen[b, place]] -= 1
    pool.seen[b, place] = inside
    pool.histogram[b, inside] += 1
    pool.seen_count[b] += 1


@compiled
def _absorb(pool: _Pool, log: ProbeLog, start: I64, stop: I64, budget: float) -> None:
    """New answers enter the pool. Budgets are whole numbers whose mean is `budget`: fractions are carried over to the next probe."""
    for b in range(start.shape[0]):
        for place in range(start[b], stop[b]):
            p = _place_for(pool, b, log.server[b, place])
            pool.server[b, p], pool.in_flight[b, p] = log.server[b, place], log.in_flight[b, place]
            pool.latency_s[b, p], pool.since_s[b, p] = log.latency_s[b, place], log.answered_s[b, place]
            pool.uses[b, p] = budget
            if budget < np.inf:
                pool.uses_owed[b] += budget
                pool.uses[b, p] = np.floor(pool.uses_owed[b])
                pool.uses_owed[b] -= pool.uses[b, p]
            _remember(pool, b, min(log.in_flight[b, place], LARGEST))


@compiled
def _shun(error_rate: F64, last_s: F64, now_s: F64, shunned: Mask) -> None:
    for b in range(shunned.shape[0]):
        for s in range(shunned.shape[1]):
            shunned[b, s] = error_rate[b, s] * np.exp((last_s[b, s] - now_s[b]) / ERROR_MEMORY_S) > ERROR_LIMIT


@compiled
def _hot_limit(pool: _Pool, b: int) -> float:
    """The quantile of the numbers in flight seen of late: the least of them that so many do not exceed."""
    wanted, below = np.ceil(HOT_QUANTILE * min(pool.seen_count[b], pool.seen.shape[1])), 0
    if wanted == 0:
        return np.inf
    for inside in range(pool.histogram.shape[1]):
        below += pool.histogram[b, inside]
        if below >= wanted:
            return float(inside)
    return np.inf


@compiled
def _best(pool: _Pool, b: int, limit: float, shunned: Mask) -> int:
    """The probe to follow: cold by latency before hot by number in flight, shunned servers only where there are no others."""
    best, best_tier, best_cost = -1, 9, np.inf
    for p in range(pool.server.shape[1]):
        if pool.server[b, p] < 0:
            continue
        hot = pool.in_flight[b, p] > limit
        tier = (2 if shunned[b, pool.server[b, p]] else 0) + (1 if hot else 0)
        cost = float(pool.in_flight[b, p]) if hot else pool.latency_s[b, p]
        if tier < best_tier or (tier == best_tier and cost < best_cost):
            best, best_tier, best_cost = p, tier, cost
    return best


@compiled
def _worst(pool: _Pool, b: int, limit: float) -> int:
    """Hot ones by number in flight before cold ones by latency."""
    worst, worst_hot, worst_cost = -1, False, -1.0
    for p in range(pool.server.shape[1]):
        if pool.server[b, p] < 0:
            continue
        hot = pool.in_flight[b, p] > limit
        cost = float(pool.in_flight[b, p]) if hot else pool.latency_s[b, p]
        if worst < 0 or (hot and not worst_hot) or (hot == worst_hot and cost > worst_cost):
            worst, worst_hot, worst_cost = p, hot, cost
    return worst


@compiled
def _oldest(pool: _Pool, b: int) -> int:
    oldest = -1
    for p in range(pool.server.shape[1]):
        if pool.server[b, p] >= 0 and (oldest < 0 or pool.since_s[b, p] < pool.since_s[b, oldest]):
            oldest = p
    return oldest


@compiled
def _clean(pool: _Pool, b: int, now_s: float, available: Mask) -> int:
    """Drop probes that are too old or whose server has left; how many remain."""
    left = 0
    for p in range(pool.server.shape[1]):
        s = pool.server[b, p]
        if s >= 0 and (now_s - pool.since_s[b, p] > AGE_S or not available[b, s]):
            pool.server[b, p] = -1
        left += pool.server[b, p] >= 0
    return left


@compiled
def _use(pool: _Pool, b: int, p: int) -> int:
    pool.in_flight[b, p] += 1
    pool.uses[b, p] -= 1.0
    server = pool.server[b, p]
    if pool.uses[b, p] <= 0.0:
        pool.server[b, p] = -1
    return int(server)


@compiled
def _remove(pool: _Pool, b: int, limit: float) -> None:
    pool.owed[b] += REMOVED
    while pool.owed[b] >= 1.0:
        pool.owed[b] -= 1.0
        p = _oldest(pool, b) if pool.removals[b] % 2 == 0 else _worst(pool, b, limit)
        pool.removals[b] += 1
        if p >= 0:
            pool.server[b, p] = -1


@compiled
def _nth_unasked(available: Mask, targets: I64, b: int, asked: int, n: int) -> int:
    for s in range(available.shape[1]):
        free = available[b, s]
        for r in range(asked):
            free = free and targets[b, r] != s
        if free:
            if n == 0:
                return s
            n -= 1
    return -1


@compiled
def _members(available: Mask, b: int) -> int:
    members = 0
    for s in range(available.shape[1]):
        members += available[b, s]
    return members


@compiled
def _choose(pool: _Pool, now_s: F64, available: Mask, shunned: Mask, chance: F64, chosen: I64) -> None:
    for b in range(chosen.shape[0]):
        limit = _hot_limit(pool, b)
        if _clean(pool, b, now_s[b], available) >= LEAST_POOLED:
            chosen[b] = _use(pool, b, _best(pool, b, limit, shunned))
        else:
            chosen[b] = _nth_unasked(available, chosen.reshape(-1, 1), b, 0, int(chance[b, 0] * _members(available, b)))
        _remove(pool, b, limit)


@compiled
def _aim(available: Mask, chance: F64, targets: I64) -> None:
    """Different servers, uniformly; fewer than wanted where there are no more."""
    for b in range(targets.shape[0]):
        members = _members(available, b)
        for r in range(targets.shape[1]):
            left = members - r
            targets[b, r] = _nth_unasked(available, targets, b, r, int(chance[b, 1 + r] * left)) if left > 0 else -1

"""Running totals of decisions and outcomes, for whoever watches a run. They only grow, so a reader needs no lock."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.request_log import F64, I64, SERVED, Outcomes, RequestLog

OUTCOMES: Final = ("served", "failed", "unmeasured")  # in the order of the status codes of request_log, from SERVED
# Three or four to a decade, as fine as the servers' own: a p99 read from them is within about 30 %.
LATENCY_EDGES_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
_EDGES: Final = np.array(LATENCY_EDGES_S)


class Tally(NamedTuple):
    """Totals over S servers and K classes, warm-ups included."""

    decisions: I64  # [S, K]
    outcomes: I64  # [S, 3] in the order of OUTCOMES
    latencies: I64  # [K, E + 1] served requests with latency up to each edge, and beyond the last; not cumulative
    latency_s: F64  # [K] sum over served requests


def empty_tally(servers: int, classes: int) -> Tally:
    """Zeros."""
    return Tally(
        np.zeros((servers, classes), dtype=np.int64),
        np.zeros((servers, len(OUTCOMES)), dtype=np.int64),
        np.zeros((classes, _EDGES.size + 1), dtype=np.int64),
        np.zeros(classes),
    )


def tally_decisions(tally: Tally, log: RequestLog, request: int, server: I64) -> None:
    """Every fleet sent its request number `request` to `server` [B]."""
    pairs = server * tally.decisions.shape[1] + log.request_class[:, request]
    tally.decisions.reshape(-1)[:] += np.bincount(pairs, minlength=tally.decisions.size)


def tally_outcomes(tally: Tally, log: RequestLog, outcomes: Outcomes) -> None:
    """Requests have completed."""
    _count(tally, log, outcomes.start, outcomes.stop, _EDGES)


@compiled
def _count(tally: Tally, log: RequestLog, start: I64, stop: I64, edges: F64) -> None:
    for b in range(start.shape[0]):
        for place in range(start[b], stop[b]):
            request = log.order[b, place]
            status, k = log.status[b, request], log.request_class[b, request]
            tally.outcomes[log.server[b, request], status - SERVED] += 1
            if status != SERVED:
                continue
            latency_s = log.latency_s[b, request]
            bucket = 0
            while bucket < edges.shape[0] and latency_s > edges[bucket]:
                bucket += 1
            tally.latencies[k, bucket] += 1
            tally.latency_s[k] += latency_s


class Key(NamedTuple):
    """What a tally is about; names in the order of its axes."""

    backend: str
    policy: str
    servers: tuple[str, ...]
    classes: tuple[str, ...]


class Tallies:
    """A tally for each policy in each place. Scenarios with the same names share one, so that totals never fall."""

    def __init__(self) -> None:
        self._tallies: dict[Key, Tally] = {}

    def of(self, key: Key) -> Tally:
        """The tally of that key, made when it is first asked for."""
        if key not in self._tallies:
            self._tallies[key] = empty_tally(len(key.servers), len(key.classes))
        return self._tallies[key]

    def merge(self, key: Key, counted: Tally) -> None:
        """Add what was counted elsewhere under that key."""
        for total, more in zip(self.of(key), counted, strict=True):
            np.add(total, more, out=total)

    def __iter__(self) -> Iterator[tuple[Key, Tally]]:
        return iter(list(self._tallies.items()))  # a copy: a run may add to it while a page is being written

"""The last ten seconds of traffic, for the live page: rates by server and class, latency quantiles. Time is an argument.

A ring of slots of 100 ms. A request costs a few array increments; everything else is done when somebody reads, a few times a second.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trimtab.core.metrics import FEWEST_BEYOND
from trimtab.core.request_log import F64, I64

SLOT_S: Final = 0.1
SLOTS: Final = 100
# Latencies fall into bins that each reach 5 % further than the one before; a bin's middle is within 2.5 % of all that lies in it.
GROWTH: Final = 1.05
LOWEST_S: Final = 1e-4
HIGHEST_S: Final = 100.0  # beyond every time-out of the gateway
_LOG_GROWTH: Final = math.log(GROWTH)
BINS: Final = math.ceil(math.log(HIGHEST_S / LOWEST_S) / _LOG_GROWTH)


class Ring:
    """Rolling sums: arrays whose first axis is SLOTS slots of `slot_s` seconds, of which `slot` empties those that time has passed over."""

    def __init__(self, now_s: float, *arrays: npt.NDArray[np.generic], slot_s: float = SLOT_S) -> None:
        """It opens at `now_s`; `arrays` are written to and summed by whoever made them."""
        self._arrays, self._slot_s = arrays, slot_s
        self._opened_s = now_s
        self._newest = math.floor(now_s / slot_s)

    def slot(self, now_s: float) -> int:
        """Place of the present slot. Time that runs backwards counts as standing still."""
        number = math.floor(now_s / self._slot_s)
        if number > self._newest:
            stale = np.arange(max(self._newest + 1, number - SLOTS + 1), number + 1) % SLOTS
            for array in self._arrays:
                array[stale] = 0
            self._newest = number
        return self._newest % SLOTS

    def covered_s(self, now_s: float) -> float:
        """Seconds that the sums are over: the ring's, or its age while it is younger."""
        return max(self._slot_s, now_s - max(self._opened_s, (self._newest - SLOTS + 1) * self._slot_s))


class Recent(NamedTuple):
    """What the window holds at one moment."""

    sent_rps: F64  # [S, K] sent to servers, retries included
    served_rps: float
    p50_s: float | None  # latency of served requests; None where fewer than ten of them lie beyond
    p95_s: float | None
    p99_s: float | None
    mean_s: tuple[float | None, ...]  # [S] mean latency of served requests; None where there was none


class Window:
    """Counts of the last SLOTS x SLOT_S seconds: S servers, K classes. It opens at `now_s`; rates before it is full are over its age."""

    def __init__(self, servers: int, classes: int, now_s: float) -> None:
        self._sent: I64 = np.zeros((SLOTS, servers, classes), dtype=np.int64)
        self._bins: I64 = np.zeros((SLOTS, BINS), dtype=np.int64)
        self._served: I64 = np.zeros((SLOTS, servers), dtype=np.int64)
        self._latency_s: F64 = np.zeros((SLOTS, servers))
        self._ring = Ring(now_s, self._sent, self._bins, self._served, self._latency_s)

    def sent(self, server: int, kind: int, now_s: float) -> None:
        """A request of class `kind`, or its retry, went to a server."""
        self._sent[self._ring.slot(now_s), server, kind] += 1

    def served(self, server: int, latency_s: float, now_s: float) -> None:
        """A server's answer is complete, `latency_s` after the request arrived. Failures have no latency."""
        slot = self._ring.slot(now_s)
        self._bins[slot, bin_of(latency_s)] += 1
        self._served[slot, server] += 1
        self._latency_s[slot, server] += latency_s

    def read(self, now_s: float) -> Recent:
        """Rates over the time covered, quantiles over all served requests in it."""
        self._ring.slot(now_s)
        bins, served = self._bins.sum(axis=0), self._served.sum(axis=0)
        covered_s = self._ring.covered_s(now_s)
        total_s = self._latency_s.sum(axis=0)
        means = tuple(float(total) / int(count) if count else None for total, count in zip(total_s, served, strict=True))
        p50_s, p95_s, p99_s = (quantile_s(bins, q) for q in (0.5, 0.95, 0.99))
        return Recent(self._sent.sum(axis=0) / covered_s, int(served.sum()) / covered_s, p50_s, p95_s, p99_s, means)


def bin_of(latency_s: float) -> int:
    """The bin, of BINS, that a latency falls into."""
    if latency_s <= LOWEST_S:
        return 0
    return min(int(math.log(latency_s / LOWEST_S) / _LOG_GROWTH), BINS - 1)


def quantile_s(bins: I64, q: float) -> float | None:
    """Of the latencies in these bins [BINS]; None where fewer than FEWEST_BEYOND lie beyond.

    Nearest rank (Hyndman and Fan 1996, type 1), as the geometric middle of its bin.
    """
    ranks = np.cumsum(bins)
    count = int(ranks[-1])
    if count * (1.0 - q) < FEWEST_BEYOND - 1e-9:
        return None
    place = int(np.searchsorted(ranks, math.ceil(count * q - 1e-9)))
    return float(LOWEST_S * GROWTH ** (place + 0.5))

"""What happened, counted: latencies with three significant digits, mergeable over workers, and small on the wire.

An own histogram rather than the hdrhistogram package: that one has no wheels for Linux on ARM and would need a compiler in the image.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from product import FEWEST_BEYOND

SERVED = "served"


def _rounded(microseconds: int) -> int:
    """Three significant digits: an error of at most half a percent."""
    step = int(10 ** max(0, len(str(microseconds)) - 3))
    return (microseconds + step // 2) // step * step


class Histogram:
    """Times in seconds, kept as counts of microseconds rounded to three significant digits; the greatest is kept as it was."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.max_s = 0.0

    @property
    def size(self) -> int:
        """Number of times recorded."""
        return self.counts.total()

    def record(self, time_s: float) -> None:
        """Adds one time; a negative one counts as 0 (a clock may step back between two machines)."""
        self.counts[_rounded(max(0, round(time_s * 1e6)))] += 1
        self.max_s = max(self.max_s, time_s)

    def merge(self, other: "Histogram") -> None:
        """Adds all times of `other`."""
        self.counts.update(other.counts)
        self.max_s = max(self.max_s, other.max_s)

    def quantile_s(self, quantile: float) -> float | None:
        """The least recorded time with at least this share at or below it; None where fewer than ten lie beyond it."""
        size = self.size
        if size * (1.0 - quantile) < FEWEST_BEYOND - 1e-9:
            return None
        wanted, seen = math.ceil(size * quantile - 1e-9), 0
        for microseconds in sorted(self.counts):
            seen += self.counts[microseconds]
            if seen >= wanted:
                break
        return microseconds / 1e6

    def to_message(self) -> dict[str, Any]:
        """Plain values for the wire."""
        return {"counts": [list(pair) for pair in self.counts.items()], "max_s": self.max_s}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Histogram":
        """The inverse of `to_message`."""
        made = cls()
        made.counts.update({int(key): int(count) for key, count in message["counts"]})
        made.max_s = float(message["max_s"])
        return made


class Tally:
    """Counts of one process, or of several merged.

    `corrected` holds latencies from the scheduled send time (open loop only), `uncorrected` from the actual send, each by class and
    outcome: "served" or a kind of failure. `lag` is how late requests went out.
    """

    def __init__(self) -> None:
        self.corrected: dict[tuple[int, str], Histogram] = {}
        self.uncorrected: dict[tuple[int, str], Histogram] = {}
        self.lag = Histogram()
        self.sent = 0
        self.abandoned = 0  # the user was stopped while its request was in flight: nobody knows what became of it
        self.last_sent_s = 0.0  # from the start of the run
        self.span_s = 0.0  # how long requests were made

    def count_sent(self, at_s: float, due_s: float | None = None) -> None:
        """One request went out `at_s` after the start; it was due at `due_s` (open loop)."""
        self.sent += 1
        self.last_sent_s = max(self.last_sent_s, at_s)
        if due_s is not None:
            self.lag.record(at_s - due_s)

    def count_answer(self, request_class: int, outcome: str, uncorrected_s: float, corrected_s: float | None = None) -> None:
        """Its answer came, or failed to."""
        key = (request_class, outcome)
        self.uncorrected.setdefault(key, Histogram()).record(uncorrected_s)
        if corrected_s is not None:
            self.corrected.setdefault(key, Histogram()).record(corrected_s)

    def merge(self, other: "Tally") -> None:
        """Adds what `other` counted; the spans of workers run side by side, so the longest counts."""
        for own, foreign in ((self.corrected, other.corrected), (self.uncorrected, other.uncorrected)):
            for key, histogram in foreign.items():
                own.setdefault(key, Histogram()).merge(histogram)
        self.lag.merge(other.lag)
        self.sent += other.sent
        self.abandoned += other.abandoned
        self.last_sent_s = max(self.last_sent_s, other.last_sent_s)
        self.span_s = max(self.span_s, other.span_s)

    def to_message(self) -> dict[str, Any]:
        """Plain values for the wire."""
        return {
            "corrected": _tables(self.corrected),
            "uncorrected": _tables(self.uncorrected),
            "lag": self.lag.to_message(),
            "numbers": [self.sent, self.abandoned, self.last_sent_s, self.span_s],
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Tally":
        """The inverse of `to_message`."""
        made = cls()
        made.corrected, made.uncorrected = _histograms(message["corrected"]), _histograms(message["uncorrected"])
        made.lag = Histogram.from_message(message["lag"])
        made.sent, made.abandoned, made.last_sent_s, made.span_s = message["numbers"]
        return made


def merged(tallies: Iterable[Tally]) -> Tally:
    """One tally of all."""
    total = Tally()
    for one in tallies:
        total.merge(one)
    return total


def pooled(histograms: Iterable[Histogram]) -> Histogram:
    """One histogram of all."""
    total = Histogram()
    for one in histograms:
        total.merge(one)
    return total


def _tables(histograms: Mapping[tuple[int, str], Histogram]) -> list[list[Any]]:
    return [[request_class, outcome, one.to_message()] for (request_class, outcome), one in histograms.items()]


def _histograms(tables: Iterable[Iterable[Any]]) -> dict[tuple[int, str], Histogram]:
    return {(request_class, outcome): Histogram.from_message(table) for request_class, outcome, table in tables}

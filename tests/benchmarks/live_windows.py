"""What clients saw of a run of Locust, in windows of time, and how far one run was behind another on the same traffic."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

WINDOW_S = 10.0  # of the table and the figure
BESIDE_S = 30.0  # over which two runs are compared


class Total(NamedTuple):
    """Locust's running totals, about once a second."""

    time_s: float  # since the first request
    requests: int
    failed: int
    latency_ms: float  # summed


class Window(NamedTuple):
    """What clients saw in WINDOW_S seconds."""

    time_s: float
    requests: int
    failed: int
    mean_latency_ms: float

    @property
    def failed_share(self) -> float:
        return self.failed / self.requests if self.requests else 0.0


class Worst(NamedTuple):
    """Of all windows of BESIDE_S, a second apart: mean latency over that of the other run."""

    ratio: float
    time_s: float  # at which that window ends
    whole: float  # the same over the whole run


def read_totals(path: Path) -> list[Total]:
    """Of `*_stats_history.csv`, as --csv-full-history writes it."""
    with path.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["Name"] == "Aggregated"]
    first_s = float(rows[0]["Timestamp"])
    return [_total(row, first_s) for row in rows]


def _total(row: dict[str, str], first_s: float) -> Total:
    count = int(row["Total Request Count"])
    return Total(
        float(row["Timestamp"]) - first_s, count, int(row["Total Failure Count"]), count * float(row["Total Average Response Time"])
    )


def windows(totals: Sequence[Total]) -> list[Window]:
    """One after the other, from the start."""
    found, last = [], Total(0.0, 0, 0, 0.0)
    for now in totals:
        count = now.requests - last.requests
        if now.time_s - last.time_s >= WINDOW_S and count > 0:
            found.append(Window(now.time_s, count, now.failed - last.failed, (now.latency_ms - last.latency_ms) / count))
            last = now
    return found


def worst_beside(totals: Sequence[Total], others: Sequence[Total]) -> Worst:
    """How far `totals` was behind `others`, at worst and on the whole. Windows are told by the number of requests, which both share."""
    end = min(totals[-1].requests, others[-1].requests)
    span = round(end * BESIDE_S / totals[-1].time_s)
    last = np.arange(span, end + 1, max(1, round(span / BESIDE_S)))
    ratios = _mean_ms(totals, last - span, last) / _mean_ms(others, last - span, last)
    place = int(ratios.argmax())
    whole = _mean_ms(totals, np.zeros(1), np.array([end])) / _mean_ms(others, np.zeros(1), np.array([end]))
    return Worst(float(ratios[place]), float(last[place]) * totals[-1].time_s / totals[-1].requests, float(whole[0]))


def _mean_ms(totals: Sequence[Total], first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Mean latency of the requests after `first` and up to `last`, interpolated between the rows."""
    requests, sums = ([0.0, *(getattr(one, name) for one in totals)] for name in ("requests", "latency_ms"))
    return (np.interp(last, requests, sums) - np.interp(first, requests, sums)) / (last - first)

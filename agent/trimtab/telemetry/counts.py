"""Decisions, outcomes and latencies of a run as Prometheus counters and histograms, read from its tallies when scraped."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from trimtab.core.request_log import F64, I64
from trimtab.core.tally import LATENCY_EDGES_S, OUTCOMES, Key, Tallies

SERVERS_SHOWN: Final = 64  # a fleet of more is exported as one sum: a thousand servers would be tens of thousands of series
ALL: Final = "all"


class TallyCollector(Collector):
    """Sums over tallies that differ in nothing that is exported."""

    def __init__(self, tallies: Tallies) -> None:
        self._tallies = tallies

    def describe(self) -> list[Metric]:
        """Nothing: which series there are depends on what is run."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Three families; a counter that no run has touched is not there."""
        yield self._decisions()
        yield self._outcomes()
        yield self._latency()

    def _decisions(self) -> Metric:
        totals: dict[tuple[str, ...], float] = defaultdict(float)
        for key, tally in self._tallies:
            for server, row in zip(*_by_server(key, tally.decisions), strict=True):
                for name, count in zip(key.classes, row, strict=True):
                    totals[key.backend, key.policy, server, name] += float(count)
        return _counter("trimtab_agent_decisions", "Requests sent, by who chose, server and class.", ("server", "class"), totals)

    def _outcomes(self) -> Metric:
        totals: dict[tuple[str, ...], float] = defaultdict(float)
        for key, tally in self._tallies:
            for server, row in zip(*_by_server(key, tally.outcomes), strict=True):
                for outcome, count in zip(OUTCOMES, row, strict=True):
                    totals[key.backend, key.policy, server, outcome] += float(count)
        return _counter("trimtab_agent_outcomes", "Requests that came back, or failed to.", ("server", "outcome"), totals)

    def _latency(self) -> Metric:
        counts: dict[tuple[str, ...], I64] = defaultdict(lambda: np.zeros(len(LATENCY_EDGES_S) + 1, dtype=np.int64))
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for key, tally in self._tallies:
            for k, name in enumerate(key.classes):
                labels: tuple[str, ...] = (key.backend, key.policy, name)
                counts[labels] = counts[labels] + tally.latencies[k]
                sums[labels] += float(tally.latency_s[k])
        family = HistogramMetricFamily(
            "trimtab_agent_latency_seconds", "Scheduled arrival to completion, served requests.", labels=("backend", "policy", "class")
        )
        for labels, own in counts.items():
            family.add_metric(labels, buckets(LATENCY_EDGES_S, own), sums[labels])
        return family


def buckets(edges: Sequence[float], counts: I64) -> list[tuple[str, float]]:
    """Counts up to each edge and beyond the last [E + 1], cumulative and labelled as Prometheus wants them."""
    labels = [*(f"{edge:g}" for edge in edges), "+Inf"]
    return list(zip(labels, np.cumsum(counts).astype(np.float64).tolist(), strict=True))


def _by_server(key: Key, totals: I64) -> tuple[tuple[str, ...], I64 | F64]:
    """Names and rows; one row for all where there are too many."""
    if len(key.servers) <= SERVERS_SHOWN:
        return key.servers, totals
    return (ALL,), totals.sum(axis=0, keepdims=True)


def _counter(name: str, text: str, labels: tuple[str, ...], totals: dict[tuple[str, ...], float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=("backend", "policy", *labels))
    for values, total in totals.items():
        family.add_metric(values, total)
    return family

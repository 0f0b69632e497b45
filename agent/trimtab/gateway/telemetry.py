"""The gateway's metrics: arrays that the data path adds to, and a collector that reads them when Prometheus asks.

A request costs a few array increments by index; names and labels are put to the numbers only when they are read.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from trimtab.core.request_log import F64, I64
from trimtab.core.tally import LATENCY_EDGES_S
from trimtab.gateway.decision_times import DECISION_EDGES_S, DecisionTimes
from trimtab.telemetry.counts import ALL, SERVERS_SHOWN, buckets

NONE: Final = "none"
CODE_CLASSES: Final = ("2xx", "3xx", "4xx", "5xx", NONE)
RETRY_RESULTS: Final = ("served", "failed", "unmeasured", "no_budget")  # how a retry ended, or that the budget refused it
SERVERS_FULL, GATEWAY_FULL, CONNECTIONS_FULL = REFUSAL_REASONS = ("server_in_flight", "in_flight", "connections")  # fields of `Limits`
# A proxy in Python takes fractions of a millisecond, and the objective is 1 ms: most of the edges lie around it.
OVERHEAD_EDGES_S: Final = (1e-4, 2e-4, 3e-4, 5e-4, 7.5e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 1.0)


class Totals(NamedTuple):
    """Counts over S servers, K classes and D deciders. The last server and the last class are `none`: the gateway answered by itself,
    or a request was refused before its class was known."""

    requests: I64  # [S + 1, K + 1, 5] answers to clients, in the order of CODE_CLASSES
    decisions: I64  # [D, S, K] sent to servers, retries included
    retries: I64  # [4] in the order of RETRY_RESULTS
    refusals: I64  # [3] in the order of REFUSAL_REASONS
    latencies: I64  # [K, E + 1] up to each of LATENCY_EDGES_S, and beyond the last; not cumulative
    latency_s: F64  # [K]
    overheads: I64  # [O + 1] the same of OVERHEAD_EDGES_S
    overhead_s: F64  # [1]


class GatewayCounts:
    """What the data path counts. Everything only grows, so that another thread may read it without a lock."""

    def __init__(self, servers: Sequence[str], classes: Sequence[str], deciders: Sequence[str]) -> None:
        """`deciders`: the names that may decide, primary and fallback; duplicates count as one."""
        self.servers, self.classes = tuple(servers), tuple(classes)
        self.deciders = tuple(dict.fromkeys(deciders))
        self._decider = {name: place for place, name in enumerate(self.deciders)}
        self.decision_times = DecisionTimes(self.deciders)
        shape = len(self.servers), len(self.classes)
        self.totals = Totals(
            requests=np.zeros((shape[0] + 1, shape[1] + 1, len(CODE_CLASSES)), dtype=np.int64),
            decisions=np.zeros((len(self.deciders), *shape), dtype=np.int64),
            retries=np.zeros(len(RETRY_RESULTS), dtype=np.int64),
            refusals=np.zeros(len(REFUSAL_REASONS), dtype=np.int64),
            latencies=np.zeros((shape[1], len(LATENCY_EDGES_S) + 1), dtype=np.int64),
            latency_s=np.zeros(shape[1]),
            overheads=np.zeros(len(OVERHEAD_EDGES_S) + 1, dtype=np.int64),
            overhead_s=np.zeros(1),
        )

    def decided(self, decider: str, server: int, kind: int) -> None:
        """A request, or its retry, goes to a server. Raises KeyError for a decider that was not named at the start."""
        self.totals.decisions[self._decider[decider], server, kind] += 1

    def answered(self, server: int | None, kind: int | None, status: int | None) -> None:
        """A request ended, once, whatever its attempts: None where no server was reached, no class known, no status sent.

        A status outside 200-599 counts as 5xx, as whom it reaches should take it (RFC 9110, 15).
        """
        row, column = -1 if server is None else server, -1 if kind is None else kind
        self.totals.requests[row, column, _code_class(status)] += 1

    def served(self, kind: int, latency_s: float, overhead_s: float) -> None:
        """A request was served: from its arrival to the end of its answer, and the part of it that no server accounts for."""
        totals = self.totals
        totals.latencies[kind, bisect_left(LATENCY_EDGES_S, latency_s)] += 1
        totals.latency_s[kind] += latency_s
        totals.overheads[bisect_left(OVERHEAD_EDGES_S, overhead_s)] += 1
        totals.overhead_s[0] += overhead_s

    def retried(self, result: str) -> None:
        """A retry ended, or was not allowed one: one of RETRY_RESULTS, else ValueError."""
        self.totals.retries[RETRY_RESULTS.index(result)] += 1

    def refused(self, reason: str) -> None:
        """A request or connection was answered 503 because a limit was reached: one of REFUSAL_REASONS, else ValueError."""
        self.totals.refusals[REFUSAL_REASONS.index(reason)] += 1

    @property
    def retries_sent(self) -> int:
        """Retries that ended, in whatever way."""
        return int(self.totals.retries[:-1].sum())


class Gauges(NamedTuple):
    """The present, and counts that others keep."""

    in_flight: Sequence[int]  # [S]
    up: Sequence[bool]  # [S] neither ejected nor down
    ejections: Sequence[int]  # [S] ever
    panic: bool
    draining: bool
    fallbacks: Mapping[str, int]  # by reason; none where a classical policy decides by itself


class GatewayCollector(Collector):
    """Every metric of a gateway. `gauges` is called on the thread that reads the page, so it must ask the event loop's for them."""

    def __init__(self, counts: GatewayCounts, gauges: Callable[[], Gauges]) -> None:
        self._counts, self._gauges = counts, gauges
        many = len(counts.servers) > SERVERS_SHOWN  # as on the agent's page: one sum, not tens of thousands of series
        self._servers = (ALL,) if many else counts.servers

    def describe(self) -> list[Metric]:
        """Nothing, so that registering reads no gauges."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families; counters are there from the start, at 0, for a rate needs a first value."""
        yield self._requests()
        yield self._decisions()
        yield self._decision_times()
        retries = dict(zip(RETRY_RESULTS, self._counts.totals.retries.tolist(), strict=True))
        yield _counter("retries", "Retries by how they ended, and those that the budget refused.", "result", retries)
        refusals = dict(zip(REFUSAL_REASONS, self._counts.totals.refusals.tolist(), strict=True))
        yield _counter("refusals", "Requests and connections answered 503 because a limit was reached.", "reason", refusals)
        yield self._latency()
        yield self._overhead()
        yield from self._present(self._gauges())

    def _requests(self) -> Metric:
        family = CounterMetricFamily("trimtab_gateway_requests", "Requests answered, each once.", labels=("class", "server", "code_class"))
        totals = self._counts.totals.requests
        rows = [*self._by_server(totals[:-1]), totals[-1]]
        for server, row in zip((*self._servers, NONE), rows, strict=True):
            for name, codes in zip((*self._counts.classes, NONE), row.tolist(), strict=True):
                for code, count in zip(CODE_CLASSES, codes, strict=True):
                    family.add_metric((name, server, code), count)
        return family

    def _decisions(self) -> Metric:
        family = CounterMetricFamily(
            "trimtab_gateway_decisions", "Requests and retries sent, by who chose.", labels=("decider", "server", "class")
        )
        for decider, totals in zip(self._counts.deciders, self._counts.totals.decisions, strict=True):
            for server, row in zip(self._servers, self._by_server(totals), strict=True):
                for name, count in zip(self._counts.classes, row.tolist(), strict=True):
                    family.add_metric((decider, server, name), count)
        return family

    def _decision_times(self) -> Metric:
        family = HistogramMetricFamily("trimtab_gateway_decision_seconds", "Time that a decision took, by who chose.", labels=("decider",))
        for name, took in self._counts.decision_times.read():
            family.add_metric((name,), buckets(DECISION_EDGES_S, took.counts), took.total_s)
        return family

    def _latency(self) -> Metric:
        family = HistogramMetricFamily("trimtab_gateway_latency_seconds", "Arrival to end of answer, served requests.", labels=("class",))
        totals = self._counts.totals
        for name, counts, total in zip(self._counts.classes, totals.latencies, totals.latency_s, strict=True):
            family.add_metric((name,), buckets(LATENCY_EDGES_S, counts), float(total))
        return family

    def _overhead(self) -> Metric:
        totals = self._counts.totals
        family = HistogramMetricFamily("trimtab_gateway_overhead_seconds", "Part of the latency that was spent outside the server.")
        family.add_metric((), buckets(OVERHEAD_EDGES_S, totals.overheads), float(totals.overhead_s[0]))
        return family

    def _present(self, now: Gauges) -> Iterator[Metric]:
        yield _counter("fallbacks", "What the guard counted against the policy.", "reason", now.fallbacks)
        yield _counter("ejections", "Ejections for failures in a row.", "server", self._named(now.ejections))
        yield _gauge("in_flight_requests", "Sent and not ended.", self._named(now.in_flight))
        yield _gauge("server_up", "Servers neither ejected nor down.", self._named(now.up))
        yield GaugeMetricFamily("trimtab_gateway_panic", "1 while so few servers are up that all are used.", value=now.panic)
        yield GaugeMetricFamily("trimtab_gateway_draining", "1 while it finishes what is in flight and takes no more.", value=now.draining)

    def _by_server(self, totals: I64) -> I64:
        """The rows shown: of each server [S, ...], or their sum [1, ...]."""
        return totals if len(self._servers) == totals.shape[0] else totals.sum(axis=0, keepdims=True)

    def _named(self, values: Sequence[int]) -> dict[str, int]:
        return dict(zip(self._servers, self._by_server(np.array(values, dtype=np.int64)).tolist(), strict=True))


def _code_class(status: int | None) -> int:
    if status is None:
        return CODE_CLASSES.index(NONE)
    return status // 100 - 2 if 200 <= status <= 599 else CODE_CLASSES.index("5xx")


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"trimtab_gateway_{name}", text, labels=(label,))
    for one, value in values.items():
        family.add_metric((one,), value)
    return family


def _gauge(name: str, text: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"trimtab_gateway_{name}", text, labels=("server",))
    for one, value in values.items():
        family.add_metric((one,), value)
    return family

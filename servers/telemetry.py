"""Prometheus metrics of one server. The target's labels say which server it is; times are seconds. docs/metrics.md lists them all.

A server is one process with one worker, so that no count is lost; a worker that is replaced begins at 0, which rate() understands.
"""

from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

STATUSES = (200, 400, 413, 500, 503)
# From half a millisecond to ten seconds, three a decade or so: a p99 read from them is within about 30 %.
BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)

disable_created_metrics()  # a `_created` series beside every counter and histogram would say nothing that anybody reads here


class FaultCollector(Collector):
    """Active faults by kind, counted when scraped."""

    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def collect(self) -> list[GaugeMetricFamily]:
        """One sample for every kind, zeros included."""
        family = GaugeMetricFamily("trimtab_server_faults_active", "Injected faults that are active.", labels=["kind"])
        for kind, number in self._count().items():
            family.add_metric([kind], number)
        return [family]


class Telemetry:
    """Counters and histograms of one app, in a registry of its own. Label children are looked up once: a lookup costs more than a count."""

    def __init__(self, class_names: Sequence[str], registry: CollectorRegistry) -> None:
        self.registry = registry
        requests = Counter("trimtab_server_requests", "Answered requests.", ["class", "status"], registry=registry)
        self._requests = [{status: requests.labels(name, str(status)) for status in STATUSES} for name in class_names]
        self._queue = self._histograms("queue", "Waiting for a slot, served requests.", class_names)
        self._service = self._histograms("service", "Time in a slot, served requests.", class_names)
        self._response = self._histograms("response", "Waiting and service, served requests.", class_names)
        ProcessCollector(registry=registry)  # what this process really uses: process_cpu_seconds_total and the like

    def _histograms(self, name: str, help_text: str, class_names: Sequence[str]) -> list[Histogram]:
        family = Histogram(f"trimtab_server_{name}_seconds", help_text, ["class"], buckets=BUCKETS_S, registry=self.registry)
        return [family.labels(one) for one in class_names]

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Registers a gauge that is read when scraped."""
        Gauge(f"trimtab_server_{name}", help_text, registry=self.registry).set_function(read)

    def faults(self, count: Callable[[], Mapping[str, int]]) -> None:
        """Registers the number of active faults by kind."""
        self.registry.register(FaultCollector(count))

    def count(self, kind: int, status: int) -> None:
        """One answered request of class index `kind`."""
        self._requests[kind][status].inc()

    def served(self, kind: int, queue_s: float, work_s: float) -> None:
        """The times of one served request."""
        self._queue[kind].observe(queue_s)
        self._service[kind].observe(work_s)
        self._response[kind].observe(queue_s + work_s)

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)

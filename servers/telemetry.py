"""Prometheus metrics of one server. The target's labels say which server it is; times are seconds."""

from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

STATUSES = (200, 400, 413, 500, 503)
# From half a millisecond to ten seconds, three a decade or so: a p99 read from them is within about 30 %.
BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)


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
        service = Histogram(
            "trimtab_server_service_seconds", "Time in a slot, served requests.", ["class"], buckets=BUCKETS_S, registry=registry
        )
        response = Histogram(
            "trimtab_server_response_seconds", "Waiting and service, served requests.", ["class"], buckets=BUCKETS_S, registry=registry
        )
        self._requests = [{status: requests.labels(name, str(status)) for status in STATUSES} for name in class_names]
        self._service = [service.labels(name) for name in class_names]
        self._response = [response.labels(name) for name in class_names]

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
        self._service[kind].observe(work_s)
        self._response[kind].observe(queue_s + work_s)

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)

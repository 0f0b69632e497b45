"""What servers say about themselves: load reports that come with answers, and answers to probes.

Both stand beside the ledger and are kept only where a policy asks for them. The two worlds and the gateway fill the same records.
"""

from typing import Final, NamedTuple, Protocol

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.ledger import FAILURE_SAMPLE_S
from trimtab.core.request_log import F64, FAILED, I64, SERVED, Outcomes, RequestLog

SILENT: Final = -1  # as a count of requests in flight: the answer carried no report
REPORT_GAIN: Final = (
    0.3  # of the averages below; Elasticsearch's for C3. That of its authors' simulator, 0.9, was 4 to 13 % worse in the twin
)


class LoadLog(NamedTuple):
    """What the answer to each request said of its server's load, as the answer left it. Columns beside the `RequestLog`."""

    in_flight: I64  # [B, N] requests inside the server, SILENT where nothing was said
    cpu_utilization: F64  # [B, N]
    memory_utilization: F64  # [B, N]


class Reports(NamedTuple):
    """What the answers taken in so far add up to, per server. Cumulative columns only grow."""

    in_flight: I64  # [B, S] of the last report
    cpu_utilization: F64  # [B, S]
    memory_utilization: F64  # [B, S]
    reported_s: F64  # [B, S] when it came, -inf before the first
    queued_mean: F64  # [B, S] moving average of the reported requests beyond the declared slots
    response_mean_s: F64  # [B, S] moving average of response times; a failure is a sample of two seconds or more
    service_mean_s: F64  # [B, S] moving average of service times as the servers report them; a failure the same
    outcomes: I64  # [B, S] requests served or failed
    failures: I64  # [B, S] those that failed
    reports: I64  # [B, S] answers with a report
    cpu_total: F64  # [B, S] sum of the utilisations reported


class ProbeLog(NamedTuple):
    """Answers to probes in the order in which they came, `M` of each fleet at most."""

    server: I64  # [B, M]
    in_flight: I64  # [B, M] requests inside the server
    latency_s: F64  # [B, M] median of recent response times at or near that number in flight, 0 before the first
    answered_s: F64  # [B, M] when the answer was here


class ProbeAnswers(NamedTuple):
    """Answers since the last look: places `start[b]` to `stop[b]` of each fleet b."""

    log: ProbeLog
    start: I64  # [B]
    stop: I64  # [B]


class Probes(Protocol):
    """How a policy that probes asks and hears. What is asked now is answered to a later decision, never to the present one."""

    def ask(self, servers: I64) -> None:
        """Probe these servers [B, R] along with the present request; an entry below 0 asks nobody."""

    def answers(self) -> ProbeAnswers:
        """What has come back since the last call."""


def empty_load_log(batch: int, requests: int) -> LoadLog:
    """A log in which no answer has said anything; memory runs along B, as in the request log."""
    shape = (batch, requests)
    return LoadLog(np.full(shape, SILENT, dtype=np.int64, order="F"), np.zeros(shape, order="F"), np.zeros(shape, order="F"))


def empty_probe_log(batch: int, answers: int) -> ProbeLog:
    """Room for so many answers of each fleet."""
    shape = (batch, answers)
    whole, real = np.zeros(shape, dtype=np.int64, order="F"), np.zeros(shape, order="F")
    return ProbeLog(whole, whole.copy(order="F"), real, real.copy(order="F"))


def empty_reports(batch: int, servers: int) -> Reports:
    """Nothing heard of anybody."""
    shape = (batch, servers)
    return Reports(
        in_flight=np.zeros(shape, dtype=np.int64),
        cpu_utilization=np.zeros(shape),
        memory_utilization=np.zeros(shape),
        reported_s=np.full(shape, -np.inf),
        queued_mean=np.zeros(shape),
        response_mean_s=np.zeros(shape),
        service_mean_s=np.zeros(shape),
        outcomes=np.zeros(shape, dtype=np.int64),
        failures=np.zeros(shape, dtype=np.int64),
        reports=np.zeros(shape, dtype=np.int64),
        cpu_total=np.zeros(shape),
    )


def record_reports(reports: Reports, log: RequestLog, loads: LoadLog, outcomes: Outcomes, slots: I64) -> None:
    """Requests have completed, oldest first in each fleet; `slots` [B, S] as declared."""
    _record(reports, log, loads, outcomes.start, outcomes.stop, slots)


@compiled
def _take_report(reports: Reports, loads: LoadLog, b: int, s: int, request: int, slots: int, now_s: float) -> None:
    inside = loads.in_flight[b, request]
    queued = float(max(0, inside - slots))
    gain = REPORT_GAIN if reports.reports[b, s] > 0 else 1.0
    reports.queued_mean[b, s] += gain * (queued - reports.queued_mean[b, s])
    reports.in_flight[b, s] = inside
    reports.cpu_utilization[b, s] = loads.cpu_utilization[b, request]
    reports.memory_utilization[b, s] = loads.memory_utilization[b, request]
    reports.reported_s[b, s] = now_s
    reports.reports[b, s] += 1
    reports.cpu_total[b, s] += loads.cpu_utilization[b, request]


@compiled
def _take_times(reports: Reports, b: int, s: int, response_s: float, service_s: float) -> None:
    gain = REPORT_GAIN if reports.response_mean_s[b, s] > 0.0 else 1.0
    reports.response_mean_s[b, s] += gain * (response_s - reports.response_mean_s[b, s])
    if service_s > 0.0:  # a server that does not report its service times would look infinitely fast
        gain = REPORT_GAIN if reports.service_mean_s[b, s] > 0.0 else 1.0
        reports.service_mean_s[b, s] += gain * (service_s - reports.service_mean_s[b, s])
    reports.outcomes[b, s] += 1


@compiled
def _record(reports: Reports, log: RequestLog, loads: LoadLog, start: I64, stop: I64, slots: I64) -> None:
    for b in range(start.shape[0]):
        for place in range(start[b], stop[b]):
            request = log.order[b, place]
            s, status = log.server[b, request], log.status[b, request]
            if status != SERVED and status != FAILED:
                continue
            if loads.in_flight[b, request] >= 0:
                _take_report(reports, loads, b, s, request, slots[b, s], log.completed_s[b, request])
            failed = status == FAILED
            reports.failures[b, s] += failed
            latency_s = log.latency_s[b, request]
            if failed:
                _take_times(reports, b, s, max(latency_s, FAILURE_SAMPLE_S), FAILURE_SAMPLE_S)
            else:
                _take_times(reports, b, s, latency_s, log.service_s[b, request])

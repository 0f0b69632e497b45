"""What a balancer can know: in-flight requests, averages and rates, kept from 'dispatched' and 'completed' alone.

Twin, live fleet and gateway keep the same ledger through the same functions, so that a feature means the same in training
and in use. It has one writer; time comes in with the requests, and nothing here looks at a clock or at a server.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trimtab.core.compiled import compiled
from trimtab.core.moods import FAILURE_S, Moods, empty_moods, note_dispatch, note_outcomes, read_moods
from trimtab.core.moods import PER_REQUEST as MOODS_PER_REQUEST
from trimtab.core.request_log import FAILED, I64, SERVED, Outcomes, RequestLog

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

SERVICE_GAIN: Final = 0.05  # of the service-time average: at .4 the pinned `sed-online` is 18 % worse in the mean
PLAIN_SAMPLES: Final = 20  # before that the plain mean: a moving average would remember its first sample too long
FAILURE_SAMPLE_S: Final = FAILURE_S  # a failure counts as this slow; at zero a fast-failing server would attract all traffic
PEAK_DECAY_S: Final = 10.0  # time constant of peak-EWMA (Finagle, Linkerd, NGINX ingress all use 10 s)
FAST_GAIN: Final = 0.3  # of the ratio of actual to expected service: sees a slow spell within about three requests
SLOW_GAIN: Final = 0.05
ERROR_GAIN: Final = 0.1
ARRIVAL_GAIN: Final = 0.02
UNSEEN_FACTOR: Final = 0.7  # an unseen server is assumed this much faster than the seen ones, so that it is tried early


class Ledger(NamedTuple):
    """State of B ledgers over S servers and K classes; `N` requests at most are known at a time."""

    in_flight: I64  # [B, S, K]
    outstanding: I64  # [B, S] the same over all classes
    service_s: F64  # [B, S, K] mean service time, 0 before the first sample
    samples: I64  # [B, S, K]
    latency_peak_s: F64  # [B, S] peak-EWMA of the latency at `latency_stamp_s`
    latency_stamp_s: F64  # [B, S]
    ratio_fast: F64  # [B, S] actual / expected service of recent requests
    ratio_slow: F64  # [B, S]
    error_rate: F64  # [B, S] of recent requests
    last_completion_s: F64  # [B, S]
    gap_s: F64  # [B] mean time between arrivals
    last_arrival_s: F64  # [B]
    class_share: F64  # [B, K] of recent arrivals
    dispatched_s: F64  # [B, N] of a request in flight
    newer: I32  # [B, N] next younger request in flight on the same server, -1 none
    older: I32  # [B, N]
    oldest: I32  # [B, S] oldest request in flight, -1 none
    youngest: I32  # [B, S]
    moods: Moods


PER_REQUEST: Final = frozenset({"dispatched_s", "newer", "older"}) | MOODS_PER_REQUEST


def empty_ledger(batch: int, servers: int, classes: int, requests: int, slots: I64 | None = None) -> Ledger:
    """A ledger that has seen nothing. `slots` [B, S] are the declared ones, one each where it is None."""
    pair, triple = (batch, servers), (batch, servers, classes)
    return Ledger(
        in_flight=np.zeros(triple, dtype=np.int64),
        outstanding=np.zeros(pair, dtype=np.int64),
        service_s=np.zeros(triple),
        samples=np.zeros(triple, dtype=np.int64),
        latency_peak_s=np.zeros(pair),
        latency_stamp_s=np.zeros(pair),
        ratio_fast=np.ones(pair),
        ratio_slow=np.ones(pair),
        error_rate=np.zeros(pair),
        last_completion_s=np.zeros(pair),
        gap_s=np.zeros(batch),
        last_arrival_s=np.zeros(batch),
        class_share=np.full((batch, classes), 1.0 / classes),
        dispatched_s=np.zeros((batch, requests), order="F"),
        newer=np.full((batch, requests), -1, dtype=np.int32, order="F"),
        older=np.full((batch, requests), -1, dtype=np.int32, order="F"),
        oldest=np.full(pair, -1, dtype=np.int32),
        youngest=np.full(pair, -1, dtype=np.int32),
        moods=empty_moods(np.ones(pair, dtype=np.int64) if slots is None else slots, classes, requests),
    )


def record_dispatch(ledger: Ledger, log: RequestLog, request: int, server: I64, now_s: F64) -> None:
    """Every fleet sent its request number `request` to `server` [B] at `now_s` [B]."""
    _dispatch(ledger, log.request_class, request, server, now_s)
    note_dispatch(ledger.moods, log.request_class, request, server, now_s, ledger.outstanding)


def record_outcomes(ledger: Ledger, log: RequestLog, outcomes: Outcomes) -> None:
    """Requests have completed, oldest first in each fleet."""
    note_outcomes(ledger.moods, log, ledger.newer, outcomes.start, outcomes.stop)
    _complete(ledger, log, outcomes.start, outcomes.stop)


def service_estimate_s(ledger: Ledger) -> F64:
    """Expected service time of every server and class, with a prior for pairs that have no sample yet.  # [B, S, K]

    The prior is 0.7 x the mean over the servers that have a sample of that class, else the mean of all known means, else 1.
    """
    estimate = np.empty_like(ledger.service_s)
    _estimate(ledger.service_s, ledger.samples, estimate)
    return estimate


def mood_columns(ledger: Ledger, service_s: F64, request_class: I32, now_s: F64) -> F64:
    """Columns of `core.moods` for the request that is about to be sent; `service_s` is `service_estimate_s`.  # [B, S, columns]"""
    return read_moods(ledger.moods, ledger.in_flight, ledger.oldest, ledger.newer, service_s, request_class, now_s)


@compiled
def _dispatch(ledger: Ledger, request_class: I32, request: int, server: I64, now_s: F64) -> None:
    for b in range(server.shape[0]):
        s, k, now = server[b], request_class[b, request], now_s[b]
        ledger.in_flight[b, s, k] += 1
        ledger.outstanding[b, s] += 1
        ledger.dispatched_s[b, request] = now
        last = ledger.youngest[b, s]
        ledger.older[b, request] = last
        ledger.newer[b, request] = -1
        if last >= 0:
            ledger.newer[b, last] = request
        else:
            ledger.oldest[b, s] = request
        ledger.youngest[b, s] = request
        gap = now - ledger.last_arrival_s[b]
        known = ledger.gap_s[b]
        ledger.gap_s[b] = gap if known == 0.0 else known + ARRIVAL_GAIN * (gap - known)
        ledger.last_arrival_s[b] = now
        for j in range(ledger.class_share.shape[1]):
            ledger.class_share[b, j] *= 1.0 - ARRIVAL_GAIN
        ledger.class_share[b, k] += ARRIVAL_GAIN


@compiled
def _unlink(ledger: Ledger, b: int, s: int, request: int) -> None:
    before, after = ledger.older[b, request], ledger.newer[b, request]
    if before >= 0:
        ledger.newer[b, before] = after
    else:
        ledger.oldest[b, s] = after
    if after >= 0:
        ledger.older[b, after] = before
    else:
        ledger.youngest[b, s] = before


@compiled
def _learn_service(ledger: Ledger, b: int, s: int, k: int, sample_s: float) -> None:
    seen = ledger.samples[b, s, k]
    mean = ledger.service_s[b, s, k]
    if seen > 0 and mean > 0.0:
        ratio = sample_s / mean
        ledger.ratio_fast[b, s] += FAST_GAIN * (ratio - ledger.ratio_fast[b, s])
        ledger.ratio_slow[b, s] += SLOW_GAIN * (ratio - ledger.ratio_slow[b, s])
    gain = 1.0 / (seen + 1) if seen < PLAIN_SAMPLES else SERVICE_GAIN
    ledger.service_s[b, s, k] = mean + gain * (sample_s - mean)
    ledger.samples[b, s, k] = seen + 1


@compiled
def _learn_latency(ledger: Ledger, b: int, s: int, latency_s: float, now_s: float) -> None:
    peak = ledger.latency_peak_s[b, s]
    kept = np.exp((ledger.latency_stamp_s[b, s] - now_s) / PEAK_DECAY_S)
    # Finagle's rule: jump up to a peak at once, come down slowly.
    ledger.latency_peak_s[b, s] = latency_s if latency_s > peak else peak * kept + latency_s * (1.0 - kept)
    ledger.latency_stamp_s[b, s] = now_s


@compiled
def _complete(ledger: Ledger, log: RequestLog, start: I64, stop: I64) -> None:
    for b in range(start.shape[0]):
        for place in range(start[b], stop[b]):
            request = log.order[b, place]
            s, k, status = log.server[b, request], log.request_class[b, request], log.status[b, request]
            _unlink(ledger, b, s, request)
            ledger.in_flight[b, s, k] -= 1
            ledger.outstanding[b, s] -= 1
            if status != SERVED and status != FAILED:
                continue
            failed = status == FAILED
            now = log.completed_s[b, request]
            latency = log.latency_s[b, request]
            sample = FAILURE_SAMPLE_S if failed else log.service_s[b, request]
            if sample > 0.0:  # a server that does not report its service times would look infinitely fast
                _learn_service(ledger, b, s, k, sample)
            _learn_latency(ledger, b, s, max(latency, FAILURE_SAMPLE_S) if failed else latency, now)
            ledger.error_rate[b, s] += ERROR_GAIN * ((1.0 if failed else 0.0) - ledger.error_rate[b, s])
            ledger.last_completion_s[b, s] = now


@compiled
def _estimate(service_s: F64, samples: I64, estimate: F64) -> None:
    batch, servers, classes = service_s.shape
    for b in range(batch):
        every_sum, every_count = 0.0, 0
        missing = False
        for s in range(servers):
            for k in range(classes):
                if samples[b, s, k] > 0:
                    every_sum += service_s[b, s, k]
                    every_count += 1
                    estimate[b, s, k] = service_s[b, s, k]
                else:
                    missing = True
        if not missing:
            continue
        fallback = every_sum / every_count if every_count else 1.0
        for k in range(classes):
            class_sum, class_count = 0.0, 0
            for s in range(servers):
                if samples[b, s, k] > 0:
                    class_sum += service_s[b, s, k]
                    class_count += 1
            prior = UNSEEN_FACTOR * class_sum / class_count if class_count else fallback
            for s in range(servers):
                if samples[b, s, k] == 0:
                    estimate[b, s, k] = prior

"""What the network sees: one row of numbers a server, all relative to the fleet's own mean service time.

Relative, so that one network serves every fleet: a server of 10 ms requests and one of 10 s look the same. Everything is
computed from the ledger, hence from what a balancer can know.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from trimtab.core.compiled import compiled
from trimtab.core.ledger import Ledger, service_estimate_s
from trimtab.core.request_log import F64, I32, I64
from trimtab.core.view import Truth, View

F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
LOAD_CEILING: Final = 4.0
PROVEN: Final = 20.0  # samples after which a mean is as good as it gets
CEILING: Final = 20.0  # of every ratio: without it one frozen server would dominate a batch of gradients

FEATURES: Final = (
    "in_flight",  # log(1 + requests in flight)
    "slots",  # log(slots)
    "free_slots",  # share of the slots that is free, from in-flight alone
    "work_ahead",  # expected work in flight / slots
    "wait",  # expected wait, as `sed-online` estimates it
    "own_service",  # expected service time of this request's class here
    "delay",  # wait + own service
    "delay_excess",  # delay beyond that of the best server
    "own_rank",  # log(own service / the best server's)
    "affinity",  # log(own service / the server's mean over classes): is it good at this class in particular?
    "samples",  # min(samples of this class, 20) / 20
    "ratio_fast",  # log(recent actual / expected service), about the last three requests
    "ratio_slow",  # the same over about the last twenty
    "age",  # age of the oldest request in flight / the time it was expected to take
    "error_rate",  # of recent requests
    "silence",  # time since the last completion, if anything is in flight
    "load",  # arrival rate x mean service time / all slots
    "share_of_class",  # how common this request's class is
)


def observation(view: View[Truth]) -> F32:
    """The network's input.  # [B, S, F] in the order of `FEATURES`; unavailable servers have rows too"""
    rows = np.empty((*view.slots.shape, len(FEATURES)), dtype=np.float32)
    scratch = np.empty((2, view.slots.shape[1]))
    service = service_estimate_s(view.ledger)
    _fill(view.ledger, service, view.now_s, view.request_class, view.available, view.slots, scratch[0], scratch[1], rows)
    return rows


@compiled
def _fleet_service_s(service: F64, share: F64, slots: I64, b: int, mix: F64) -> float:
    """Fill `mix` [S], each server's mean service time over the classes; return the fleet's, weighted by service rate."""
    total, rate = 0.0, 0.0
    for s in range(service.shape[1]):
        mean = 0.0
        for k in range(service.shape[2]):
            mean += share[b, k] * service[b, s, k]
        mix[s] = max(mean, 1e-9)
        total += slots[b, s]
        rate += slots[b, s] / mix[s]
    return total / rate


@compiled
def _work_s(in_flight: I64, service: F64, b: int, s: int) -> float:
    work = 0.0
    for k in range(service.shape[2]):
        work += in_flight[b, s, k] * service[b, s, k]
    return work


@compiled
def _wait_s(work_s: float, outstanding: int, slots: int) -> float:
    """Expected wait: nothing while a slot is free, else the mean service in flight x the turns until one is ours."""
    if outstanding < slots:
        return 0.0
    return work_s / outstanding * (outstanding + 1 - slots) / slots


@compiled
def _bounded(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@compiled
def _server_row(
    ledger: Ledger, b: int, s: int, own: float, wait: float, work: float, slots: int, unit: float, now: float, row: F32
) -> None:
    """The columns that need one server alone."""
    free = max(0.0, 1.0 - ledger.outstanding[b, s] / slots)
    busy = ledger.outstanding[b, s]
    row[0], row[1], row[2] = np.log1p(busy), np.log(slots), free
    row[3] = min(work / slots / unit, CEILING)
    row[4] = min(wait / unit, CEILING)
    row[5] = min(own / unit, CEILING)
    row[6] = min((wait + own) / unit, CEILING)
    row[11] = _bounded(np.log(ledger.ratio_fast[b, s]), -3.0, 3.0)
    row[12] = _bounded(np.log(ledger.ratio_slow[b, s]), -3.0, 3.0)
    row[13], row[15] = 0.0, 0.0
    oldest = ledger.oldest[b, s]
    if oldest >= 0:
        sent = ledger.dispatched_s[b, oldest]
        row[13] = min((now - sent) / (work / busy * max(1.0, busy / slots)), CEILING)
        # A live answer may be booked after the scheduled arrival that it preceded, hence the lower bound.
        row[15] = _bounded((now - max(ledger.last_completion_s[b, s], sent)) / unit, 0.0, CEILING)
    row[14] = ledger.error_rate[b, s]


@compiled
def _fill(
    ledger: Ledger, service: F64, now_s: F64, request_class: I32, available: Mask, slots: I64, mix: F64, delay: F64, rows: F32
) -> None:
    """`mix` and `delay` [S] are scratch space."""
    batch, servers, _ = service.shape
    for b in range(batch):
        k = request_class[b]
        unit = _fleet_service_s(service, ledger.class_share, slots, b, mix)
        least_delay, least_service, every_slot = np.inf, np.inf, 0
        for s in range(servers):
            work = _work_s(ledger.in_flight, service, b, s)
            wait = _wait_s(work, ledger.outstanding[b, s], slots[b, s])
            delay[s] = wait + service[b, s, k]
            every_slot += slots[b, s]
            if available[b, s]:
                least_delay = min(least_delay, delay[s])
                least_service = min(least_service, service[b, s, k])
            _server_row(ledger, b, s, service[b, s, k], wait, work, slots[b, s], unit, now_s[b], rows[b, s])
        load = min(unit / max(ledger.gap_s[b], 1e-9) / every_slot, LOAD_CEILING)
        for s in range(servers):
            own, row = service[b, s, k], rows[b, s]
            row[7] = min(max(0.0, delay[s] - least_delay) / unit, CEILING)
            row[8] = _bounded(np.log(own / least_service), -3.0, 3.0)
            row[9] = _bounded(np.log(own / mix[s]), -3.0, 3.0)
            row[10] = min(ledger.samples[b, s, k], PROVEN) / PROVEN
            row[16] = load
            row[17] = ledger.class_share[b, k]

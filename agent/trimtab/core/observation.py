"""What the network sees: one row of numbers a server, all relative to the fleet's own mean service time.

Relative, so that one network serves every fleet: a server of 10 ms requests and one of 10 s look the same. Everything is
computed from the ledger, hence from what a balancer can know.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trimtab.core.compiled import compiled
from trimtab.core.ledger import Ledger, mood_columns, service_estimate_s
from trimtab.core.moods import COLUMNS
from trimtab.core.request_log import F64, I32, I64
from trimtab.core.view import Truth, View

F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
LOAD_CEILING: Final = 4.0
PROVEN: Final = 20.0  # samples after which a mean is as good as it gets
LOG_CEILING: Final = 8.0  # e^8 mean service times: a minute of 20 ms requests
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
    # From here on: what `core.moods` infers. Logarithms instead of a ceiling: with long queues everywhere, the longer must still be seen.
    "expected_cost",  # log(1 + expected delay, slow spells and failures considered)
    "log_delay",  # log(1 + delay), without the ceiling
    "log_own",  # log(own service if the server is well)
    "log_wait",  # log(1 + wait if the server is well, less what is already done)
    "slow_share",  # probability that the server is in a slow spell
    "last_ratio",  # log(actual / expected service) of the last answer
    "recent_ratio",  # the same over about the last three
    "long_ratio",  # and over about the last twelve
    "overdue",  # log(time in service / expected) of the request most overdue
    "mean_overdue",  # the same, summed over the requests in service, divided by the slots
    "progress",  # time that requests in service have had / slots
    "stale",  # log(1 + time since the last answer)
    "contention",  # slope of service time per other busy slot
    "spread",  # variance of log service time of this class
    "uncertainty",  # 1 / sqrt(samples of this class here)
    "failing",  # share of recent answers that failed, forgotten with time
)
_OWN, _LEFT, _DELAY, _SLOW = (COLUMNS.index(name) for name in ("own_s", "left_s", "delay_s", "slow_share"))
_LAST, _RECENT, _LONG = (COLUMNS.index(name) for name in ("last_ratio", "recent_ratio", "long_ratio"))
_OVERDUE, _MEAN, _ELAPSED = (COLUMNS.index(name) for name in ("overdue", "mean_overdue", "elapsed_s"))
_SLOPE, _SPREAD, _UNSURE, _FAILING = (COLUMNS.index(name) for name in ("contention", "spread", "uncertainty", "failing"))
EXPECTED_COST: Final = FEATURES.index("expected_cost")


def observation(view: View[Truth]) -> F32:
    """The network's input.  # [B, S, F] in the order of `FEATURES`; unavailable servers have rows too"""
    rows = np.empty((*view.slots.shape, len(FEATURES)), dtype=np.float32)
    scratch = np.empty((2, view.slots.shape[1]))
    service = service_estimate_s(view.ledger)
    moods = mood_columns(view.ledger, service, view.request_class, view.now_s)
    _fill(_known(view.ledger), service, moods, view.now_s, view.request_class, view.available, view.slots, scratch[0], scratch[1], rows)
    return rows


class _Known(NamedTuple):
    """What the rows need of the ledger: a compiled call pays for every array that it is handed, most of all with cold caches."""

    in_flight: I64
    outstanding: I64
    samples: I64
    ratio_fast: F64
    ratio_slow: F64
    error_rate: F64
    last_completion_s: F64
    gap_s: F64
    class_share: F64
    dispatched_s: F64
    oldest: I32


def _known(all_: Ledger) -> _Known:
    rates = all_.ratio_fast, all_.ratio_slow, all_.error_rate, all_.last_completion_s, all_.gap_s, all_.class_share
    return _Known(all_.in_flight, all_.outstanding, all_.samples, *rates, all_.dispatched_s, all_.oldest)


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
    ledger: _Known, b: int, s: int, own: float, wait: float, work: float, slots: int, unit: float, now: float, row: F32
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
def _mood_row(ledger: _Known, mood: F64, b: int, s: int, delay: float, slots: int, unit: float, now: float, row: F32) -> None:
    row[18] = np.log1p(mood[_DELAY] / unit)
    row[19] = np.log1p(delay / unit)
    row[20] = _bounded(np.log(mood[_OWN] / unit), -LOG_CEILING, LOG_CEILING)
    row[21] = np.log1p(mood[_LEFT] / unit)
    row[22] = mood[_SLOW]
    row[23], row[24], row[25] = mood[_LAST], mood[_RECENT], mood[_LONG]
    row[26], row[27] = mood[_OVERDUE], mood[_MEAN]
    row[28] = min(mood[_ELAPSED] / slots / unit, CEILING)
    row[29] = min(np.log1p(max(now - ledger.last_completion_s[b, s], 0.0) / unit), LOG_CEILING)
    row[30], row[31], row[32], row[33] = mood[_SLOPE], mood[_SPREAD], mood[_UNSURE], mood[_FAILING]


@compiled
def _fill(
    ledger: _Known, service: F64, moods: F64, now_s: F64, request_class: I32, available: Mask, slots: I64, mix: F64, delay: F64, rows: F32
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
            _mood_row(ledger, moods[b, s], b, s, delay[s], slots[b, s], unit, now_s[b], row)
            row[16] = load
            row[17] = ledger.class_share[b, k]

"""The twin's event engine.

A server serves first in, first out in `slots` slots. So a request's start is the first moment, not before its arrival, at
which a slot is free, and every earlier request has fixed those moments already (the Kiefer-Wolfowitz recursion, 1955). Its fate
is therefore known when it is sent, and the only events left to order are completions, which a heap holds per fleet.
"""

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.request_log import F64, FAILED, I64, SERVED, RequestLog
from trimtab.fleets.base import Mask
from trimtab.fleets.twin_state import AWAY, CRASH, ERROR_SHARE, FAIL_FAST, FREEZE, SLOWDOWN, TwinModel, TwinState

BEST_MARGIN = 1.01


@compiled
def _active(model: TwinModel, b: int, s: int, kind: int, t: float) -> int:
    """Index of the fault of this kind that is on at time t, -1 none."""
    for m in range(model.fault_count[b, s]):
        if model.fault_start_s[b, s, m] > t:
            break
        if model.fault_kind[b, s, m] == kind and t < model.fault_end_s[b, s, m]:
            return m
    return -1


@compiled
def _slowdown(model: TwinModel, b: int, s: int, t: float) -> float:
    factor = 1.0
    for m in range(model.fault_count[b, s]):
        if model.fault_start_s[b, s, m] > t:
            break
        if model.fault_kind[b, s, m] == SLOWDOWN and t < model.fault_end_s[b, s, m]:
            factor *= model.fault_value[b, s, m]
    return factor


@compiled
def _start_s(model: TwinModel, state: TwinState, b: int, s: int, t: float) -> float:
    """When a request that arrives at t enters a slot: as soon as one is free and the server is not frozen."""
    start = max(t, float(state.next_free_s[b, s]))
    for m in range(model.fault_count[b, s]):
        if model.fault_kind[b, s, m] == FREEZE and model.fault_start_s[b, s, m] <= start < model.fault_end_s[b, s, m]:
            start = model.fault_end_s[b, s, m]
    return start


@compiled
def _service_s(model: TwinModel, state: TwinState, b: int, s: int, k: int, work_s: float, start: float) -> float:
    """Service time of a service that begins at `start`: contention and slowdown are those of that moment."""
    service = float(work_s / model.speed[b, s, k])
    if model.contention[b, s] > 0.0:
        others = 0
        for c in range(model.slots[b, s]):
            if state.free_s[b, s, c] > start:
                others += 1
        service *= 1.0 + model.contention[b, s] * min(others, model.slots[b, s] - 1)
    if model.fault_count[b, s] > 0:
        service *= _slowdown(model, b, s, start)
    return service


@compiled
def _end_s(model: TwinModel, b: int, s: int, start: float, service: float) -> float:
    """End of a service, stretched by every freeze that falls into it."""
    end, thawed = start + service, start
    for m in range(model.fault_count[b, s]):
        if model.fault_kind[b, s, m] == FREEZE and start <= model.fault_start_s[b, s, m] < end:
            # Freezes may overlap; time that two of them cover stands still once.
            end += max(0.0, model.fault_end_s[b, s, m] - max(model.fault_start_s[b, s, m], thawed))
            thawed = max(thawed, model.fault_end_s[b, s, m])
    return end


@compiled
def _crash_s(model: TwinModel, b: int, s: int, t: float, end: float) -> float:
    """The first crash after t and before `end`, infinity if none."""
    for m in range(model.fault_count[b, s]):
        if model.fault_kind[b, s, m] == CRASH and t < model.fault_start_s[b, s, m] < end:
            return float(model.fault_start_s[b, s, m])
    return np.inf


@compiled
def _occupy(model: TwinModel, state: TwinState, b: int, s: int, start: float, until: float) -> None:
    """Take the slot that is free at `start` (the one free first) until `until`."""
    taken, least, second = 0, np.inf, np.inf
    for c in range(model.slots[b, s]):
        free = state.free_s[b, s, c]
        if free < least:
            second, least, taken = least, free, c
        elif free < second:
            second = free
    state.free_s[b, s, taken] = until
    state.next_free_s[b, s] = min(second, until)


@compiled
def _wrapped(place: int, ring: int) -> int:
    """`place` in a ring; at most one turn beyond it, where a comparison is much cheaper than a remainder."""
    return place - ring if place >= ring else place


@compiled
def _refused_s(model: TwinModel, state: TwinState, b: int, s: int, t: float, start: float) -> float:
    """Delay after which the server turns the request away, -1 if it takes it."""
    if model.fault_count[b, s] > 0:
        if _active(model, b, s, CRASH, t) >= 0 or _active(model, b, s, AWAY, t) >= 0:
            return 0.0
        fault = _active(model, b, s, FAIL_FAST, t)
        if fault >= 0:
            return float(model.fault_value[b, s, fault])
    if start > t:
        ring = state.waiting_start_s.shape[2]
        while state.waiting_count[b, s] > 0 and state.waiting_start_s[b, s, state.waiting_first[b, s]] <= t:
            state.waiting_first[b, s] = _wrapped(state.waiting_first[b, s] + 1, ring)
            state.waiting_count[b, s] -= 1
        if state.waiting_count[b, s] >= model.queue_limit[b, s]:
            return 0.0
    return -1.0


@compiled
def _wait_in_line(state: TwinState, b: int, s: int, start: float) -> None:
    ring = state.waiting_start_s.shape[2]
    state.waiting_start_s[b, s, _wrapped(state.waiting_first[b, s] + state.waiting_count[b, s], ring)] = start
    state.waiting_count[b, s] += 1


@compiled
def _admit(model: TwinModel, state: TwinState, log: RequestLog, b: int, s: int, k: int, request: int, t: float) -> float:
    """Fix the fate of a request and return when it ends."""
    start = _start_s(model, state, b, s, t)
    refused = _refused_s(model, state, b, s, t, start)
    if refused >= 0.0:
        log.status[b, request] = FAILED
        state.quiet_latency_s[b, request] = refused
        return t + refused
    service = _service_s(model, state, b, s, k, log.work_s[b, request], start)
    quiet = max(t, state.next_free_s[b, s]) + service
    end, crash, errors = start + service, np.inf, -1
    if model.fault_count[b, s] > 0:
        end = _end_s(model, b, s, start, service)
        crash = _crash_s(model, b, s, t, end)
        errors = _active(model, b, s, ERROR_SHARE, t)
    failed = crash < end or (errors >= 0 and state.error_draw[b, request] < model.fault_value[b, s, errors])
    if start > t:
        _wait_in_line(state, b, s, min(start, crash))
    if start < crash:  # what would start later never takes a slot
        _occupy(model, state, b, s, start, min(end, crash))
    log.status[b, request] = FAILED if failed else SERVED
    log.service_s[b, request] = max(0.0, min(end, crash) - start)  # a crash cuts it off, or keeps it from starting
    log.queue_s[b, request] = min(start, crash) - t
    state.quiet_latency_s[b, request] = quiet - t
    return min(end, crash)


@compiled
def _is_best(model: TwinModel, state: TwinState, b: int, chosen: int, k: int, t: float) -> bool:
    """Is the chosen server's expected completion (work ahead + own class mean / speed) within 1 % of the least?"""
    least = np.inf
    for s in range(model.slots.shape[1]):
        if model.fault_count[b, s] == 0 or _active(model, b, s, AWAY, t) < 0:
            least = min(least, max(0.0, state.next_free_s[b, s] - t) + model.mean_service_s[b, s, k])
    own = max(0.0, state.next_free_s[b, chosen] - t) + model.mean_service_s[b, chosen, k]
    return bool(own <= BEST_MARGIN * least)


@compiled
def _push(state: TwinState, b: int, due: float, request: int) -> None:
    place = state.due_count[b]
    state.due_count[b] = place + 1
    while place > 0:
        parent = (place - 1) >> 1
        if state.due_s[b, parent] <= due:
            break
        state.due_s[b, place] = state.due_s[b, parent]
        state.due_request[b, place] = state.due_request[b, parent]
        place = parent
    state.due_s[b, place] = due
    state.due_request[b, place] = request


@compiled
def _pop(state: TwinState, b: int) -> None:
    count = state.due_count[b] - 1
    state.due_count[b] = count
    due, request = state.due_s[b, count], state.due_request[b, count]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= count:
            break
        if child + 1 < count and state.due_s[b, child + 1] < state.due_s[b, child]:
            child += 1
        if due <= state.due_s[b, child]:
            break
        state.due_s[b, place] = state.due_s[b, child]
        state.due_request[b, place] = state.due_request[b, child]
        place = child
    state.due_s[b, place] = due
    state.due_request[b, place] = request


@compiled
def dispatch(model: TwinModel, state: TwinState, log: RequestLog, request: int, server: I64) -> None:
    """Send request number `request` of every fleet to `server` [B] at the fleet's present time."""
    for b in range(server.shape[0]):
        s, t, k = server[b], state.now_s[b], log.request_class[b, request]
        log.server[b, request] = s
        state.best[b, request] = _is_best(model, state, b, s, k, t)
        end = _admit(model, state, log, b, s, k, request, t) + model.overhead_s[b]
        log.completed_s[b, request] = end
        log.latency_s[b, request] = end - log.scheduled_s[b, request]
        state.quiet_latency_s[b, request] += model.overhead_s[b]
        _push(state, b, end, request)


@compiled
def advance(state: TwinState, log: RequestLog, deadline_s: F64) -> None:
    """Complete everything due by `deadline_s` [B], oldest first, and set the clocks to it (or to the last completion)."""
    for b in range(deadline_s.shape[0]):
        while state.due_count[b] > 0 and state.due_s[b, 0] <= deadline_s[b]:
            due, request = state.due_s[b, 0], state.due_request[b, 0]
            _pop(state, b)
            log.order[b, log.completed[b]] = request
            log.completed[b] += 1
            state.now_s[b] = due
        if deadline_s[b] < np.inf:
            state.now_s[b] = deadline_s[b]


@compiled
def availability(model: TwinModel, state: TwinState, mask: Mask) -> None:
    """Fill `mask` [B, S]: which servers are members of the fleet now."""
    for b in range(mask.shape[0]):
        for s in range(mask.shape[1]):
            mask[b, s] = model.fault_count[b, s] == 0 or _active(model, b, s, AWAY, state.now_s[b]) < 0


@compiled
def foresee(model: TwinModel, state: TwinState, log: RequestLog, request: int, slowness: F64, down: Mask, delay_s: F64) -> None:
    """Fill the oracle's arrays [B, S] for the request that is about to be sent."""
    for b in range(slowness.shape[0]):
        t, k = state.now_s[b], log.request_class[b, request]
        for s in range(slowness.shape[1]):
            slowness[b, s] = _service_s(model, state, b, s, k, model.speed[b, s, k], t)
            refuses = _active(model, b, s, CRASH, t) >= 0 or _active(model, b, s, FAIL_FAST, t) >= 0
            down[b, s] = refuses or _active(model, b, s, FREEZE, t) >= 0
            start = _start_s(model, state, b, s, t)
            service = _service_s(model, state, b, s, k, log.work_s[b, request], start)
            delay_s[b, s] = np.inf if refuses else _end_s(model, b, s, start, service) - t

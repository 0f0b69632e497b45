"""The twin's memory: the fleets' constants and their state as arrays, built from scenarios."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trimtab.core.request_log import F64, I64
from trimtab.core.scenario import Fault, Scenario

I32 = npt.NDArray[np.int32]

SLOWDOWN: Final = 0
FAIL_FAST: Final = 1
ERROR_SHARE: Final = 2
FREEZE: Final = 3
CRASH: Final = 4
AWAY: Final = 5  # not a member of the fleet: after `leave`, before `join`
_KINDS: Final = {"slowdown": SLOWDOWN, "fail_fast": FAIL_FAST, "error_share": ERROR_SHARE, "freeze": FREEZE, "crash": CRASH}


class TwinModel(NamedTuple):
    """What does not change during an episode. M faults a server at most, sorted by start."""

    slots: I64  # [B, S]
    mean_service_s: F64  # [B, S, K]
    speed: F64  # [B, S, K]
    contention: F64  # [B, S]
    queue_limit: I64  # [B, S]
    overhead_s: F64  # [B]
    fault_count: I64  # [B, S]
    fault_kind: I64  # [B, S, M]
    fault_start_s: F64  # [B, S, M]
    fault_end_s: F64  # [B, S, M]
    fault_value: F64  # [B, S, M] factor, delay in seconds, or share


class TwinState(NamedTuple):
    """What does change."""

    now_s: F64  # [B]
    free_s: F64  # [B, S, C] when each slot is free again
    next_free_s: F64  # [B, S] the least of them
    waiting_start_s: F64  # [B, S, Q] ring of the starts of those that wait
    waiting_first: I64  # [B, S]
    waiting_count: I64  # [B, S]
    due_s: F64  # [B, N] heap of completions; memory runs along B, so that the roots of all heaps lie side by side
    due_request: I32  # [B, N]
    due_count: I64  # [B]
    error_draw: F64  # [B, N] uniform, decides `error_share`
    quiet_latency_s: F64  # [B, N] response time if no crash or freeze came after dispatch: all that can be known then
    best: npt.NDArray[np.bool_]  # [B, N] server within 1 % of the least expected completion


PER_REQUEST: Final = frozenset({"due_s", "due_request", "error_draw", "quiet_latency_s", "best"})


def build_model(scenarios: Sequence[Scenario]) -> TwinModel:
    """Constants of B fleets of equal size."""
    counts = np.array([[len(_faults_of(one, s.id)) for s in one.servers] for one in scenarios], dtype=np.int64)
    shape = (*counts.shape, max(1, int(counts.max())))
    kind, start, end, value = np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for b, scenario in enumerate(scenarios):
        for s, server in enumerate(scenario.servers):
            for m, row in enumerate(_faults_of(scenario, server.id)):
                kind[b, s, m], start[b, s, m], end[b, s, m], value[b, s, m] = row
    return TwinModel(
        slots=np.array([[s.slots for s in one.servers] for one in scenarios], dtype=np.int64),
        mean_service_s=np.array([one.mean_service_s() for one in scenarios]),
        speed=np.array([[[s.speed[k.name] for k in one.classes] for s in one.servers] for one in scenarios], dtype=np.float64),
        contention=np.array([[s.contention for s in one.servers] for one in scenarios], dtype=np.float64),
        queue_limit=np.array([[s.queue_limit for s in one.servers] for one in scenarios], dtype=np.int64),
        overhead_s=np.array([one.overhead_s for one in scenarios], dtype=np.float64),
        fault_count=counts,
        fault_kind=kind,
        fault_start_s=start,
        fault_end_s=end,
        fault_value=value,
    )


def build_state(model: TwinModel, requests: int, error_draw: F64) -> TwinState:
    """Empty servers at time 0, room for `requests` a fleet."""
    batch, servers = model.slots.shape
    per_request = (batch, requests)
    ring = max(1, min(int(model.queue_limit.max()), requests))
    widest = int(model.slots.max())
    free = np.where(np.arange(widest) < model.slots[:, :, None], 0.0, np.inf)  # a server has only its own slots
    return TwinState(
        now_s=np.zeros(batch),
        free_s=free,
        next_free_s=np.zeros((batch, servers)),
        waiting_start_s=np.zeros((batch, servers, ring)),
        waiting_first=np.zeros((batch, servers), dtype=np.int64),
        waiting_count=np.zeros((batch, servers), dtype=np.int64),
        due_s=np.zeros(per_request, order="F"),
        due_request=np.zeros(per_request, dtype=np.int32, order="F"),
        due_count=np.zeros(batch, dtype=np.int64),
        error_draw=error_draw,
        quiet_latency_s=np.zeros(per_request, order="F"),
        best=np.zeros(per_request, dtype=np.bool_, order="F"),
    )


def _faults_of(scenario: Scenario, server: str) -> list[tuple[int, float, float, float]]:
    """Rows (kind, start, end, value) of one server, by start."""
    return sorted((_row(one) for one in scenario.faults if one.server == server), key=lambda row: row[1])


def _row(fault: Fault) -> tuple[int, float, float, float]:
    if fault.kind == "leave":
        return AWAY, fault.start_s, fault.end_s, 0.0
    if fault.kind == "join":
        return AWAY, 0.0, fault.start_s, 0.0
    value = {"slowdown": fault.factor, "fail_fast": fault.after_s, "error_share": fault.share}.get(fault.kind, 0.0)
    return _KINDS[fault.kind], fault.start_s, fault.end_s, value

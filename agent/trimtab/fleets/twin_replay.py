"""What the twin's servers would say of themselves, replayed from the log for policies that ask; for others it costs nothing.

The fate of a request is fixed when it is sent, so a server's state at an earlier moment can be told afterwards: who had arrived, who had
left, who was in a slot. Reports are made as `servers/jobs.py` makes them: when a request has left its slot and, where one waits, its
successor has taken it. An answer to a probe is the server's state at the moment of the probe, and it is told one overhead later, like any
answer. The replay therefore always stands one overhead behind the clock.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.reports import LoadLog, ProbeLog, empty_load_log, empty_probe_log
from trimtab.core.request_log import F64, I32, I64, SERVED, RequestLog
from trimtab.core.scenario import Scenario
from trimtab.fleets.twin_state import CRASH, TwinModel

BUCKETS: Final = 64  # of recent response times by requests found inside on arrival; the last holds all above. As servers/recent.py
RECENT: Final = 16  # response times kept in each
_ROUNDING_S: Final = 1e-9  # a completion less the overhead is not to the last bit when the next one started


class Replay(NamedTuple):
    """The servers one overhead ago. R buckets, W response times in each; R is 0 where nobody probes."""

    arrived: I64  # [B] requests replayed
    departed: I64  # [B] places of the log's order replayed
    in_flight: I64  # [B, S] requests inside
    serving: I64  # [B, S, K] those in slots
    head: I32  # [B, S] the oldest that has no slot yet, -1 none
    tail: I32  # [B, S] the youngest
    later: I32  # [B, N] the next one on the same server
    found: I32  # [B, N] requests inside when this one arrived
    recent_s: F64  # [B, S, R, W]
    recent_count: I64  # [B, S, R] how many there have been
    class_cpu: F64  # [B, K]
    class_memory: F64  # [B, K]
    server_cpu: F64  # [B, S]
    server_memory: F64  # [B, S]
    sorting_s: F64  # [W] scratch
    probe_server: I64  # [B, M] whom each probe asks
    probe_s: F64  # [B, M] when it was sent
    probes: I64  # [B] how many have been sent
    probed: I64  # [B] how many have come to their server
    answered: I64  # [B] how many have been answered; a crashed server never answers


class Heard(NamedTuple):
    """The replay and what it has written."""

    replay: Replay
    loads: LoadLog
    answers: ProbeLog


def build_replay(scenarios: Sequence[Scenario], model: TwinModel, requests: int, probes: int) -> Heard:
    """Servers at the start of an episode; at most `probes` probes of each fleet, 0 where there will be none."""
    batch, servers, classes = model.mean_service_s.shape
    pair, per_request, per_probe = (batch, servers), (batch, requests), (batch, probes)
    buckets = min(BUCKETS, 1 + int((model.slots + model.queue_limit).max())) if probes else 0
    replay = Replay(
        arrived=np.zeros(batch, dtype=np.int64),
        departed=np.zeros(batch, dtype=np.int64),
        in_flight=np.zeros(pair, dtype=np.int64),
        serving=np.zeros((batch, servers, classes), dtype=np.int64),
        head=np.full(pair, -1, dtype=np.int32),
        tail=np.full(pair, -1, dtype=np.int32),
        later=np.full(per_request, -1, dtype=np.int32, order="F"),
        found=np.zeros(per_request, dtype=np.int32, order="F"),
        recent_s=np.zeros((batch, servers, buckets, RECENT)),
        recent_count=np.zeros((batch, servers, buckets), dtype=np.int64),
        class_cpu=np.array([[k.cpu for k in one.classes] for one in scenarios]),
        class_memory=np.array([[k.memory for k in one.classes] for one in scenarios]),
        server_cpu=np.array([[s.cpu for s in one.servers] for one in scenarios]),
        server_memory=np.array([[s.memory for s in one.servers] for one in scenarios]),
        sorting_s=np.zeros(RECENT),
        probe_server=np.zeros(per_probe, dtype=np.int64, order="F"),
        probe_s=np.zeros(per_probe, order="F"),
        probes=np.zeros(batch, dtype=np.int64),
        probed=np.zeros(batch, dtype=np.int64),
        answered=np.zeros(batch, dtype=np.int64),
    )
    return Heard(replay, empty_load_log(batch, requests), empty_probe_log(batch, probes))


@compiled
def _inside(log: RequestLog, b: int, request: int) -> bool:
    """Was it ever inside the server? What is refused or fails fast neither waits nor is served."""
    return bool(log.queue_s[b, request] > 0.0 or log.service_s[b, request] > 0.0)


@compiled
def _arrive(replay: Replay, log: RequestLog, b: int, request: int) -> None:
    s = log.server[b, request]
    replay.found[b, request] = replay.in_flight[b, s]
    if not _inside(log, b, request):
        return
    replay.in_flight[b, s] += 1
    if replay.head[b, s] < 0:
        replay.head[b, s] = request
    else:
        replay.later[b, replay.tail[b, s]] = request
    replay.tail[b, s] = request


@compiled
def _take_slots(replay: Replay, log: RequestLog, b: int, s: int, instant_s: float) -> None:
    """Everybody whose service has begun by then; first in, first out, so they stand at the head."""
    while True:
        first = replay.head[b, s]
        if first < 0 or log.scheduled_s[b, first] + log.queue_s[b, first] > instant_s + _ROUNDING_S:
            return
        replay.serving[b, s, log.request_class[b, first]] += 1
        replay.head[b, s] = replay.later[b, first]


@compiled
def _depart(replay: Replay, log: RequestLog, loads: LoadLog, b: int, request: int, instant_s: float) -> None:
    s = log.server[b, request]
    _take_slots(replay, log, b, s, instant_s)
    if _inside(log, b, request):
        replay.in_flight[b, s] -= 1
        replay.serving[b, s, log.request_class[b, request]] -= 1
    cpu, memory = 0.0, 0.0
    for k in range(replay.serving.shape[2]):
        cpu += replay.serving[b, s, k] * replay.class_cpu[b, k]
        memory += replay.serving[b, s, k] * replay.class_memory[b, k]
    loads.in_flight[b, request] = replay.in_flight[b, s]
    loads.cpu_utilization[b, request] = cpu / replay.server_cpu[b, s]
    loads.memory_utilization[b, request] = min(1.0, memory / replay.server_memory[b, s])
    buckets = replay.recent_s.shape[2]
    if buckets > 0 and log.status[b, request] == SERVED:
        r = min(replay.found[b, request], buckets - 1)
        replay.recent_s[b, s, r, replay.recent_count[b, s, r] % replay.recent_s.shape[3]] = instant_s - log.scheduled_s[b, request]
        replay.recent_count[b, s, r] += 1


@compiled
def _median_s(replay: Replay, b: int, s: int, r: int) -> float:
    """Upper median of a bucket, by insertion."""
    kept = min(replay.recent_count[b, s, r], replay.recent_s.shape[3])
    for i in range(kept):
        value, place = replay.recent_s[b, s, r, i], i
        while place > 0 and replay.sorting_s[place - 1] > value:
            replay.sorting_s[place] = replay.sorting_s[place - 1]
            place -= 1
        replay.sorting_s[place] = value
    return float(replay.sorting_s[kept // 2])


@compiled
def _typical_s(replay: Replay, b: int, s: int) -> float:
    """Recent response time at the present number inside, else at the nearest one known, the lower of two; 0 where none is."""
    buckets = replay.recent_s.shape[2]
    here = min(replay.in_flight[b, s], buckets - 1)
    for distance in range(buckets):
        if here - distance >= 0 and replay.recent_count[b, s, here - distance] > 0:
            return _median_s(replay, b, s, here - distance)
        if here + distance < buckets and replay.recent_count[b, s, here + distance] > 0:
            return _median_s(replay, b, s, here + distance)
    return 0.0


@compiled
def _is_crashed(model: TwinModel, b: int, s: int, t: float) -> bool:
    for m in range(model.fault_count[b, s]):
        if model.fault_kind[b, s, m] == CRASH and model.fault_start_s[b, s, m] <= t < model.fault_end_s[b, s, m]:
            return True
    return False


@compiled
def _answer(model: TwinModel, replay: Replay, answers: ProbeLog, b: int, probe: int) -> None:
    s, sent_s = replay.probe_server[b, probe], replay.probe_s[b, probe]
    if _is_crashed(model, b, s, sent_s):
        return
    place = replay.answered[b]
    answers.server[b, place] = s
    answers.in_flight[b, place] = replay.in_flight[b, s]
    answers.latency_s[b, place] = _typical_s(replay, b, s)
    answers.answered_s[b, place] = sent_s + model.overhead_s[b]
    replay.answered[b] = place + 1


@compiled
def catch_up(model: TwinModel, log: RequestLog, replay: Replay, loads: LoadLog, answers: ProbeLog, now_s: F64) -> None:
    """Replay everything that happened up to one overhead before `now_s` [B], in order of time."""
    for b in range(now_s.shape[0]):
        overhead_s, requests = model.overhead_s[b], log.scheduled_s.shape[1]
        horizon_s = now_s[b] - overhead_s
        while True:
            n, p, m = replay.arrived[b], replay.departed[b], replay.probed[b]
            arrival_s = log.scheduled_s[b, n] if n < requests and log.server[b, n] >= 0 else np.inf
            left = log.order[b, p] if p < log.completed[b] else requests
            departure_s = log.completed_s[b, left] - overhead_s if left < n else np.inf  # nobody leaves before they have come
            probe_s = replay.probe_s[b, m] if m < replay.probes[b] else np.inf
            if min(arrival_s, departure_s, probe_s) > horizon_s or min(arrival_s, departure_s, probe_s) == np.inf:
                break
            if arrival_s <= departure_s and arrival_s <= probe_s:  # a probe goes out behind the request it was sent with
                _arrive(replay, log, b, n)
                replay.arrived[b] = n + 1
            elif departure_s <= probe_s:
                _depart(replay, log, loads, b, left, departure_s)
                replay.departed[b] = p + 1
            else:
                _answer(model, replay, answers, b, m)
                replay.probed[b] = m + 1


@compiled
def send_probes(replay: Replay, servers: I64, now_s: F64) -> None:
    """Probes to `servers` [B, R] leave at `now_s` [B]; entries below 0 ask nobody."""
    for b in range(servers.shape[0]):
        for r in range(servers.shape[1]):
            if servers[b, r] >= 0:
                replay.probe_server[b, replay.probes[b]] = servers[b, r]
                replay.probe_s[b, replay.probes[b]] = now_s[b]
                replay.probes[b] += 1

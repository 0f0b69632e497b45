"""Rows about single requests, which the episodes of evaluation.csv do not hold: how latencies spread, who got the requests, and how a
fault unfolded. Pure, from the request logs of one policy's episodes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trimtab.core.metrics import FEWEST_BEYOND, quantile_or_nan
from trimtab.core.request_log import F64, FAILED, I8, I32, SERVED, RequestLog
from trimtab.core.scenario import Fault, Scenario
from trimtab.experiments.csv_log import Cell

Row = dict[str, Cell]
KEYS: Final = ("scenario", "backend", "policy")
LATENCY_COLUMNS: Final = (*KEYS, "requests", "failed", "quantile", "latency_ms")
SHARES_COLUMNS: Final = (*KEYS, "server", "class", "decisions", "capacity_share")
TIMELINE_COLUMNS: Final = (
    *KEYS, "episodes", "start_s", "end_s", "server", "requests", "failed", "mean_latency_ms", "p95_latency_ms", "fault",
)  # fmt: skip
WHOLE_FLEET: Final = "*"  # stands for a server in rows about all of them
NOBODY: Final = "none"  # requests that a proxy failed itself
RANK: Final = "rank-"  # stands, with a number from 1, for the servers that have this place in their own fleets
MOST_RANKS: Final = 100
MOST_BINS: Final = 60
_TAIL: Final = (0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 0.99995, 0.99998, 0.99999)
QUANTILES: Final = (0.01, *(n / 40 for n in range(1, 37)), *(n / 100 for n in range(91, 100)), *_TAIL)


@dataclass(frozen=True, slots=True)
class Ranks:
    """What fleets that differ have in common: in each, servers can be ordered by their capacity for a class."""

    classes: tuple[str, ...]
    capacity_share: F64  # [S, K] mean over the fleets, largest first in every class


@dataclass(frozen=True, slots=True)
class Requests:
    """M requests of one policy, from all its episodes of one scenario, warm-ups included."""

    scenario: Scenario | None  # None where every episode had a fleet of its own
    episodes: int
    span_s: float  # when the first of the episodes to do so had sent its last request
    counted: npt.NDArray[np.bool_]  # [M] measured, so not of the warm-up
    scheduled_s: F64  # [M]
    request_class: I32  # [M]
    server: I32  # [M] -1 where nobody answered; with `ranks`, the place of the server among those of its fleet for that class
    status: I8  # [M]
    latency_s: F64  # [M]
    ranks: Ranks | None = None  # None where all episodes had the same fleet, or fleets of different sizes


def requests_of(log: RequestLog, b: int, scenario: Scenario, counted: slice) -> Requests:
    """Copies of what episode `b` of a log sent; the log may be used again afterwards."""
    sent = slice(0, counted.stop)
    inside = np.arange(counted.stop) >= counted.start
    return Requests(
        scenario,
        episodes=1,
        span_s=float(log.scheduled_s[b, sent].max(initial=0.0)),
        counted=inside,
        scheduled_s=log.scheduled_s[b, sent].copy(),
        request_class=log.request_class[b, sent].copy(),
        server=log.server[b, sent].copy(),
        status=log.status[b, sent].copy(),
        latency_s=log.latency_s[b, sent].copy(),
    )


def pooled(parts: Sequence[Requests]) -> Requests:
    """Episodes as one."""
    first = parts[0].scenario
    arrays: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in parts]) for name in Requests.__slots__[3:-1]}
    episodes, span_s = sum(one.episodes for one in parts), min(one.span_s for one in parts)
    if all(one.scenario is first or one.scenario == first for one in parts):
        return Requests(first, episodes, span_s, **arrays)
    ranks = _common_ranks([one.scenario for one in parts if one.scenario is not None])
    if ranks is not None:
        arrays["server"] = np.concatenate([_rank(one, one.scenario) for one in parts if one.scenario is not None])
    return Requests(None, episodes, span_s, **arrays, ranks=ranks)


def _common_ranks(scenarios: Sequence[Scenario]) -> Ranks | None:
    if len({(len(one.servers), one.class_names) for one in scenarios}) != 1 or len(scenarios[0].servers) > MOST_RANKS:
        return None
    shares = np.stack([capacity_share(one) for one in scenarios])  # [E, S, K]
    return Ranks(scenarios[0].class_names, -np.sort(-shares, axis=1).mean(axis=0))


def _rank(one: Requests, scenario: Scenario) -> I32:
    """Place of each request's server by capacity for its class, 0 for the largest; -1 where nobody answered.  # [M]"""
    order = np.argsort(-capacity_share(scenario), axis=0, kind="stable")
    place = np.argsort(order, axis=0)  # [S, K]
    return np.where(one.server < 0, -1, place[one.server, one.request_class]).astype(np.int32)


def latency_rows(one: Requests) -> list[Row]:
    """Quantiles of the served requests' latency, those blank that fewer than ten requests lie beyond."""
    served = one.latency_s[one.counted & (one.status == SERVED)]
    failed = int((one.counted & (one.status == FAILED)).sum())
    values = np.quantile(served, QUANTILES) * 1e3 if served.size else np.full(len(QUANTILES), np.nan)
    enough = [min(q, 1.0 - q) * served.size >= FEWEST_BEYOND - 1e-9 for q in QUANTILES]
    return [
        {"requests": served.size + failed, "failed": failed, "quantile": q, "latency_ms": float(value) if known else None}
        for q, value, known in zip(QUANTILES, values, enough, strict=True)
    ]


def share_rows(one: Requests) -> list[Row]:
    """Measured decisions for each server and class beside the server's share of the fleet's capacity for that class.

    Where fleets differ from episode to episode, servers are those that have the same rank by capacity for the class. None where the
    fleets have not as many servers.
    """
    if one.scenario is not None:
        return _share_rows(one, one.scenario.server_ids, one.scenario.class_names, capacity_share(one.scenario))
    if one.ranks is None:
        return []
    names = tuple(f"{RANK}{number}" for number in range(1, 1 + len(one.ranks.capacity_share)))
    return _share_rows(one, names, one.ranks.classes, one.ranks.capacity_share)


def _share_rows(one: Requests, names: Sequence[str], classes: Sequence[str], share: F64) -> list[Row]:
    servers = (*names, NOBODY)
    pairs = one.server[one.counted] % len(servers) * len(classes) + one.request_class[one.counted]  # -1 becomes the last, nobody
    decisions = np.bincount(pairs, minlength=len(servers) * len(classes)).reshape(len(servers), len(classes))
    known = len(servers) if decisions[-1].any() else len(servers) - 1
    return [
        {"server": servers[s], "class": name, "decisions": int(decisions[s, k]), "capacity_share": _cell(share, s, k)}
        for s in range(known)
        for k, name in enumerate(classes)
    ]


def capacity_share(scenario: Scenario) -> F64:
    """What part of the fleet's capacity each server is, were there requests of that one class alone.  # [S, K]"""
    slots = np.array([one.slots for one in scenario.servers], dtype=np.float64)
    rate_rps = slots[:, None] / scenario.mean_service_s()
    return np.asarray(rate_rps / rate_rps.sum(axis=0))


def timeline_rows(one: Requests) -> list[Row]:
    """Requests by time of arrival, in bins, for the whole fleet and for each server; none for a scenario without faults.

    Bins hold the requests of all episodes, whose faults happen at the same times, warm-up included. The last one ends before the
    shortest episode does.
    """
    scenario = one.scenario
    if scenario is None or not scenario.faults:
        return []
    width_s = bin_width_s(one.span_s)
    bins = int(one.span_s / width_s + 1e-9)
    place = np.floor(one.scheduled_s / width_s + 1e-9).astype(np.int64)
    by_server = [_binned(one, place, bins, one.server == s) for s in range(len(scenario.servers))]
    whole = _binned(one, place, bins, np.ones(place.size, dtype=np.bool_))
    rows: list[Row] = []
    for number in range(bins):
        start_s, end_s = number * width_s, (number + 1) * width_s
        active = [fault for fault in scenario.faults if overlaps(fault, start_s, end_s)]
        fixed: Row = {"episodes": one.episodes, "start_s": start_s, "end_s": end_s}
        rows.append({**fixed, "server": WHOLE_FLEET, **whole[number], "fault": "; ".join(f"{f.server} {described(f)}" for f in active)})
        for s, name in enumerate(scenario.server_ids):
            fault = "; ".join(described(f) for f in active if f.server == name)
            rows.append({**fixed, "server": name, **by_server[s][number], "fault": fault})
    return rows


def bin_width_s(span_s: float) -> float:
    """1, 2 or 5 times a power of ten, such that at most sixty bins fill the span."""
    least = max(span_s, 1e-6) / MOST_BINS
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))


def overlaps(fault: Fault, start_s: float, end_s: float) -> bool:
    """Does something go wrong in this span? Before a server joins it is missing, and from then on nothing is."""
    begin_s, stop_s = (0.0, fault.start_s) if fault.kind == "join" else (fault.start_s, fault.end_s)
    return begin_s < end_s - 1e-9 and stop_s > start_s + 1e-9


def described(fault: Fault) -> str:
    """The kind and how bad it is, in a few words."""
    words = {
        "slowdown": f"slowdown x{fault.factor:g}",
        "error_share": f"{100 * fault.share:g} % errors",
        "fail_fast": "fails at once",
        "leave": "left",
        "join": "not yet joined",
    }
    return words.get(fault.kind, fault.kind)


def _binned(one: Requests, place: npt.NDArray[np.int64], bins: int, chosen: npt.NDArray[np.bool_]) -> list[Row]:
    order = np.argsort(place[chosen], kind="stable")
    edges = np.searchsorted(place[chosen][order], np.arange(bins + 1))
    status, latency_s = one.status[chosen][order], one.latency_s[chosen][order]
    spans = [slice(edges[number], edges[number + 1]) for number in range(bins)]
    return [_bin(status[span], latency_s[span]) for span in spans]


def _bin(status: I8, latency_s: F64) -> Row:
    served = latency_s[status == SERVED]
    return {
        "requests": status.size,
        "failed": int((status == FAILED).sum()),
        "mean_latency_ms": float(served.mean()) * 1e3 if served.size else None,
        "p95_latency_ms": quantile_or_nan(served, 0.95) * 1e3,
    }


def _cell(share: F64, server: int, k: int) -> float | None:
    return float(share[server, k]) if server < len(share) else None

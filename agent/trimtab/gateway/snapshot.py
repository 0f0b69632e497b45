"""The `/api/state` document: what the gateway does now, from its router, health book, window and counts. Pure; time is an argument."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.core.request_log import F64
from trimtab.core.scenario import Scenario
from trimtab.gateway.deciders import Deciding
from trimtab.gateway.health import HealthBook
from trimtab.gateway.router import Router
from trimtab.gateway.scores import Scores
from trimtab.gateway.telemetry import GatewayCounts, Gauges
from trimtab.gateway.trials import model_events, trial_document
from trimtab.gateway.window import Recent, Window


@dataclass(frozen=True)
class Watched:
    """The parts of one gateway that the document is made of. The event loop's thread writes and reads them."""

    scenario: Scenario
    urls: Sequence[str]  # [S]
    router: Router
    health: HealthBook
    window: Window
    counts: GatewayCounts
    scores: Scores
    deciding: Deciding
    started_s: float  # on the clock of `now_s`


def state_document(watched: Watched, now_s: float, *, draining: bool) -> dict[str, Any]:
    """Plain values only, ready for JSON; `openapi.json` describes them. Rates, shares and latencies are those of the window."""
    recent = watched.window.read(now_s)
    counts = watched.router.counts
    decider = watched.router.decider
    return {
        "policy": decider.primary,
        "decider": {
            "primary": decider.primary,
            "fallback": decider.fallback,
            "reasons": dict(decider.reasons),
            "state": decider.state,
            "decisions": _decisions(watched.counts),
        },
        "uptime_s": max(0.0, now_s - watched.started_s),
        "draining": draining,
        "panic": watched.health.panic(now_s),
        "counts": counts._asdict() | {"retries": watched.counts.retries_sent},
        "rate_rps": float(recent.sent_rps.sum()),
        "latency_ms": _latency_ms(recent),
        "servers": _servers(watched, recent, now_s),
        "classes": [
            {"name": name, "rate_rps": rate}
            for name, rate in zip(watched.scenario.class_names, recent.sent_rps.sum(axis=0).tolist(), strict=True)
        ],
        **trial_document(watched.deciding, decider, watched.scores, now_s),
        "events": _events(watched, now_s),
    }


def gauges(watched: Watched, now_s: float, *, draining: bool) -> Gauges:
    """What the metrics say about the present, from the same parts."""
    health = watched.health
    return Gauges(
        in_flight=watched.router.in_flight.tolist(),
        up=[status in {"ok", "ramping"} for status in health.status(now_s)],
        ejections=health.ejections.tolist(),
        panic=health.panic(now_s),
        draining=draining,
        fallbacks=dict(watched.router.decider.reasons),
    )


def _decisions(counts: GatewayCounts) -> dict[str, int]:
    """Requests and retries sent, by the name of the policy that chose."""
    return dict(zip(counts.deciders, counts.totals.decisions.sum(axis=(1, 2)).tolist(), strict=True))


def _latency_ms(recent: Recent) -> dict[str, float | None] | None:
    if recent.p50_s is None:
        return None
    return {"p50": _ms(recent.p50_s), "p95": _ms(recent.p95_s), "p99": _ms(recent.p99_s)}


def _servers(watched: Watched, recent: Recent, now_s: float) -> list[dict[str, Any]]:
    status = watched.health.status(now_s)
    in_flight, ramp = watched.router.in_flight.tolist(), watched.health.ramp(now_s).tolist()
    shares = _shares(recent.sent_rps)
    return [
        {
            "id": server.id,
            "url": watched.urls[s],
            "status": status[s],
            "in_flight": in_flight[s],
            "slots": server.slots,
            "share": shares[s],
            "rate_rps": float(recent.sent_rps[s].sum()),
            "latency_ms": _ms(recent.mean_s[s]),
            "ramp": ramp[s],
            "by_class": dict(zip(watched.scenario.class_names, recent.sent_rps[s].tolist(), strict=True)),
        }
        for s, server in enumerate(watched.scenario.servers)
    ]


def _shares(sent_rps: F64) -> list[float]:
    """Each server's part of what was sent; all 0 where nothing was.  # [S]"""
    total = float(sent_rps.sum())
    shares = sent_rps.sum(axis=1) / total if total > 0 else sent_rps.sum(axis=1)
    return [float(one) for one in shares]


def _events(watched: Watched, now_s: float) -> list[dict[str, Any]]:
    """Newest first."""
    ids = watched.scenario.server_ids
    of_servers = [{"age_s": max(0.0, now_s - one.now_s), "server": ids[one.server], "what": one.what} for one in watched.health.events]
    every = [*of_servers[::-1], *model_events(watched.deciding, now_s)[::-1]]  # of one moment, the later one first
    return sorted(every, key=lambda one: float(one["age_s"]))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds

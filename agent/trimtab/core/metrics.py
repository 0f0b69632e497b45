"""What an episode was like, from its request log: latency, errors, fairness. The reward shares no code with these."""

from typing import Final

import numpy as np
import numpy.typing as npt

from trimtab.core.request_log import F64, FAILED, SERVED, RequestLog
from trimtab.core.scenario import Scenario

Flags = npt.NDArray[np.bool_]
FEWEST_BEYOND: Final = 10  # a quantile with fewer samples beyond it is left blank


def gini(share: F64) -> F64:
    """Gini coefficient over the last axis: 0 all equal, (n - 1) / n all in one place (Gini 1912; 0 when nothing is used)."""
    ordered = np.sort(share, axis=-1)
    count = share.shape[-1]
    rank = np.arange(1, count + 1)
    total = ordered.sum(axis=-1)
    weighted = (ordered * rank).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = 2.0 * weighted / (count * total) - (count + 1.0) / count
    return np.asarray(np.where(total > 0.0, value, 0.0))


def quantile_or_nan(values: F64, quantile: float) -> float:
    """The quantile of one episode's latencies, or nan where fewer than ten samples lie beyond it."""
    if values.size * (1.0 - quantile) < FEWEST_BEYOND - 1e-9:
        return float("nan")
    return float(np.quantile(values, quantile))


def cpu_utilisation(log: RequestLog, b: int, scenario: Scenario) -> F64:
    """Time-averaged cpu utilisation of each server over one episode, from reported time in slots.  # [S]"""
    return _utilisation(log, b, scenario, "cpu")


def memory_utilisation(log: RequestLog, b: int, scenario: Scenario) -> F64:
    """The same of memory.  # [S]"""
    return _utilisation(log, b, scenario, "memory")


def _utilisation(log: RequestLog, b: int, scenario: Scenario, resource: str) -> F64:
    done = log.order[b, : log.completed[b]]
    done = done[log.server[b, done] >= 0]  # what no server answered held no slot
    cost = np.array([getattr(one, resource) for one in scenario.classes], dtype=np.float64)
    held = np.bincount(
        log.server[b, done], weights=cost[log.request_class[b, done]] * log.service_s[b, done], minlength=len(scenario.servers)
    )
    capacity = np.array([getattr(one, resource) for one in scenario.servers], dtype=np.float64)
    span = float(log.completed_s[b, done].max(initial=0.0))
    return np.asarray(held / capacity / span if span > 0.0 else held)


def episode_metrics(log: RequestLog, b: int, scenario: Scenario, first: int, last: int, best: Flags, lag_s: F64) -> dict[str, float]:
    """Every metric of the measured requests [first, last) of fleet b, by column name; `best` and `lag_s` are its own rows [N].

    Where a request's server never became known (-1: a proxy failed it itself), nobody can say which decisions were optimal.
    """
    measured = slice(first, last)
    status, server = log.status[b, measured], log.server[b, measured]
    served, failed = status == SERVED, status == FAILED
    latency_s = log.latency_s[b, measured][served]
    known = max(1, int(served.sum() + failed.sum()))
    cpu = cpu_utilisation(log, b, scenario)
    both = cpu + memory_utilisation(log, b, scenario)
    span = float(log.completed_s[b, measured].max() - log.scheduled_s[b, first]) if last > first else 0.0
    return {
        "requests": float(server.size),
        "mean_latency_ms": float(latency_s.mean()) * 1e3 if latency_s.size else float("nan"),
        "p50_latency_ms": quantile_or_nan(latency_s, 0.5) * 1e3,
        "p95_latency_ms": quantile_or_nan(latency_s, 0.95) * 1e3,
        "p99_latency_ms": quantile_or_nan(latency_s, 0.99) * 1e3,
        "p999_latency_ms": quantile_or_nan(latency_s, 0.999) * 1e3,
        "slo_attainment": float((latency_s <= scenario.slo_s).sum()) / known,
        "error_rate": float(failed.sum()) / known,
        "throughput_rps": float(served.sum()) / span if span > 0.0 else float("nan"),
        "gini_coefficient": float(gini(cpu)),
        "utilization_std": float(both.std()),
        "optimal_decision_rate": float(best[measured].mean()) if (server >= 0).all() else float("nan"),
        "schedule_lag_ms": float(np.quantile(lag_s[measured], 0.99)) * 1e3 if last > first else 0.0,
    }

"""What an episode of the placement game was like, from the utilisation that every tick left."""

from typing import Final

import numpy as np

from trimtab.core.metrics import gini
from trimtab.problems.base import F64, Mask

ROLLING_TICKS: Final = 30
OVER: Final = 0.9
METRICS: Final = (
    "mean_peak",  # mean over ticks of the fullest server's max(cpu, memory)
    "max_peak",
    "p95_peak",
    "frac_over_90",  # ticks whose peak is above 0.9
    "gini_coefficient",  # mean over ticks, of max(cpu, memory) over servers
    "utilization_std",  # mean over ticks of the standard deviation over servers
    "jitter",  # mean over ticks and servers of the change from the tick before
    "temporal_std",  # mean over servers of the standard deviation over ticks
    "rolling_std",  # the same in windows of 30 ticks
    "optimal_decision_rate",  # decisions for the first server with the least cpu + memory before placement
    "gini_of_means",  # first generation: of the servers' mean cpu
    "std_of_means",  # first generation: over servers, of their mean cpu + memory
)


def episode_metrics(cpu: F64, memory: F64, best: Mask) -> dict[str, float]:
    """Every metric of one episode, by name; `cpu` and `memory` after each measured tick [T, S], `best` whether it was optimal [T]."""
    full = np.maximum(cpu, memory)
    peak = full.max(axis=1)
    return {
        "mean_peak": float(peak.mean()),
        "max_peak": float(peak.max()),
        "p95_peak": float(np.quantile(peak, 0.95)),
        "frac_over_90": float((peak > OVER).mean()),
        "gini_coefficient": float(gini(full).mean()),
        "utilization_std": float(full.std(axis=1).mean()),
        "jitter": float(np.abs(np.diff(full, axis=0)).mean()) if len(full) > 1 else float("nan"),
        "temporal_std": float(full.std(axis=0).mean()),
        "rolling_std": _rolling_std(full),
        "optimal_decision_rate": float(best.mean()),
        "gini_of_means": float(gini(cpu.mean(axis=0))),
        "std_of_means": float((cpu + memory).mean(axis=0).std()),
    }


def _rolling_std(values: F64) -> float:
    """nan where there is no whole window."""
    if len(values) < ROLLING_TICKS:
        return float("nan")
    windows = np.lib.stride_tricks.sliding_window_view(values, ROLLING_TICKS, axis=0)
    return float(windows.std(axis=2).mean())

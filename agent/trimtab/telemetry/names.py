"""From the columns of the CSV files to names as Prometheus wants them: base units, and the unit in the name."""

import math
from collections.abc import Mapping
from typing import Final

_UNITS: Final = {"_ms": ("_seconds", 1e-3), "_us": ("_seconds", 1e-6), "_rate": ("_ratio", 1.0), "_rps": ("_requests_per_second", 1.0)}


def metric(column: str, value: float) -> tuple[str, float]:
    """Name and value in base units: mean_latency_ms = 12 becomes mean_latency_seconds = 0.012."""
    for suffix, (unit, factor) in _UNITS.items():
        if column.endswith(suffix):
            return column.removesuffix(suffix) + unit, value * factor
    return column, value


def measured(row: Mapping[str, object], columns: tuple[str, ...]) -> dict[str, float]:
    """The cells of those columns that hold a number, under their metric names. A blank was not measured, hence is not exported."""
    cells = {column: row.get(column) for column in columns}
    return dict(metric(name, float(cell)) for name, cell in cells.items() if isinstance(cell, int | float) and math.isfinite(cell))

"""Times as Grafana writes them, and the step between samples."""

import math
import re
from datetime import UTC, datetime

from picture_errors import PictureError

UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
POINTS = 300
SCRAPE_INTERVAL_S = 2.0  # prometheus/prometheus.yml; Grafana's data source is provisioned with the same value


def duration_s(text: str) -> float:
    """Seconds in a duration such as 90s, 15m or 1h30m; PictureError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhdw])", text)
    total = sum(float(number) * UNIT_SECONDS[unit] for number, unit in parts)
    if total <= 0 or "".join(number + unit for number, unit in parts) != text:
        raise PictureError(f"'{text}' is not a duration: write for example 30s, 15m or 1h30m")
    return total


def instant_s(text: str, now_s: float) -> float:
    """Unix seconds of `now`, `-15m`, `now-15m`, `2026-01-31T12:00:00` (UTC without a zone) or plain Unix seconds."""
    relative = re.fullmatch(r"(?:now)?-(\w+)", text)
    if text == "now":
        return now_s
    if relative:
        return now_s - duration_s(relative[1])
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PictureError(f"'{text}' is not a time: write now, -15m, now-15m, 2026-01-31T12:00:00 or Unix seconds") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def step_s(from_s: float, to_s: float, at_least_s: float = SCRAPE_INTERVAL_S) -> float:
    """Whole seconds between samples: about 300 in the range, never finer than the scrape interval."""
    if to_s <= from_s:
        raise PictureError(f"the range is empty: from {from_s:.0f} to {to_s:.0f}; --from must lie before --to")
    return float(max(math.ceil((to_s - from_s) / POINTS), math.ceil(at_least_s)))


def written(seconds: float) -> str:
    """The duration as PromQL takes it, in whole milliseconds or seconds."""
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"

"""The figures of a run: as a JSON document, as a table for people, and as warnings in plain words."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from product import ResultsError, UsageError
from settings import Settings
from tally import SERVED, Histogram, Tally, pooled

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
KEPT_SCHEDULE = 0.99
_COLUMNS = (*QUANTILES, "max")


@dataclass(frozen=True, slots=True)
class Offered:
    """What the open loop was to send: `requests` due within `span_s` seconds."""

    requests: int
    span_s: float


def document(settings: Settings, tally: Tally, offered: Offered | None, *, workers: int, reported: int, late: int = 0) -> dict[str, Any]:
    """Everything measured, times in seconds; None where it was not measured or too few requests lie beyond a quantile.

    `offered` is None for a closed loop. `reported` of `workers` processes told their figures at the end; `late` came during the run.
    """
    figures = {
        "loop": settings.loop,
        "scenario": settings.scenario.id,
        "traffic": settings.scenario.traffic.kind,
        "seed": settings.seed,
        "episode": settings.episode,
        "targets": list(settings.targets),
        "http_timeout_s": settings.http_timeout_s,
        "workers": workers,
        "workers_reported": reported,
        "workers_late": late,
        **_rates(tally, offered),
        "abandoned_requests": tally.abandoned,
        "schedule_lag_seconds": None if offered is None else _times(tally.lag),
        "rows": list(_rows(settings, tally)),
    }
    return figures | {"warnings": _warnings(figures)}


def _rates(tally: Tally, offered: Offered | None) -> dict[str, Any]:
    if offered is None:
        answered = sum(one.size for one in tally.uncorrected.values())
        rates: dict[str, Any] = {"duration_s": tally.span_s, "sent_requests": tally.sent, "achieved_rps": _ratio(answered, tally.span_s)}
        return rates | {"offered_requests": None, "offered_rps": None, "achieved_ratio": None}
    achieved_rps = _ratio(tally.sent, max(offered.span_s, tally.last_sent_s))
    offered_rps = _ratio(offered.requests, offered.span_s)
    return {
        "duration_s": offered.span_s,
        "sent_requests": tally.sent,
        "achieved_rps": achieved_rps,
        "offered_requests": offered.requests,
        "offered_rps": offered_rps,
        "achieved_ratio": _ratio(achieved_rps or 0.0, offered_rps or 0.0),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _rows(settings: Settings, tally: Tally) -> Iterable[dict[str, Any]]:
    """Served requests of all classes and of each, then failures by kind."""
    yield _row("all", SERVED, tally, [key for key in tally.uncorrected if key[1] == SERVED])
    for index, name in enumerate(settings.scenario.class_names):
        yield _row(name, SERVED, tally, [(index, SERVED)])
    for kind in sorted({outcome for _, outcome in tally.uncorrected} - {SERVED}):
        yield _row("all", kind, tally, [key for key in tally.uncorrected if key[1] == kind])


def _row(name: str, outcome: str, tally: Tally, keys: Sequence[tuple[int, str]]) -> dict[str, Any]:
    uncorrected = pooled(tally.uncorrected[key] for key in keys if key in tally.uncorrected)
    corrected = pooled(tally.corrected[key] for key in keys if key in tally.corrected)
    return {
        "class": name,
        "outcome": outcome,
        "requests": uncorrected.size,
        "corrected_seconds": _times(corrected) if corrected.size else None,
        "uncorrected_seconds": _times(uncorrected) if uncorrected.size else None,
    }


def _times(histogram: Histogram) -> dict[str, float | None]:
    return {name: histogram.quantile_s(quantile) for name, quantile in QUANTILES.items()} | {
        "max": histogram.max_s if histogram.size else None
    }


def _warnings(figures: Mapping[str, Any]) -> list[str]:
    found = []
    ratio, missing = figures["achieved_ratio"], figures["workers"] - figures["workers_reported"]
    if ratio is not None and ratio < KEPT_SCHEDULE:
        found.append(
            f"achieved {figures['achieved_rps']:.4g} of {figures['offered_rps']:.4g} requests/s offered, {ratio:.1%}, below "
            f"{KEPT_SCHEDULE:.0%}: the schedule was not kept; uncorrected latencies are too good; add workers or raise --max-in-flight"
        )
    if missing:
        found.append(f"{missing} of {figures['workers']} workers did not report at the end; their figures end at their last report")
    if figures["workers_late"]:
        found.append(f"{figures['workers_late']} workers came during the run and took no part; users that Locust moved there were lost")
    if figures["sent_requests"] == 0:
        found.append("nothing was sent: the run ended before its first request")
    return found


# For people


def text(figures: Mapping[str, Any]) -> str:
    """The report as a table in milliseconds, warnings last."""
    open_loop = figures["loop"] == "open"
    lines = [_headline(figures), _rate_line(figures), *([_lag_line(figures)] if open_loop else []), *_table(figures["rows"], open_loop)]
    return "\n".join([*lines, *(f"WARNING: {one}" for one in figures["warnings"])])


def _headline(figures: Mapping[str, Any]) -> str:
    what = f"scenario {figures['scenario']} ({figures['traffic']}), seed {figures['seed']}, episode {figures['episode']}"
    return f"{figures['loop']} loop: {what}, {figures['workers']} worker(s), targets {', '.join(figures['targets'])}"


def _rate_line(figures: Mapping[str, Any]) -> str:
    achieved = _number(figures["achieved_rps"])
    if figures["offered_rps"] is None:
        return f"sent {figures['sent_requests']} requests in {figures['duration_s']:.1f} s, answered {achieved}/s; users follow the answers"
    offered = f"offered {figures['offered_requests']} requests in {figures['duration_s']:.1f} s, {_number(figures['offered_rps'])}/s"
    ratio = "" if figures["achieved_ratio"] is None else f", {figures['achieved_ratio']:.2%} of it"
    return f"{offered}; sent {figures['sent_requests']}, {achieved}/s{ratio}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _lag_line(figures: Mapping[str, Any]) -> str:
    lag = figures["schedule_lag_seconds"]
    return f"schedule lag in ms: p50 {_ms(lag['p50'])}, p99 {_ms(lag['p99'])}, max {_ms(lag['max'])}"


def _ms(seconds: float | None) -> str:
    """Three significant digits or whole milliseconds; blank where it was not measured."""
    if seconds is None:
        return ""
    value = seconds * 1000
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _table(rows: Sequence[Mapping[str, Any]], open_loop: bool) -> list[str]:
    width = max(len(f"{row['class']} {row['outcome']}") for row in rows) + 2
    both = "  ".join((_cells(_COLUMNS), _cells(_COLUMNS))) if open_loop else _cells(_COLUMNS)
    span = len(_cells(_COLUMNS))
    both_kinds = ("from scheduled send, ms (corrected)", "from actual send, ms (uncorrected)")
    kinds = both_kinds if open_loop else ("from actual send only, ms (not corrected)",)
    over = "  ".join(one.rjust(span) for one in kinds)
    return [" " * (width + 9) + over, "class outcome".ljust(width) + " requests" + both, *(_line(row, width, open_loop) for row in rows)]


def _line(row: Mapping[str, Any], width: int, open_loop: bool) -> str:
    kinds = ("corrected_seconds", "uncorrected_seconds") if open_loop else ("uncorrected_seconds",)
    cells = [_cells([_ms((row[kind] or {}).get(name)) for name in _COLUMNS]) for kind in kinds]
    return (f"{row['class']} {row['outcome']}".ljust(width) + f"{row['requests']:>9}" + "  ".join(cells)).rstrip()


def _cells(texts: Iterable[str]) -> str:
    return "".join(one.rjust(8) for one in texts)


# The file


def check_path(path: Path, *, overwrite: bool) -> None:
    """Raises UsageError where a report could not be written, so that a run need not end to find out."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; allowed: a new file; name another, or add --report-overwrite")
    if not path.parent.is_dir() or path.is_dir():
        raise UsageError(f"cannot write {path}; allowed: a file in an existing folder; name another path")


def write(path: Path, figures: Mapping[str, Any], *, overwrite: bool) -> None:
    """Writes the whole document at once or not at all. Raises UsageError or ResultsError."""
    check_path(path, overwrite=overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror}; allowed: a writable folder; name another path") from error
    finally:
        temporary.unlink(missing_ok=True)

"""A dashboard file and what Prometheus answers to its queries, as the document that the page draws."""

import json
from pathlib import Path
from typing import Any

from picture_errors import PictureError, QueryError
from picture_prometheus import Prometheus, Series
from picture_time import duration_s, step_s
from picture_variables import Span, Variable, built_in, filled, resolved

KINDS = ("timeseries", "stat", "bargauge", "table", "row")


def load_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; PictureError where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PictureError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise PictureError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise PictureError(f"{path} holds a {type(content).__name__}, not an object")
    return content


def load_dashboard(path: Path) -> dict[str, Any]:
    """A dashboard whose panels can all be drawn; PictureError names the first that cannot."""
    dashboard = load_json(path)
    if not isinstance(dashboard.get("panels"), list) or "title" not in dashboard:
        raise PictureError(f"{path} is no Grafana dashboard: it needs 'title' and a list 'panels'")
    for panel in dashboard["panels"]:
        _check_panel(path, panel)
    return dashboard


def _check_panel(path: Path, panel: dict[str, Any]) -> None:
    name = f"{path}: panel '{panel.get('title', panel.get('id'))}'"
    if panel.get("type") not in KINDS:
        raise PictureError(f"{name} is of type '{panel.get('type')}': drawn are {', '.join(KINDS)}")
    if panel.get("repeat"):
        raise PictureError(f"{name} repeats over ${panel['repeat']}: repeated panels are not drawn")
    if not {"x", "y", "w", "h"} <= set(panel.get("gridPos", {})):
        raise PictureError(f"{name} has no complete gridPos: x, y, w and h are needed")


def collect(dashboard: dict[str, Any], prometheus: Prometheus, span: Span, given: dict[str, str]) -> dict[str, Any]:
    """Run every query of the dashboard; the document that src/document.ts describes."""
    variables = resolved(dashboard, given, prometheus, span)
    values = {variable.name: variable.query_text for variable in variables}
    results = {str(panel["id"]): _panel_results(panel, prometheus, span, values) for panel in dashboard["panels"] if panel["type"] != "row"}
    return {
        "dashboard": _with_titles(dashboard, variables),
        "range": {"from_ms": round(span.from_s * 1000), "to_ms": round(span.to_s * 1000)},
        "variables": [{"label": variable.label, "value": variable.shown} for variable in variables if not variable.hidden],
        "annotations": _annotations(dashboard, prometheus, span, values),
        "results": results,
    }


def _with_titles(dashboard: dict[str, Any], variables: list[Variable]) -> dict[str, Any]:
    shown = {variable.name: variable.shown for variable in variables}
    panels = [panel | {"title": filled(panel["title"], shown)} if panel.get("title") else panel for panel in dashboard["panels"]]
    return dashboard | {"panels": panels}


def _panel_results(panel: dict[str, Any], prometheus: Prometheus, span: Span, values: dict[str, str]) -> list[dict[str, Any]]:
    results = []
    for target in panel.get("targets", []):
        if not target.get("hide"):
            try:
                results += _target_results(panel, target, prometheus, span, values)
            except QueryError as error:
                raise PictureError(f"panel '{panel.get('title')}', query {target.get('refId')}: {error}") from None
    return results


def _target_results(
    panel: dict[str, Any], target: dict[str, Any], prometheus: Prometheus, span: Span, values: dict[str, str]
) -> list[dict[str, Any]]:
    if "expr" not in target:
        raise QueryError("it has no 'expr': only Prometheus queries are drawn")
    step = _target_step_s(panel, target, span, values)
    own = Span(span.from_s, span.to_s, step, span.rate_interval_s)
    query = filled(target["expr"], built_in(own) | values)
    answers: list[tuple[float, Series]] = []
    if target.get("range", not target.get("instant")):
        answers.append((step, prometheus.over_range(query, span.from_s, span.to_s, step)))
    if target.get("instant"):
        answers.append((0.0, prometheus.at(query, span.to_s)))
    head = {
        "refId": target.get("refId", "A"),
        "format": "table" if target.get("format") == "table" else "time_series",
        "legend": filled_legend(target.get("legendFormat", ""), values),
        "expr": query,
    }
    return [head | {"step_ms": round(answer_step * 1000), "series": series} for answer_step, series in answers]


def filled_legend(legend: str, values: dict[str, str]) -> str:
    """A legend with variables filled in; {{label}} is left for the page."""
    return legend if "$" not in legend else filled(legend, values)


def _target_step_s(panel: dict[str, Any], target: dict[str, Any], span: Span, values: dict[str, str]) -> float:
    minimum = target.get("interval") or panel.get("interval")
    return step_s(span.from_s, span.to_s, duration_s(filled(minimum, values))) if minimum else span.step_s


def _annotations(dashboard: dict[str, Any], prometheus: Prometheus, span: Span, values: dict[str, str]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for model in dashboard.get("annotations", {}).get("list", []):
        expr = model.get("expr") or model.get("target", {}).get("expr")
        if not model.get("enable", True) or not expr:
            continue
        step = duration_s(model["step"]) if model.get("step") else span.step_s
        color = model.get("iconColor", "red")
        try:
            series = prometheus.over_range(filled(expr, built_in(span) | values), span.from_s, span.to_s, step)
        except QueryError as error:
            raise PictureError(f"annotation '{model.get('name')}': {error}") from None
        by_value = model.get("useValueForTime") in (True, "on")
        for one in series:
            spans = events_by_value(one["points"], span) if by_value else active_spans(one["points"], step)
            events += [{"from_ms": from_ms, "to_ms": to_ms, "color": color} for from_ms, to_ms in spans]
    return events


def events_by_value(points: list[Any], span: Span) -> list[tuple[float, float]]:
    """Moments in the range that the sample values name, as milliseconds since 1970."""
    times_ms = sorted({float(value) for _, value in points})
    return [(time_ms, time_ms) for time_ms in times_ms if span.from_s * 1000 <= time_ms <= span.to_s * 1000]


def active_spans(points: list[Any], step_s: float) -> list[tuple[float, float]]:
    """Stretches of neighbouring samples above zero as (from_ms, to_ms)."""
    spans: list[tuple[float, float]] = []
    for time_s, value in points:
        if not float(value) > 0:
            continue
        time_ms = float(time_s) * 1000
        if spans and time_ms - spans[-1][1] <= step_s * 1000:
            spans[-1] = (spans[-1][0], time_ms)
        else:
            spans.append((time_ms, time_ms))
    return spans

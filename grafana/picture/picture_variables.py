"""Dashboard variables: which value each has, and queries with the values filled in."""

import re
from dataclasses import dataclass
from typing import Any

from picture_errors import PictureError
from picture_prometheus import Prometheus
from picture_time import SCRAPE_INTERVAL_S, written

LABEL_VALUES = re.compile(r"label_values\(\s*(?:(?P<selector>.+?)\s*,\s*)?(?P<label>\w+)\s*\)")
REFERENCE = re.compile(r"\$(?P<plain>\w+)|\$\{(?P<braced>\w+)(?::(?P<format>\w+))?\}|\[\[(?P<old>\w+)\]\]")
REGEX_SIGNS = re.compile(r"([\\^$*+?.()|\[\]{}])")
ALL = "$__all"


@dataclass(frozen=True)
class Variable:
    """A variable as the picture shows it and as queries use it."""

    name: str
    label: str
    shown: str
    query_text: str
    hidden: bool = False


@dataclass(frozen=True)
class Span:
    """The range that is drawn, in Unix seconds, and the step and rate interval that queries use, in seconds."""

    from_s: float
    to_s: float
    step_s: float
    rate_interval_s: float


def built_in(span: Span) -> dict[str, str]:
    """Grafana's own variables."""
    range_s = round(span.to_s - span.from_s)
    return {
        "__interval": written(span.step_s),
        "__interval_ms": str(round(span.step_s * 1000)),
        "__rate_interval": written(max(span.rate_interval_s, span.step_s + SCRAPE_INTERVAL_S)),
        "__range": f"{range_s}s",
        "__range_s": str(range_s),
        "__range_ms": str(range_s * 1000),
        "__from": str(round(span.from_s * 1000)),
        "__to": str(round(span.to_s * 1000)),
    }


def filled(text: str, values: dict[str, str]) -> str:
    """The text with $name, ${name}, ${name:format} and [[name]] replaced; PictureError for an unknown name."""

    def value(match: re.Match[str]) -> str:
        name = match["plain"] or match["braced"] or match["old"]
        if name not in values:
            raise PictureError(f"'{text}' uses ${name}, which the dashboard does not define: defined are {', '.join(sorted(values))}")
        return values[name]

    return REFERENCE.sub(value, text)


def resolved(dashboard: dict[str, Any], given: dict[str, str], prometheus: Prometheus, span: Span) -> list[Variable]:
    """The dashboard's variables in order; a given value is put into queries as it is, the rest takes the dashboard's own choice."""
    variables: list[Variable] = []
    models = [model for model in dashboard.get("templating", {}).get("list", []) if model["type"] != "datasource"]
    unknown = set(given) - {model["name"] for model in models}
    if unknown:
        raise PictureError(
            f"the dashboard has no variable '{min(unknown)}': it has {', '.join(model['name'] for model in models) or 'none'}"
        )
    for model in models:
        values = built_in(span) | {variable.name: variable.query_text for variable in variables}
        variables.append(_resolve(model, given.get(model["name"]), prometheus, span, values))
    return variables


def _resolve(model: dict[str, Any], given: str | None, prometheus: Prometheus, span: Span, values: dict[str, str]) -> Variable:
    chosen = [given] if given is not None else _chosen(model)
    several = bool(model.get("multi") or model.get("includeAll"))
    is_all = given is None and (ALL in chosen or (not chosen and bool(model.get("includeAll"))))
    if is_all and model.get("allValue"):
        query_text = model["allValue"]
    elif given is not None:
        query_text = given
    else:
        options = _options(model, prometheus, span, values) if is_all or not chosen else chosen
        query_text = _alternatives(options if is_all or chosen else options[:1], several)
    shown = "All" if is_all else (", ".join(chosen) or query_text)
    return Variable(model["name"], model.get("label") or model["name"], shown, query_text, model.get("hide", 0) == 2)


def _chosen(model: dict[str, Any]) -> list[str]:
    if model["type"] in ("constant", "textbox"):
        return [str(model.get("query", ""))]
    value = model.get("current", {}).get("value", [])
    return [str(one) for one in (value if isinstance(value, list) else [value]) if one not in ("", None)]


def _options(model: dict[str, Any], prometheus: Prometheus, span: Span, values: dict[str, str]) -> list[str]:
    query = model.get("query", "")
    text = query.get("query", "") if isinstance(query, dict) else query
    if model["type"] in ("custom", "interval"):
        return [part.split(" : ")[-1].strip() for part in text.split(",")]
    match = LABEL_VALUES.fullmatch(filled(text, values).strip())
    if model["type"] != "query" or not match:
        raise PictureError(f"variable '{model['name']}' cannot be filled in: give it by --variable {model['name']}=VALUE")
    found = prometheus.label_values(match["label"], match["selector"] or "", span.from_s, span.to_s)
    pattern = model.get("regex", "").strip("/")
    return sorted(value for value in found if re.search(pattern, value))


def _alternatives(options: list[str], several: bool) -> str:
    if not several:
        return options[0] if options else ""
    escaped = [REGEX_SIGNS.sub(r"\\\\\1", option) for option in options]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"

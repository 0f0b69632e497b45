"""Scenario files as data: TOML tables to records and back. Pure: reading and writing files is done elsewhere.

What a file may say is data (`core/scenario_fields.py`); one reader checks any table against it.
Files speak milliseconds where a key ends in `_ms`; records speak seconds.
"""

import difflib
import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.core.scenario import Fault, Match, RequestClass, Scenario, Server, Traffic
from trimtab.core.scenario_fields import (
    CLASS,
    FAULT,
    FAULT_BY_KIND,
    MATCH,
    NAME,
    SCENARIO,
    SECTIONS,
    SERVER,
    SPEED,
    SPREADS,
    TRAFFIC,
    TRAFFIC_BY_KIND,
    Field,
)
from trimtab.errors import ScenarioError

_SHARE_TOLERANCE = 1e-6

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in which file a value stands, for messages."""

    source: str
    path: str

    def at(self, key: str) -> "_Place":
        name = key if NAME.accept(key) else _describe(key)
        return _Place(self.source, f"{self.path}.{name}" if self.path else name)

    def item(self, index: int) -> "_Place":
        return _Place(self.source, f"{self.path}[{index}]")

    def error(self, problem: str, allowed: str, step: str = "") -> ScenarioError:
        step = step or "correct it and run --scenario-check on the file"
        return ScenarioError(" ".join(f"{self.source}: {self.path} {problem}; allowed: {allowed}; {step}".splitlines()))


def _describe(value: object) -> str:
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        return f"a huge {type(value).__name__}"


# Reading


def parse_scenario(table: Mapping[str, object], *, source: str) -> Scenario:
    """The scenario that a TOML table describes; `source` names the file in messages.

    Raises ScenarioError, and nothing else, in one line: file, key path, value found, what is allowed, next step.
    """
    top = _Place(source, "")
    _refuse_unknown(table, SECTIONS, top)
    classes = _parse_classes(table, top)
    servers = _parse_servers(table, top, [one.name for one in classes])
    return Scenario(
        **_read(SCENARIO, _section(table, "scenario", top), top.at("scenario")),
        traffic=_parse_traffic(_section(table, "traffic", top), top.at("traffic")),
        classes=classes,
        servers=servers,
        faults=_parse_faults(table, top, [one.id for one in servers]),
    )


def _section(table: Mapping[str, object], key: str, top: _Place) -> Mapping[str, object]:
    found = table.get(key)
    if not isinstance(found, Mapping):
        problem = "is missing" if key not in table else f"is {_describe(found)}"
        raise top.at(key).error(problem, f"one [{key}] table", f"add [{key}]" if key not in table else "")
    return found


def _tables(table: Mapping[str, object], key: str, top: _Place, *, least: int) -> list[tuple[Mapping[str, object], _Place]]:
    """The tables of the array `[[key]]`, each with its place."""
    found = table.get(key, [])
    allowed = f"{least} or more [[{key}]] tables"
    if not isinstance(found, list | tuple) or not all(isinstance(one, Mapping) for one in found):
        raise top.at(key).error(f"is {_describe(found)}", allowed)
    if len(found) < least:
        raise top.at(key).error("is missing" if key not in table else "is []", allowed, f"add [[{key}]]")
    return [(one, top.at(key).item(index)) for index, one in enumerate(found)]


def _read(fields: Sequence[Field], table: Mapping[str, object], place: _Place) -> dict[str, Any]:
    """Checked values of the keys that are present, by attribute, in seconds."""
    _refuse_unknown(table, [one.key for one in fields], place)
    return {one.attribute: _read_value(one, table, place.at(one.key)) for one in fields if one.required or one.key in table}


def _read_value(field: Field, table: Mapping[str, object], place: _Place) -> Any:
    if field.key not in table:
        raise place.error("is missing", field.rule.allowed, f"add {field.key}")
    value = field.rule.accept(table[field.key])
    if value is None:
        raise place.error(f"is {_describe(table[field.key])}", field.rule.allowed)
    return value / 1000 if field.in_ms else value


def _refuse_unknown(table: Mapping[str, object], known: Sequence[str], place: _Place) -> None:
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            step = f"did you mean {close[0]}?" if close else "remove it"
            raise place.at(str(key)).error(f"is no known key (found {_describe(table[key])})", ", ".join(known), step)


def _read_by_kind(
    common: Sequence[Field], by_kind: Mapping[str, Sequence[Field]], table: Mapping[str, object], place: _Place, default: str = ""
) -> dict[str, Any]:
    """Like `_read`, for a table whose `kind` decides which further keys it may hold."""
    kind_field = next(one for one in common if one.key == "kind")
    kind = default if default and "kind" not in table else _read_value(kind_field, table, place.at("kind"))
    own = [one.key for one in (*common, *by_kind[kind])]
    for other, fields in by_kind.items():
        for key in (one.key for one in fields if one.key in table and one.key not in own):
            problem = f"is a key of kind {other}, not of {kind} (found {_describe(table[key])})"
            raise place.at(key).error(problem, ", ".join(own), "remove it or change kind")
    return _read((*common, *by_kind[kind]), table, place)


def _refuse_duplicates(names: Iterable[str], key: str, place: _Place) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise place.item(index).at(key).error(f"is {name!r}, which is taken", f"a {key} used once", "rename one of the two")
        seen.add(name)


def _parse_classes(table: Mapping[str, object], top: _Place) -> tuple[RequestClass, ...]:
    classes = tuple(_parse_class(one, place) for one, place in _tables(table, "classes", top, least=1))
    _refuse_duplicates([one.name for one in classes], "name", top.at("classes"))
    total = math.fsum(one.share for one in classes)
    if abs(total - 1) > _SHARE_TOLERANCE:
        shares = " + ".join(f"{one.share:g}" for one in classes)
        raise top.at("classes").error(f"have shares {shares} = {total:g}", "shares that sum to 1")
    return classes


def _parse_class(table: Mapping[str, object], place: _Place) -> RequestClass:
    values = _read(CLASS, table, place)
    distribution = values.get("distribution", "lognormal")
    possible, allowed, default = SPREADS[distribution]
    values.setdefault("spread", default)
    if not possible(values["spread"]):
        step = "correct spread or choose another distribution"
        raise place.at("spread").error(f"is {values['spread']:g}", f"{allowed} for distribution {distribution}", step)
    if "match" in values:
        values["match"] = _parse_match(values["match"], place.at("match"))
    return RequestClass(**values)


def _parse_match(table: Mapping[str, object], place: _Place) -> Match:
    values = _read(MATCH, table, place)
    ways = [key for key in ("prefix", "header", "regex") if key in values]
    if len(ways) != 1:
        problem = f"has {' and '.join(ways)}" if ways else f"is {_describe(table)}"
        raise place.error(problem, "exactly one of prefix, header (with value) and regex", f"{'remove' if ways else 'add'} one of them")
    if ("header" in values) != ("value" in values):
        missing = "value" if "header" in values else "header"
        raise place.at(missing).error("is missing", "header and value together", f"add {missing}")
    return Match(**values)


def _parse_servers(table: Mapping[str, object], top: _Place, class_names: Sequence[str]) -> tuple[Server, ...]:
    servers = []
    for one, place in _tables(table, "servers", top, least=1):
        servers.append(Server(**_read(SERVER, one, place)))
        _check_speeds(servers[-1].speed, class_names, place.at("speed"))
    _refuse_duplicates([one.id for one in servers], "id", top.at("servers"))
    return tuple(servers)


def _check_speeds(speed: Mapping[str, float], class_names: Sequence[str], place: _Place) -> None:
    _refuse_unknown(speed, class_names, place)
    missing = [name for name in class_names if name not in speed]
    if missing:
        raise place.error(f"is {_describe(speed)}, without {', '.join(missing)}", SPEED.allowed, f"add {missing[0]} = 1.0")


def _parse_traffic(table: Mapping[str, object], place: _Place) -> Traffic:
    values = _read_by_kind(TRAFFIC, TRAFFIC_BY_KIND, table, place, default="poisson")
    is_mmpp = values.get("kind") == "mmpp"
    if is_mmpp:
        _require_one_of("rates_rps", "loads", table, place)
    # The states of an mmpp already say how much traffic there is; a rate or load beside them sets their mean.
    if not (is_mmpp and "rate_rps" not in table and "load" not in table):
        _require_one_of("rate_rps", "load", table, place)
    return Traffic(**values)


def _require_one_of(first: str, second: str, table: Mapping[str, object], place: _Place) -> None:
    if (first in table) == (second in table):
        both = first in table
        problem = f"has both {first} = {_describe(table[first])} and {second} = {_describe(table[second])}" if both else "has neither"
        raise place.error(problem, f"exactly one of {first} and {second}", f"{'remove' if both else 'add'} one of them")


def _parse_faults(table: Mapping[str, object], top: _Place, server_ids: Sequence[str]) -> tuple[Fault, ...]:
    return tuple(_parse_fault(one, place, server_ids) for one, place in _tables(table, "faults", top, least=0))


def _parse_fault(table: Mapping[str, object], place: _Place, server_ids: Sequence[str]) -> Fault:
    fault = Fault(**_read_by_kind(FAULT, FAULT_BY_KIND, table, place))
    if fault.server not in server_ids:
        close = difflib.get_close_matches(fault.server, server_ids, n=1)
        step = f"did you mean {close[0]}?" if close else "name one of these servers"
        raise place.at("server").error(f"is {fault.server!r}, which is no server here", ", ".join(server_ids), step)
    if fault.end_s <= fault.start_s:
        raise place.at("end_s").error(f"is {fault.end_s:g}", f"more than start_s, which is {fault.start_s:g}")
    return fault


# Writing


def scenario_table(scenario: Scenario) -> dict[str, Any]:
    """The inverse of `parse_scenario`, ready for a TOML writer. Every key is written out, so that defaults may change later."""
    traffic, faults = scenario.traffic, scenario.faults
    table: dict[str, Any] = {
        "scenario": _write(SCENARIO, scenario),
        "traffic": _write((*TRAFFIC, *TRAFFIC_BY_KIND[traffic.kind]), traffic),
        "classes": [_write(CLASS, one) for one in scenario.classes],
        "servers": [_write(SERVER, one) for one in scenario.servers],
    }
    if faults:
        table["faults"] = [_write((*FAULT, *FAULT_BY_KIND[one.kind]), one) for one in faults]
    return table


def _write(fields: Sequence[Field], record: object) -> dict[str, Any]:
    values = {one.key: _plain(getattr(record, one.attribute), in_ms=one.in_ms) for one in fields}
    return {key: value for key, value in values.items() if value not in (None, [], math.inf)}


def _plain(value: Any, *, in_ms: bool) -> Any:
    if in_ms:
        return _to_ms(value)
    if isinstance(value, Match):
        return _write(MATCH, value)
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _to_ms(seconds: float) -> float:
    """The shortest millisecond figure that reads back as the same seconds, where there is one."""
    ms = seconds * 1000
    near = [math.nextafter(ms, 0), math.nextafter(ms, math.inf)]
    candidates = [float(f"{ms:.12g}"), ms, *near, math.nextafter(near[0], 0), math.nextafter(near[1], math.inf)]
    return next((one for one in candidates if one / 1000 == seconds), ms)

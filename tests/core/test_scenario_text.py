"""Scenario tables: every rule has its one-line error, and tables and records are inverse to each other."""

import copy
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.core.scenario import Fault, Match, Scenario
from trimtab.core.scenario_fields import FAULT_BY_KIND, TRAFFIC_BY_KIND
from trimtab.core.scenario_text import parse_scenario, scenario_table
from trimtab.errors import ScenarioError


def valid_table() -> dict[str, Any]:
    return {
        "scenario": {"id": "tiny", "requests": 20, "warmup": 5, "slo_ms": 150, "overhead_ms": 0.5},
        "traffic": {"kind": "poisson", "load": 0.7},
        "classes": [
            {"name": "light", "share": 0.75, "work_ms": 10},
            {"name": "heavy", "share": 0.25, "work_ms": 80, "distribution": "fixed", "cpu": 300, "memory": 200, "match": {"regex": "^/h"}},
        ],
        "servers": [
            {"id": "server-1", "slots": 2, "speed": {"light": 1.0, "heavy": 0.5}, "contention": 0.1},
            {"id": "server-2", "slots": 1, "speed": {"light": 0.5, "heavy": 2}, "url": "http://127.0.0.1:8081"},
        ],
        "faults": [{"server": "server-1", "kind": "slowdown", "factor": 20, "start_s": 15, "end_s": 45}],
    }


GONE = object()


def changed(path: str, value: object) -> dict[str, Any]:
    """A valid table with one value set (or removed), named by a dotted path in which numbers index arrays."""
    table = copy.deepcopy(valid_table())
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = table
    for part in parents:
        place = place[part] if part != "match" else place.setdefault(part, {})
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return table


def traffic(**values: object) -> dict[str, Any]:
    return changed("traffic", values)


def match(**values: object) -> dict[str, Any]:
    return changed("classes.0.match", values)


def fault(**values: object) -> dict[str, Any]:
    return changed("faults", [{"server": "server-2", "start_s": 1, **values}])


def parsed(table: dict[str, Any]) -> Scenario:
    return parse_scenario(table, source="tiny.toml")


def test_milliseconds_become_seconds_and_defaults_are_filled_in() -> None:
    scenario = parsed(valid_table())
    light, heavy = scenario.classes
    assert (scenario.slo_s, scenario.overhead_s, light.work_s, heavy.work_s) == (0.15, 0.0005, 0.01, 0.08)
    assert (light.distribution, light.spread, light.cpu, light.memory) == ("lognormal", 1.0, 10.0, 10.0)
    assert heavy.spread == 0.0
    assert (light.match, heavy.match) == (None, Match(regex="^/h"))
    first, second = scenario.servers
    assert (first.queue_limit, first.contention, first.cpu, first.memory, first.work, first.url) == (64, 0.1, 1000, 1000, "sleep", None)
    assert second.url == "http://127.0.0.1:8081"
    assert scenario.faults == (Fault("server-1", "slowdown", 15, 45, factor=20),)


def test_the_least_table_takes_the_documented_defaults() -> None:
    table = {
        "scenario": {"id": "x"},
        "traffic": {"rate_rps": 5},
        "classes": [{"name": "a", "share": 1, "work_ms": 10}],
        "servers": [{"id": "s", "slots": 1, "speed": {"a": 1}}],
    }
    scenario = parsed(table)
    assert (scenario.warmup, scenario.slo_s, scenario.overhead_s, scenario.faults) == (0, 0.2, 0.0, ())
    assert scenario.traffic.kind == "poisson"


# The table, the key path and the further words that the message must hold.
WRONG = {
    "unknown section": (changed("trafic", {}), "trafic", "did you mean traffic?"),
    "unknown key": (changed("servers.1.slot", 3), "servers[1].slot", "found 3", "did you mean slots?"),
    "unknown key far from all": (changed("classes.0.zzz", 3), "classes[0].zzz", "share", "remove it"),
    "odd key": (changed("scenario.a\nb", 3), "scenario.'a\\nb'", "remove it"),
    "no scenario": (changed("scenario", GONE), "scenario is missing", "add [scenario]"),
    "section of another type": (changed("traffic", 3), "traffic is 3", "[traffic]"),
    "no classes": (changed("classes", []), "classes is []", "[[classes]]"),
    "no servers": (changed("servers", GONE), "servers is missing", "[[servers]]"),
    "servers as one table": (changed("servers", {"id": "a"}), "servers is {'id': 'a'}", "[[servers]]"),
    "missing key": (changed("classes.1.work_ms", GONE), "classes[1].work_ms is missing", "above 0", "add work_ms"),
    "text for a number": (changed("scenario.slo_ms", "200"), "scenario.slo_ms", "'200'", "above 0"),
    "true for a number": (changed("scenario.requests", True), "scenario.requests", "True", "whole number"),
    "fraction of a slot": (changed("servers.0.slots", 1.5), "servers[0].slots", "1.5", "whole number from 1"),
    "negative": (changed("classes.0.work_ms", -3), "classes[0].work_ms", "-3", "above 0"),
    "nan": (changed("classes.0.cpu", math.nan), "classes[0].cpu", "nan", "finite"),
    "infinite": (changed("servers.0.memory", math.inf), "servers[0].memory", "inf", "finite"),
    "integer beyond floats": (changed("servers.0.cpu", 10**400), "servers[0].cpu", "finite"),
    "integer beyond printing": (changed("servers.0.cpu", 10**5000), "servers[0].cpu", "huge int", "finite"),
    "bad name": (changed("servers.0.id", "server 1"), "servers[0].id", "'server 1'", "letters, digits"),
    "bad url": (changed("servers.0.url", "localhost:80"), "servers[0].url", "'localhost:80'", "http://"),
    "kind of work": (changed("servers.0.work", "think"), "servers[0].work", "'think'", "sleep | cpu"),
    "shares": (changed("classes.0.share", 0.7), "classes have shares 0.7 + 0.25", "0.95", "sum to 1"),
    "class twice": (changed("classes.1.name", "light"), "classes[1].name", "'light'", "used once", "rename"),
    "server twice": (changed("servers.1.id", "server-1"), "servers[1].id", "'server-1'", "used once"),
    "speed missing": (changed("servers.1.speed", {"light": 1.0}), "servers[1].speed", "{'light': 1.0}", "heavy", "every class"),
    "speed unknown": (changed("servers.1.speed.heavi", 2), "servers[1].speed.heavi", "2", "light, heavy", "did you mean heavy?"),
    "speed zero": (changed("servers.1.speed.heavy", 0), "servers[1].speed", "'heavy': 0", "above 0"),
    "speed no table": (changed("servers.1.speed", 1.0), "servers[1].speed", "1.0", "a table"),
    "exponential spread": (
        changed("classes.0", {"name": "light", "share": 0.75, "work_ms": 1, "distribution": "exponential", "spread": 2}),
        "classes[0].spread",
        "2",
        "1 for distribution exponential",
    ),
    "fixed spread": (changed("classes.1.spread", 0.5), "classes[1].spread", "0.5", "0 for distribution fixed"),
    "pareto spread": (
        changed("classes.0", {"name": "light", "share": 0.75, "work_ms": 1, "distribution": "pareto", "spread": 0}),
        "classes[0].spread",
        "0",
        "for distribution pareto",
    ),
    "distribution": (changed("classes.0.distribution", "normal"), "classes[0].distribution", "'normal'", "lognormal | exponential"),
    "match no table": (changed("classes.0.match", "/api"), "classes[0].match is '/api'", "a table such as"),
    "match of nothing": (match(), "classes[0].match is {}", "exactly one of prefix, header (with value) and regex", "add one"),
    "match of two": (match(prefix="/a", regex="b"), "classes[0].match has prefix and regex", "exactly one", "remove one"),
    "match unknown key": (match(prefx="/a"), "classes[0].match.prefx", "found '/a'", "did you mean prefix?"),
    "prefix of no path": (match(prefix="api"), "classes[0].match.prefix", "'api'", "beginning of a path"),
    "prefix with a query": (match(prefix="/api?x"), "classes[0].match.prefix", "'/api?x'"),
    "header that is no name": (match(header="X Class", value="a"), "classes[0].match.header", "'X Class'", "such as X-Class"),
    "header without value": (match(header="X-Class"), "classes[0].match.value is missing", "header and value together", "add value"),
    "value without header": (match(prefix="/a", value="b"), "classes[0].match.header is missing", "together", "add header"),
    "regex that is none": (match(regex="(a"), "classes[0].match.regex", "'(a'", "a regular expression"),
    "regex of another future": (match(regex="[[a]"), "classes[0].match.regex", "'[[a]'", "a regular expression"),
    "regex without bounds": (match(regex="a{99999999999999999999}"), "classes[0].match.regex", "a regular expression"),
    "regex as a number": (match(regex=3), "classes[0].match.regex", "3", "a regular expression"),
    "rate and load": (traffic(rate_rps=9, load=0.5), "traffic has both", "rate_rps = 9", "load = 0.5", "exactly one", "remove"),
    "neither rate nor load": (traffic(kind="sinusoid"), "traffic has neither", "rate_rps", "load", "exactly one", "add"),
    "rate zero": (traffic(rate_rps=0), "traffic.rate_rps", "0", "above 0"),
    "kind of traffic": (traffic(kind="bursty", load=1), "traffic.kind", "'bursty'", "poisson | mmpp"),
    "kind unhashable": (traffic(kind=[], load=1), "traffic.kind", "[]", "poisson"),
    "key of another traffic": (traffic(kind="flash", load=1, period_s=3), "traffic.period_s", "kind sinusoid", "found 3", "factor"),
    "amplitude": (traffic(kind="sinusoid", load=1, amplitude=1.5), "traffic.amplitude", "1.5", "0 to 1"),
    "ramp without steps": (traffic(kind="ramp", load=1), "traffic.steps is missing", "list"),
    "ramp that ends at 0": (traffic(kind="ramp", load=1, steps=[1, 0]), "traffic.steps", "[1, 0]", "last one above 0"),
    "steps with a text": (traffic(kind="ramp", load=1, steps=[1, "2"]), "traffic.steps", "'2'", "list of numbers"),
    "mmpp without states": (traffic(kind="mmpp", load=1), "traffic has neither", "rates_rps", "loads"),
    "mmpp with both": (traffic(kind="mmpp", loads=[1], rates_rps=[2]), "traffic has both", "rates_rps = [2]", "loads = [1]"),
    "mmpp of zeros": (traffic(kind="mmpp", loads=[0, 0]), "traffic.loads", "[0, 0]", "not all 0"),
    "trace without file": (traffic(kind="trace", rate_rps=1), "traffic.file is missing", "add file"),
    "fault on no server": (
        changed("faults.0.server", "server-3"),
        "faults[0].server",
        "'server-3'",
        "server-1, server-2",
        "did you mean server-",
    ),
    "kind of fault": (fault(kind="fire"), "faults[0].kind", "'fire'", "slowdown | fail_fast"),
    "fault without kind": (fault(), "faults[0].kind is missing", "freeze"),
    "key of another fault": (fault(kind="crash", factor=3), "faults[0].factor", "kind slowdown, not of crash", "found 3", "end_s"),
    "end of a join": (fault(kind="join", end_s=3), "faults[0].end_s", "not of join", "found 3"),
    "slowdown without factor": (fault(kind="slowdown"), "faults[0].factor is missing", "above 0"),
    "share of errors": (fault(kind="error_share", share=2), "faults[0].share", "2", "0 to 1"),
    "end before start": (fault(kind="freeze", end_s=0.5), "faults[0].end_s", "0.5", "more than start_s, which is 1"),
}


@pytest.mark.parametrize(("table", "words"), [(table, words) for table, *words in WRONG.values()], ids=WRONG)
def test_an_error_is_one_line_that_names_file_key_value_and_remedy(table: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        parsed(table)
    message = str(caught.value)
    assert message.startswith("tiny.toml: ")
    assert message.count("; ") >= 2, "problem, what is allowed, next step"
    assert len(message.splitlines()) == 1
    assert [word for word in words if word not in message] == []


def test_shares_may_miss_one_by_rounding() -> None:
    assert parsed(changed("classes.0.share", 0.75 + 5e-7)).classes[0].share == 0.75 + 5e-7


KINDS = [
    {"kind": "poisson", "rate_rps": 30.0},
    {"kind": "mmpp", "rates_rps": [10.0, 50.0], "dwell_s": 2.0},
    {"kind": "mmpp", "loads": [0.2, 1.0], "load": 0.6},
    {"kind": "sinusoid", "load": 0.5, "amplitude": 1.0, "period_s": 7.0},
    {"kind": "flash", "load": 0.5, "factor": 3.0, "start_s": 1.0, "rise_s": 0.0, "decay_s": 4.0},
    {"kind": "ramp", "load": 0.5, "steps": [0.0, 1.0], "step_s": 3.0},
    {"kind": "trace", "rate_rps": 5.0, "file": "day.csv", "column": "x", "interval_s": 60.0},
]


@pytest.mark.parametrize("table", KINDS, ids=lambda one: one["kind"])
def test_every_kind_of_traffic_survives_a_round_trip(table: dict[str, Any]) -> None:
    scenario = parsed(changed("traffic", table))
    written = scenario_table(scenario)
    assert parsed(written) == scenario
    assert table.items() <= written["traffic"].items()


@pytest.mark.parametrize("kind", FAULT_BY_KIND)
def test_every_kind_of_fault_survives_a_round_trip(kind: str) -> None:
    own = {"slowdown": {"factor": 6.0}, "fail_fast": {"after_ms": 0.5}, "error_share": {"share": 0.25}}.get(kind, {})
    scenario = parsed(fault(kind=kind, **own))
    assert parsed(scenario_table(scenario)) == scenario
    assert scenario_table(scenario)["faults"] == [{"server": "server-2", "kind": kind, "start_s": 1.0, **own}]


@pytest.mark.parametrize("table", [{"prefix": "/api/"}, {"header": "X-Class", "value": "gold one"}, {"regex": "^/v[0-9]+/heavy"}], ids=str)
def test_every_kind_of_match_survives_a_round_trip(table: dict[str, str]) -> None:
    scenario = parsed(match(**table))
    written = scenario_table(scenario)
    assert parsed(written) == scenario
    assert written["classes"][0]["match"] == table
    assert "match" not in scenario_table(parsed(valid_table()))["classes"][0]


def test_every_traffic_kind_is_tried_above() -> None:
    assert {one["kind"] for one in KINDS} == set(TRAFFIC_BY_KIND)


@given(st.floats(1e-3, 1e5), st.floats(0, 1e4))
@settings(max_examples=300, deadline=None)
def test_milliseconds_of_a_file_survive_a_round_trip_exactly(work_ms: float, overhead_ms: float) -> None:
    table = changed("classes.0.work_ms", work_ms)
    table["scenario"]["overhead_ms"] = overhead_ms
    scenario = parsed(table)
    assert parsed(scenario_table(scenario)) == scenario


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    "scenario",
    "traffic",
    "classes",
    "servers",
    "faults",
    "classes.0",
    "servers.1",
    "faults.0",
    *(f"scenario.{key}" for key in ("id", "requests", "slo_ms")),
    *(f"traffic.{key}" for key in ("kind", "load", "rate_rps", "steps", "loads")),
    *(f"classes.0.{key}" for key in ("name", "share", "work_ms", "distribution", "spread")),
    *(f"classes.0.match{key}" for key in ("", ".prefix", ".regex", ".header", ".value")),
    *(f"servers.0.{key}" for key in ("id", "slots", "speed", "url", "work", "speed.light")),
    *(f"faults.0.{key}" for key in ("server", "kind", "start_s", "end_s", "factor")),
]


def parses_or_says_why(table: dict[str, Any]) -> None:
    try:
        scenario = parsed(table)
    except ScenarioError as error:
        lines = str(error).splitlines()
    else:
        lines = [scenario.id]
        assert parsed(scenario_table(scenario)) == scenario
    assert len(lines) == 1


@given(st.dictionaries(st.sampled_from(["scenario", "traffic", "classes", "servers", "faults"]) | st.text(max_size=6), VALUES, max_size=5))
@settings(max_examples=200, deadline=None)
def test_garbage_raises_nothing_but_scenario_errors(table: dict[str, Any]) -> None:
    parses_or_says_why(table)


@given(st.sampled_from(PATHS), VALUES)
@settings(max_examples=500, deadline=None)
def test_garbage_in_one_place_raises_nothing_but_scenario_errors(path: str, value: object) -> None:
    parses_or_says_why(changed(path, value))

"""What a scenario consists of, in one short line for tables: its servers, request classes and load, read off the scenario itself."""

from collections.abc import Iterable
from functools import cache
from typing import Final

from trimtab.core.scenario import Scenario
from trimtab.errors import TrimtabError
from trimtab.problems.routing.families import FAMILIES, draw_family, draw_named
from trimtab.problems.routing.scenario_files import load_scenario

FAMILY: Final = "family:"
_DRAWS: Final = 300  # of a family, whose ranges are those of these draws: their ends lie within half a step of `_STEP`
_STEP: Final = 0.05  # of load, to which a family's range is rounded


@cache
def setting(scenario: str) -> str:
    """`4 servers x 1 slot, 1 class, load 0.9` of an id or of `family:NAME[:SERVERS]`; empty for one that cannot be read (any more)."""
    try:
        return _family(scenario.removeprefix(FAMILY)) if scenario.startswith(FAMILY) else _single(load_scenario(scenario))
    except TrimtabError:
        return ""


def _single(one: Scenario) -> str:
    return ", ".join([_fleet(len(one.servers), [server.slots for server in one.servers]), _classes(one), _traffic(one)])


def _family(text: str) -> str:
    """The fleet size as asked for, everything else by many draws of the usual, small size."""
    name = text.partition(":")[0]
    if name not in FAMILIES:
        return ""
    drawn = [draw_family(name, 0, index) for index in range(_DRAWS)]
    loads = [round(_load(one) / _STEP) * _STEP for one in drawn]
    slots = [server.slots for one in drawn for server in one.servers]
    fleet = _fleet(len(draw_named(text, 0, 0).servers), slots)
    return f"{fleet}, {_classes(drawn[0])}, load {_range(loads)}"


def _fleet(servers: int, slots: list[int]) -> str:
    return f"{servers} servers x {_range(slots)} {'slot' if max(slots) == 1 else 'slots'}"


def _classes(one: Scenario) -> str:
    return f"{len(one.classes)} {'class' if len(one.classes) == 1 else 'classes'}"


def _load(one: Scenario) -> float:
    return one.rate_rps() / one.capacity_rps()


def _traffic(one: Scenario) -> str:
    """Load, by the kind of traffic; before it the rate where the scenario names that."""
    rate = "" if one.traffic.rate_rps is None else f"{one.traffic.rate_rps:g} requests/s = "
    return f"{rate}load {_loads(one)}"


def _loads(one: Scenario) -> str:
    traffic, load = one.traffic, _load(one)
    if traffic.kind == "mmpp":
        levels = traffic.loads or [rate / one.capacity_rps() for rate in traffic.rates_rps]
        return f"{' or '.join(_short(level) for level in levels)} by chance"
    if traffic.kind == "flash":
        return f"{_short(load)}, at its peak {_short(load * traffic.factor)}"
    if traffic.kind == "sinusoid":
        return _range([load * (1 - traffic.amplitude), load * (1 + traffic.amplitude)])
    if traffic.kind == "ramp":
        return _range([load * step for step in traffic.steps])
    return f"{_short(load)} on average" if traffic.kind == "trace" else _short(load)


def _range(values: Iterable[float]) -> str:
    found = list(values)
    low, high = _short(min(found)), _short(max(found))
    return low if low == high else f"{low}-{high}"


def _short(value: float) -> str:
    return f"{round(value, 2):g}"

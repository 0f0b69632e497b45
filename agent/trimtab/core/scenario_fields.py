"""What a scenario file may say, as data: the keys of each table, and what each value may be."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Between these, sums of times and rates keep the digits that order events; nobody means a number outside.
_SMALLEST, _LARGEST = 1e-12, 1e12


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value may be. `accept` returns the value as the record holds it, or None where it is refused."""

    allowed: str
    accept: Callable[[object], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a table. `attribute` is the record's name for it; keys in milliseconds become seconds."""

    key: str
    rule: Rule
    required: bool = False

    @property
    def in_ms(self) -> bool:
        return self.key.endswith("_ms")

    @property
    def attribute(self) -> str:
        return self.key.removesuffix("_ms") + "_s" if self.in_ms else self.key


# Rules


def _number(low: float, high: float, allowed: str) -> Rule:
    """A number from `low` to `high`, both included; true and false are no numbers."""

    def accept(value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            return None
        return float(value)

    return Rule(allowed, accept)


def _whole(low: int, high: int) -> Rule:
    def accept(value: object) -> int | None:
        return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else None

    return Rule(f"a whole number from {low} to {high}", accept)


def _choice(*names: str) -> Rule:
    return Rule(" | ".join(names), lambda value: value if isinstance(value, str) and value in names else None)


def _text(pattern: str, allowed: str) -> Rule:
    return Rule(allowed, lambda value: value if isinstance(value, str) and re.fullmatch(pattern, value) else None)


def _numbers(allowed: str, check: Callable[[Sequence[float]], bool]) -> Rule:
    """A list of at least one non-negative number that also passes `check`."""

    def accept(value: object) -> tuple[float, ...] | None:
        items = [NOT_NEGATIVE.accept(one) for one in value] if isinstance(value, list | tuple) else []
        return tuple(items) if items and None not in items and check(items) else None

    return Rule(allowed, accept)


def _accept_regex(value: object) -> str | None:
    """A pattern that compiles, and without a warning: those are about sets that a later Python will read differently."""
    if not isinstance(value, str) or not value:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(value)
    except (re.error, RecursionError, OverflowError, Warning):  # the middle two: nested or repeated beyond what Python compiles
        return None
    return value


def _accept_speeds(value: object) -> dict[str, float] | None:
    speeds = {key: POSITIVE.accept(one) for key, one in value.items()} if isinstance(value, Mapping) else {}
    return speeds if speeds and None not in speeds.values() else None


POSITIVE = _number(_SMALLEST, _LARGEST, "a finite number above 0")
NOT_NEGATIVE = _number(0, _LARGEST, "a finite number, 0 or more")
SHARE = _number(0, 1, "a number from 0 to 1")
NAME = _text(r"[A-Za-z0-9_-]+", "a name of letters, digits, _ and -")
TEXT = _text(r"[^\r\n]+", "a text of one line")
URL = _text(r"https?://[^\s/]+\S*", "an address that starts with http:// or https://")
PREFIX = _text(r"/[!\"$->@-~]*", "the beginning of a path, such as /api/")
HEADER = _text(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "the name of a header, such as X-Class")
REGEX = Rule("a regular expression of Python's, such as ^/v[0-9]+/heavy", _accept_regex)
MATCHING = Rule("a table such as { prefix = '/api/' }", lambda value: value if isinstance(value, Mapping) else None)
SPEED = Rule("a table with a number above 0 for every class, such as { light = 1.0 }", _accept_speeds)
STATES = _numbers("a list of numbers, none negative, not all 0", any)
STEPS = _numbers("a list of numbers, none negative, the last one above 0", lambda items: items[-1] > 0)

# Tables of a file

SCENARIO = (
    Field("id", NAME, required=True),
    Field("requests", _whole(1, 10_000_000)),
    Field("warmup", _whole(0, 10_000_000)),
    Field("slo_ms", POSITIVE),
    Field("overhead_ms", NOT_NEGATIVE),
)
CLASS = (
    Field("name", NAME, required=True),
    Field("share", SHARE, required=True),
    Field("work_ms", POSITIVE, required=True),
    Field("distribution", _choice("lognormal", "exponential", "pareto", "fixed")),
    Field("spread", _number(0, 1000, "a number from 0 to 1000")),
    Field("cpu", NOT_NEGATIVE),
    Field("memory", NOT_NEGATIVE),
    Field("match", MATCHING),
)
MATCH = (Field("prefix", PREFIX), Field("header", HEADER), Field("value", TEXT), Field("regex", REGEX))
SERVER = (
    Field("id", NAME, required=True),
    Field("slots", _whole(1, 1024), required=True),
    Field("speed", SPEED, required=True),
    Field("queue_limit", _whole(0, 1_000_000)),
    Field("contention", _number(0, 1000, "a number from 0 to 1000")),
    Field("cpu", POSITIVE),
    Field("memory", POSITIVE),
    Field("work", _choice("sleep", "cpu")),
    Field("url", URL),
)
TRAFFIC_BY_KIND: dict[str, tuple[Field, ...]] = {
    "poisson": (),
    "mmpp": (Field("rates_rps", STATES), Field("loads", STATES), Field("dwell_s", _number(1e-3, _LARGEST, "a number from 0.001 up"))),
    "sinusoid": (Field("amplitude", SHARE), Field("period_s", POSITIVE)),
    "flash": (
        Field("factor", _number(1, 1e6, "a number from 1 to 1e6")),
        Field("start_s", NOT_NEGATIVE),
        Field("rise_s", NOT_NEGATIVE),
        Field("decay_s", POSITIVE),
    ),
    "ramp": (Field("steps", STEPS, required=True), Field("step_s", POSITIVE)),
    "trace": (Field("file", TEXT, required=True), Field("column", TEXT), Field("interval_s", POSITIVE)),
}
TRAFFIC = (Field("kind", _choice(*TRAFFIC_BY_KIND)), Field("rate_rps", POSITIVE), Field("load", POSITIVE))
_END = Field("end_s", NOT_NEGATIVE)
FAULT_BY_KIND: dict[str, tuple[Field, ...]] = {
    "slowdown": (_END, Field("factor", POSITIVE, required=True)),
    "fail_fast": (_END, Field("after_ms", NOT_NEGATIVE)),
    "error_share": (_END, Field("share", SHARE, required=True)),
    "freeze": (_END,),
    "crash": (_END,),
    "leave": (_END,),
    "join": (),  # a server that joins stays; a later `leave` takes it away again
}
FAULT = (
    Field("server", NAME, required=True),
    Field("kind", _choice(*FAULT_BY_KIND), required=True),
    Field("start_s", NOT_NEGATIVE, required=True),
)
SECTIONS = ("scenario", "traffic", "classes", "servers", "faults")

# Spreads that a distribution admits, as a test, in words, and the one it takes where the file says nothing.
SPREADS: dict[str, tuple[Callable[[float], bool], str, float]] = {
    "lognormal": (lambda cv: cv >= 0, "0 or more", 1.0),
    "pareto": (lambda cv: cv >= 1e-6, "1e-6 or more", 1.0),
    "exponential": (lambda cv: cv == 1, "1", 1.0),
    "fixed": (lambda cv: cv == 0, "0", 0.0),
}

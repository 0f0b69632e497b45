"""Options that several commands share, and what `list` and `--scenario-check` print."""

import argparse
import math
from pathlib import Path

from trimtab.errors import UsageError
from trimtab.problems.base import Problem
from trimtab.problems.catalogue import NAMES

CHECKED_COMMAND = "--scenario-check"
HIGHEST_SHARE = 0.5  # of requests that a second decider gets


def add_scenario(parser: argparse.ArgumentParser) -> None:
    """--problem, --scenario, --scenario-check, --servers, --seed."""
    parser.add_argument("--problem", default=None, choices=NAMES, help="what is learned (default routing)")
    parser.add_argument("--scenario-check", metavar="FILE", help="check a scenario file, say what is in it, and stop")
    parser.add_argument("--servers", type=url_list, default=None, metavar="URL,...", help="live servers of your own, in order")
    parser.add_argument("--seed", type=count, default=None, metavar="N", help="of everything random (default 0)")


def count(text: str) -> int:
    """A whole number, zero or more."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def positive(text: str) -> int:
    """A whole number, one or more."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def number(text: str) -> float:
    """NaN, which is in no range, where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def control_share(text: str) -> float:
    """Of a control group: from 0 to a half."""
    share = number(text)
    if not 0.0 <= share <= HIGHEST_SHARE:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: 0 to {HIGHEST_SHARE}")
    return share


def url_list(text: str) -> tuple[str, ...]:
    """Addresses separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def learner_setting(text: str) -> tuple[str, object]:
    """KEY=VALUE with the value as a number, true/false/none or text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    words: dict[str, object] = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return key, words[value.lower()]
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, value


def print_listing(rows: list[tuple[str, str]]) -> int:
    """Two aligned columns."""
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")
    return 0


def print_scenario_check(problem: Problem, path: str) -> int:
    """One line about a valid file; an invalid one raises."""
    if not Path(path).exists():
        raise UsageError(f"{CHECKED_COMMAND} {path}: no such file; name a scenario file")
    print(f"{path}: {problem.check_scenario(path)}")
    return 0

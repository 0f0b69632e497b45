"""The only list of problems. A new one is a folder and a line here."""

import importlib
from typing import Final, cast

from trimtab.errors import UsageError
from trimtab.problems.base import Problem

_PROBLEMS: Final = {  # by name: nobody pays for a problem not asked for
    "routing": "trimtab.problems.routing.problem:Routing",
    "park": "trimtab.problems.park.problem:Park",
    "lbnn": "trimtab.problems.lbnn.problem:Lbnn",
}
NAMES: Final = tuple(_PROBLEMS)


def build(name: str) -> Problem:
    """The problem of that id, or a `UsageError`."""
    if name not in _PROBLEMS:
        raise UsageError(f"unknown problem {name!r}: allowed: {', '.join(NAMES)}; choose one with --problem")
    module, _, factory = _PROBLEMS[name].partition(":")
    return cast(Problem, getattr(importlib.import_module(module), factory)())

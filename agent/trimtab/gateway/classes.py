"""Which request class a request belongs to: by path prefix, header or regular expression, in the order of the scenario file."""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Final

from trimtab.core.scenario import Match, RequestClass, Scenario
from trimtab.errors import UsageError

# An unanchored pattern may take time with the square of the path's length, on the thread that serves everybody; at this length that is
# harmless. Nested repetition such as (a+)+ is exponential at any length: the documents tell operators not to write it.
REGEX_CHARACTERS: Final = 512

_Test = Callable[[str, Mapping[str, str]], bool]


class ClassMatcher:
    """The classes of a scenario in file order; `default` names the class of requests that fit none, None the first.

    Raises UsageError for a default that is no class.
    """

    def __init__(self, scenario: Scenario, default: str | None = None) -> None:
        self._tests = tuple(_test_of(one) for one in scenario.classes)
        self.default = 0 if default is None else _index(default, scenario.class_names)

    def kind_of(self, path: str, headers: Mapping[str, str]) -> int:
        """The class's index for a path as it was sent (no query, nothing decoded) and headers that ignore the case of their names."""
        for kind, fits in enumerate(self._tests):
            if fits(path, headers):
                return kind
        return self.default


def _index(name: str, names: tuple[str, ...]) -> int:
    if name in names:
        return names.index(name)
    close = difflib.get_close_matches(name, names, 1)
    step = f"did you mean {close[0]!r}?" if close else "name one of these"
    raise UsageError(f"default class {name!r} is no class of the scenario; allowed: {', '.join(names)}; {step}")


def _test_of(one: RequestClass) -> _Test:
    match = one.match or Match(prefix=f"/job/{one.name}")
    if match.prefix is not None:
        return _begins_with(match.prefix)
    if match.regex is not None:
        return _contains(re.compile(match.regex))
    return _carries(match.header or "", match.value or "")


def _begins_with(prefix: str) -> _Test:
    """Up to a segment boundary: /job/light is not the beginning of /job/lightning."""
    inside = prefix if prefix.endswith("/") else prefix + "/"
    return lambda path, _headers: path.startswith(inside) or path == prefix


def _contains(pattern: re.Pattern[str]) -> _Test:
    return lambda path, _headers: len(path) <= REGEX_CHARACTERS and pattern.search(path) is not None


def _carries(header: str, value: str) -> _Test:
    return lambda _path, headers: headers.get(header) == value

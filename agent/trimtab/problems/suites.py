"""Suites: ordered lists of scenarios that are evaluated and judged together, as data under `suites/`."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from trimtab.errors import ScenarioError, UsageError

_FOLDER: Final = Path(__file__).parent / "suites"
_KEYS: Final = ("id", "group", "label", "cost")


@dataclass(frozen=True, slots=True)
class Entry:
    """One scenario of a suite."""

    id: str  # what --scenario takes: id, path or family:NAME
    group: str  # what it tests, a word
    label: str  # the same as a short line
    cost: float = 1.0  # about how long it takes in relation to the others; orders the work of several processes, and tells the time left


@dataclass(frozen=True, slots=True)
class Suite:
    """Scenarios of one problem, in the order of every table; ids differ."""

    name: str
    problem: str
    entries: tuple[Entry, ...]
    groups: Mapping[str, str] = field(default_factory=dict)  # what a group is about, in a line; a group may have none


def load_suite(name_or_path: str) -> Suite:
    """The packaged suite of that name, or the file: a path ends in `.toml` or holds a separator.

    Raises UsageError for an unknown name, ScenarioError for a file that is missing or wrong.
    """
    if name_or_path.endswith(".toml") or os.sep in name_or_path:
        return _read(Path(name_or_path))
    names = [path.stem for path in _FOLDER.glob("*.toml")]
    if name_or_path not in names:
        close = difflib.get_close_matches(name_or_path, names, 1)
        hint = f" did you mean {close[0]}?" if close else ""
        raise UsageError(f"no suite is called {name_or_path!r};{hint} list them with --suite list")
    return _read(_FOLDER / f"{name_or_path}.toml")


def list_suites() -> list[tuple[str, str]]:
    """Name and one-line description (the first comment line) of each packaged suite, by name."""
    return [(path.stem, _first_line(path).removeprefix("#").strip()) for path in sorted(_FOLDER.glob("*.toml"))]


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0]


def _read(path: Path) -> Suite:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"cannot read {path}: {error.strerror}; allowed: a TOML file; list packaged ones with --suite list") from error
    except ValueError as error:
        raise ScenarioError(f"{path} is not TOML: {' '.join(str(error).split())}; correct that line") from error
    return _suite(table, path)


def _suite(table: Mapping[str, Any], path: Path) -> Suite:
    problem, listed = table.get("problem"), table.get("scenarios")
    complete = {"problem", "scenarios"} <= set(table) <= {"problem", "scenarios", "groups"}
    if not complete or not isinstance(problem, str) or not isinstance(listed, list) or not listed:
        found = ", ".join(table) or "nothing"
        raise ScenarioError(f'{path} holds {found}; allowed: problem = "routing" and scenarios = [...] with at least one; correct the file')
    entries = tuple(_entry(one, path) for one in listed)
    ids = [one.id for one in entries]
    twice = next((one for one in ids if ids.count(one) > 1), None)
    if twice is not None:
        raise ScenarioError(f"{path}: scenario {twice!r} stands twice; each counts once; remove one of them")
    return Suite(path.stem, problem, entries, _groups(table.get("groups", {}), entries, path))


def _groups(named: Any, entries: tuple[Entry, ...], path: Path) -> Mapping[str, str]:
    known = {one.group for one in entries}
    if not isinstance(named, Mapping) or not set(named) <= known or not all(isinstance(line, str) for line in named.values()):
        raise ScenarioError(f"{path}: groups is {named!r}; allowed: a line of text for any of {', '.join(sorted(known))}; correct it")
    return named


def _entry(one: Any, path: Path) -> Entry:
    fits = isinstance(one, Mapping) and set(one) <= set(_KEYS) and all(isinstance(one.get(key), str) for key in ("id", "group", "label"))
    cost = one.get("cost", 1.0) if fits else 0.0
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not cost > 0:
        raise ScenarioError(f"{path}: {one!r} is no scenario of a suite; allowed: id, group and label as text, and a cost above 0")
    return Entry(one["id"], one["group"], one["label"], float(cost))

"""Scenario files: find, read, check and write them, and the traces they name. Their meaning is in `core/scenario_text.py`."""

import csv
import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from trimtab.core.scenario import F64, Scenario
from trimtab.core.scenario_text import parse_scenario, scenario_table
from trimtab.core.traffic import intensity_rps
from trimtab.errors import ScenarioError, UsageError
from trimtab.paths import REPOSITORY, servers_dir

_FOLDER = Path(__file__).parent / "scenarios"
_DEFAULT_COLUMN = "rate_rps"


def load_scenario(id_or_path: str) -> Scenario:
    """The packaged scenario of that id, or the file: a path ends in `.toml` or holds a separator.

    Raises UsageError for an unknown id, ScenarioError for a file that is missing or wrong.
    """
    if id_or_path.endswith(".toml") or "/" in id_or_path or os.sep in id_or_path:
        return check_scenario(Path(id_or_path))
    return check_scenario(_packaged(id_or_path))


def check_scenario(path: Path) -> Scenario:
    """Reads the file and everything it names (fleet, trace); ScenarioError where anything is wrong."""
    table, source = _with_fleet(_read_toml(path), path)
    scenario = _with_trace_path(parse_scenario(table, source=source), path.parent)
    trace_rps = load_trace(scenario)
    if trace_rps is not None:
        intensity_rps(scenario.traffic, scenario.rate_rps(), 0.0, trace_rps)  # raises where the trace is too slow
    return scenario


def list_scenarios() -> list[tuple[str, str]]:
    """Id and one-line description (the first comment line) of each packaged scenario, by id."""
    return [(path.stem, _description(path)) for path in sorted(_FOLDER.glob("*.toml"))]


def save_scenario(path: Path, scenario: Scenario, *, description: str = "") -> None:
    """Writes the file at once or not at all, replacing what is there; UsageError where the folder cannot be written."""
    comment = f"# {' '.join(description.split())}\n" if description else ""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(comment + tomli_w.dumps(scenario_table(scenario)), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; allowed: a writable folder; name another path") from error
    finally:
        temporary.unlink(missing_ok=True)


def _packaged(scenario_id: str) -> Path:
    ids = [path.stem for path in _FOLDER.glob("*.toml")]
    if scenario_id not in ids:
        raise UsageError(f"no scenario is called {scenario_id!r};{_did_you_mean(scenario_id, ids)} list them with --scenario list")
    return _FOLDER / f"{scenario_id}.toml"


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" did you mean {close[0]}?" if close else ""


def _description(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


# TOML


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(
            f"cannot read {path}: {error.strerror}; allowed: a TOML file; list packaged ones with --scenario list"
        ) from error
    except ValueError as error:  # also text that is not UTF-8, and integers of thousands of digits
        raise ScenarioError(f"{path} is not TOML: {' '.join(str(error).split())}; correct that line") from error


def _with_fleet(table: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """The table, completed by the fleet file that `[scenario]` may name, and what messages call their source."""
    head = table.get("scenario")
    if not isinstance(head, Mapping) or "fleet" not in head:
        return table, str(path)
    fleet_path = _fleet_path(head["fleet"], path)
    fleet = _read_toml(fleet_path)
    _refuse_twice(table, fleet, path, fleet_path)
    own_head = {key: value for key, value in head.items() if key != "fleet"}
    return {**table, "scenario": own_head, **fleet}, f"{path} with {fleet_path}"


def _refuse_twice(table: Mapping[str, Any], fleet: Mapping[str, Any], path: Path, fleet_path: Path) -> None:
    foreign = [key for key in fleet if key not in ("classes", "servers")]
    if foreign:
        raise ScenarioError(f"{fleet_path}: {foreign[0]} does not belong to a fleet; allowed: classes, servers; move it to {path}")
    both = [key for key in ("classes", "servers") if key in table]
    if both:
        step = "remove scenario.fleet or these tables"
        raise ScenarioError(f"{path}: [[{both[0]}]] stands beside scenario.fleet = {str(fleet_path)!r}; allowed: one of the two; {step}")


def _fleet_path(named: object, path: Path) -> Path:
    """Beside the scenario file, else relative to the repository; its `servers/` may have been moved by TRIMTAB_SERVERS."""
    if not isinstance(named, str) or not named:
        raise ScenarioError(f"{path}: scenario.fleet is {named!r}; allowed: the path of a TOML file; name one such as servers/fleet.toml")
    beside, parts = path.parent / named, Path(named).parts
    if beside.is_file():
        return beside
    return servers_dir().joinpath(*parts[1:]) if parts[:1] == ("servers",) else REPOSITORY / named


def _with_trace_path(scenario: Scenario, folder: Path) -> Scenario:
    """A trace file is named relative to its scenario file; the record holds the path itself."""
    file = scenario.traffic.file
    if file is None or _is_packaged_trace(file):
        return scenario
    return replace(scenario, traffic=replace(scenario.traffic, file=str((folder / file).resolve())))


# Traces


def load_trace(scenario: Scenario) -> F64 | None:
    """Rates of the scenario's trace in requests/s, one per `interval_s`  # [T]; None for other kinds of traffic.

    `traffic.file` is a CSV file with a header, or the name of a packaged one; `traffic.column` defaults to `rate_rps`.
    Raises ScenarioError where the file, the column or a value is missing or wrong.
    """
    traffic = scenario.traffic
    if traffic.kind != "trace" or traffic.file is None:
        return None
    path = _FOLDER / f"{traffic.file}.csv" if _is_packaged_trace(traffic.file) else Path(traffic.file)
    rates = _column(path, traffic.column or _DEFAULT_COLUMN)
    if not rates.any():
        raise ScenarioError(f"{path} holds no request ({rates.size} rows); allowed: rates of which one is above 0; name another column")
    return rates


def _is_packaged_trace(file: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]+", file) is not None


def _column(path: Path, column: str) -> F64:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)
            names = list(rows.fieldnames or [])
            if column not in names:
                step = _did_you_mean(column, names) or " set traffic.column"
                raise ScenarioError(f"{path} has no column {column!r}; allowed: {', '.join(names) or 'none, it is empty'};{step}")
            return np.array([_rate(row[column], path, rows.line_num) for row in rows])
    except OSError as error:
        packaged = ", ".join(one.stem for one in sorted(_FOLDER.glob("*.csv")))
        raise ScenarioError(
            f"cannot read trace {path}: {error.strerror}; allowed: a CSV file or one of {packaged}; set traffic.file"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ScenarioError(f"{path} is not a CSV file in UTF-8: {error}; set traffic.file") from error


def _rate(text: str | None, path: Path, line: int) -> float:
    try:
        rate = float(text or "nan")
    except ValueError:
        rate = np.nan
    if not 0 <= rate < np.inf:
        raise ScenarioError(f"{path}, line {line}: rate is {text!r}; allowed: a finite number, 0 or more; correct that line")
    return rate

"""The decision log: what a gateway writes and a learner reads. The one place that knows its format.

A folder with a header, `log.json`, the names of who decided, `deciders.json`, and segments, `NUMBER-BEFORE.log`: NUMBER counts up for ever,
BEFORE is the number of decisions in all earlier segments, deleted ones included. A segment is a sequence of records of one size. Segments
only grow; a gateway that starts begins a new one, whose number is its session. What stands behind the last whole record was torn off by a
kill, and is no record.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trimtab.core.scenario import Scenario
from trimtab.core.scenario_text import parse_scenario, scenario_table
from trimtab.errors import ResultsError, ScenarioError
from trimtab.experiments.csv_log import write_text

FORMAT: Final = 1
HEADER: Final = "log.json"
DECIDERS: Final = "deciders.json"
LOCK: Final = "lock"  # held by the gateway that writes; its text is that process's id
MARK: Final = 0xA5  # the last byte of every record: a machine that loses power may leave a block of zeros where records were to be

Records = npt.NDArray[np.void]

_SEGMENT: Final = re.compile(r"(\d{8})-(\d{15})\.log")


@dataclass(frozen=True, slots=True)
class Header:
    """What every record of a log is about. Logs with equal headers can be read together."""

    scenario_id: str
    servers: tuple[str, ...]  # [S] ids
    classes: tuple[str, ...]  # [K] names
    features: tuple[str, ...]  # [F] of the observation
    unit_s: float  # mean service time of the fleet as declared: the unit of the reward
    scenario: dict[str, Any]  # the whole of it, as a scenario file has it: costs and capacities for the metrics

    @property
    def record(self) -> np.dtype[np.void]:
        """The layout of one record: one attempt of one request."""
        servers, features = len(self.servers), len(self.features)
        return np.dtype([*_FIELDS, ("mask", "?", (servers,)), ("seen", "<f4", (servers, features)), ("mark", "u1")])

    def read_scenario(self) -> Scenario:
        """The scenario as a record."""
        return parse_scenario(self.scenario, source=HEADER)


_FIELDS: Final = [
    ("id", "<i8"),  # counts the decisions of a session from 0, in the order in which they were made
    ("oldest", "<i8"),  # the oldest id that was still in flight when this one ended: those below it have all ended
    ("session", "<i8"),  # number of the first segment of the gateway that decided
    ("wall_s", "<f8"),  # seconds since 1970 at the end of the attempt
    ("sent_s", "<f8"),  # monotonic seconds of that gateway
    ("latency_s", "<f8"),
    ("service_s", "<f8"),  # as the server reports it, 0 where it does not
    ("queue_s", "<f8"),
    ("kind", "<i4"),  # index of the request's class
    ("server", "<i4"),
    ("status", "i1"),  # SERVED, FAILED or UNMEASURED of core.request_log
    ("decided_by", "u1"),  # index into deciders.json
    ("explored", "?"),  # taken by chance, or because a heuristic said so, and not for its value
]


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of records; `before` decisions stand in earlier ones."""

    number: int
    before: int
    path: Path

    @classmethod
    def at(cls, folder: Path, number: int, before: int) -> "Segment":
        return cls(number, before, folder / f"{number:08d}-{before:015d}.log")


def header_of(scenario: Scenario, features: Sequence[str]) -> Header:
    """The header of a log of this scenario's decisions, seen as these features."""
    table = scenario_table(scenario)
    return Header(scenario.id, scenario.server_ids, scenario.class_names, tuple(features), scenario.fleet_service_s(), table)


def write_header(folder: Path, header: Header) -> None:
    """Write it, atomically. Raises ResultsError."""
    write_text(folder / HEADER, json.dumps({"format": FORMAT, **asdict(header)}, indent=1) + "\n")


def read_header(folder: Path) -> Header:
    """The header of the log in `folder`. Raises ResultsError in one line where there is none or it is not one of this version."""
    path = folder / HEADER
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        version = table.pop("format")
        if version != FORMAT:
            raise ResultsError(f"{path}: format {version!r}; this version reads {FORMAT}; record anew")
        fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        header = Header(**fields)
        header.read_scenario()
    except FileNotFoundError as error:
        raise ResultsError(f"{folder} holds no decision log: {HEADER} is missing; record one with app.py --record {folder}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ScenarioError) as error:
        raise ResultsError(f"{path}: not the header of a decision log ({type(error).__name__}); name another folder") from error
    return header


def check_same(folder: Path, found: Header, wanted: Header) -> None:
    """Raises ResultsError, naming what differs, where records of the one cannot stand beside records of the other."""
    for name in ("scenario_id", "servers", "classes", "features", "unit_s"):
        there, here = getattr(found, name), getattr(wanted, name)
        if there != here:
            what = name.replace("_", " ")
            raise ResultsError(f"{folder} holds decisions with {what} {_short(there)}, not {_short(here)}; name another folder")


def _short(value: object) -> str:
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def segments(folder: Path) -> list[Segment]:
    """All segments there now, oldest first."""
    found = [(path, _SEGMENT.fullmatch(path.name)) for path in folder.iterdir()]
    return sorted((Segment(int(match[1]), int(match[2]), path) for path, match in found if match), key=lambda one: one.number)


def records_in(segment: Segment, record: np.dtype[np.void], first: int = 0, most: int = -1) -> Records:
    """The segment's whole records from number `first` on, at most `most` of them (-1: all). Empty where it has been deleted meanwhile."""
    try:
        with segment.path.open("rb") as file:
            file.seek(first * record.itemsize)
            content = file.read(most * record.itemsize if most >= 0 else -1)
    except FileNotFoundError:
        content = b""
    records = np.frombuffer(content, dtype=record, count=len(content) // record.itemsize)
    whole = records["mark"] == MARK
    return records if whole.all() else records[: int(np.argmin(whole))]


def decisions_in(folder: Path, record: np.dtype[np.void]) -> int:
    """Decisions that were ever recorded, deleted ones included."""
    found = segments(folder)
    return found[-1].before + len(records_in(found[-1], record)) if found else 0


def read_deciders(folder: Path) -> list[str]:
    """Names by the index that records hold; empty before the first decision."""
    path = folder / DECIDERS
    try:
        return [str(name) for name in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise ResultsError(f"{path}: not a list of names ({type(error).__name__}); record into another folder") from error


def write_deciders(folder: Path, names: Sequence[str]) -> None:
    """Replace the list of names, atomically. Raises ResultsError."""
    write_text(folder / DECIDERS, json.dumps(list(names)) + "\n")

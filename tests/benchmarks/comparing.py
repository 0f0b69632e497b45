"""What the comparisons share: names chosen, jobs of variants and seeds, files that a stopped one goes on with."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd

from trimtab.errors import ResultsError, UsageError
from trimtab.experiments.csv_log import CsvLog, write_text
from trimtab.experiments.runs import provenance

KEY = ("variant", "seed")
Row = dict[str, Any]


class Named(Protocol):
    @property
    def name(self) -> str: ...


Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Job:
    """A variant and a seed; without a variant one of the references of that name, which learns nothing."""

    plan: Any  # what every variant goes through
    name: str
    seed: int | None = None
    variant: Any = None

    @property
    def seed_text(self) -> str:
        return "" if self.seed is None else str(self.seed)


@dataclass
class Outcome:
    """What a job found: what it cost, for its row in results.csv, and the rows of the other files by name."""

    cost: Row = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)


def chosen(option: str, text: str, known: Sequence[Kind], name_of: Callable[[Kind], str]) -> list[Kind]:
    """What an option such as --variants names, in the order of `known`; 'all' are all. Raises UsageError."""
    names = [name_of(one) for one in known]
    wanted = names if text == "all" else [part.strip() for part in text.split(",")]
    for name in wanted:
        if name not in names:
            raise UsageError(f"{option} {name!r} is none of these: {', '.join(names)}; see {option} list")
    return [one for one in known if name_of(one) in wanted]


def jobs_of(plan: Any, references: Sequence[str], variants: Sequence[Named], seeds: Sequence[int]) -> Iterator[Job]:
    """Seed by seed, so that a run that is stopped has compared everybody equally."""
    yield from (Job(plan, name) for name in references)
    yield from (Job(plan, one.name, seed, one) for seed in seeds for one in variants)


def measured(path: Path) -> pd.DataFrame:
    """A file of a comparison; `variant` and `seed` are text, a reference has the seed ''."""
    frame = pd.read_csv(path, dtype={"variant": str, "seed": str})
    return frame.assign(seed=frame["seed"].fillna(""))


class Results:
    """The files of a comparison, by name their columns. A row in results.csv says that a job is finished; it is written last."""

    def __init__(self, folder: Path, files: Mapping[str, Sequence[str]]) -> None:
        self.folder = folder
        self._settings = folder / "settings.json"
        self._logs = {name: CsvLog(folder / f"{name}.csv", (*KEY, *columns)) for name, columns in files.items()}

    @property
    def begun(self) -> bool:
        return self._settings.exists()

    def open(self, wanted: Mapping[str, Any]) -> None:
        """Begin, or go on with what is there. Raises ResultsError where that was measured with other settings."""
        if self.begun:
            self._require_same(wanted)
            return
        for log in self._logs.values():
            log.create()
        write_text(self._settings, json.dumps({"plan": wanted, **provenance()}, indent=2) + "\n")

    def _require_same(self, wanted: Mapping[str, Any]) -> None:
        found = json.loads(self._settings.read_text(encoding="utf-8"))["plan"]
        for key, value in wanted.items():
            if found.get(key) != value:
                raise ResultsError(f"{self.folder} was measured with {key} = {found.get(key)}, not {value}; name another --out")

    def frames(self) -> dict[str, pd.DataFrame]:
        """Every file's rows, as `measured`."""
        return {name: measured(log.path) for name, log in self._logs.items()}

    def fill(self, jobs: Sequence[Job], run: Callable[[Sequence[Job]], Iterator[tuple[int, Outcome]]], clock: str) -> None:
        """Do what is not yet done, and write each job as it is finished. `clock` is the column that says how long it took."""
        finished = measured(self._logs["results"].path)
        done = set(zip(finished["variant"], finished["seed"], strict=True))
        open_ = [job for job in jobs if (job.name, job.seed_text) not in done]
        print(f"{len(jobs) - len(open_)} of {len(jobs)} are there already", flush=True)
        for number, (place, outcome) in enumerate(run(open_), 1):
            job = open_[place]
            self._add(job, outcome)
            cost = f"{outcome.cost[clock]:.1f} s of learning" if clock in outcome.cost else "nothing to learn"
            print(f"{number}/{len(open_)}  {job.name}  seed {job.seed_text or '-'}  {cost}", flush=True)

    def _add(self, job: Job, outcome: Outcome) -> None:
        key = {"variant": job.name, "seed": job.seed}
        for name, rows in outcome.rows.items():
            self._logs[name].append([{**key, **row} for row in rows])
        self._logs["results"].append([{**key, **outcome.cost}])

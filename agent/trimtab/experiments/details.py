"""Files beside evaluation.csv with what needs single requests: evaluation_latency.csv, evaluation_shares.csv, evaluation_timeline.csv."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from trimtab.core.request_log import RequestLog
from trimtab.core.scenario import Scenario
from trimtab.errors import ResultsError
from trimtab.experiments import detail_rows
from trimtab.experiments.csv_log import cell_text, write_text
from trimtab.experiments.detail_rows import Requests, Row
from trimtab.problems.base import BatchEnv, World

COLUMNS: Final = {
    "latency": detail_rows.LATENCY_COLUMNS,
    "shares": detail_rows.SHARES_COLUMNS,
    "timeline": detail_rows.TIMELINE_COLUMNS,
}
_ROWS: Final[dict[str, Callable[[Requests], list[Row]]]] = {
    "latency": detail_rows.latency_rows,
    "shares": detail_rows.share_rows,
    "timeline": detail_rows.timeline_rows,
}


Key = tuple[str, str, str]  # scenario, backend, policy
Gathered = dict[Key, dict[str, list[Row]]]  # by file; can be sent from process to process


@runtime_checkable
class Logged(Protocol):
    """An environment in which a decision sends a request that is logged; that of a problem without requests is none."""

    def requests(self) -> tuple[RequestLog, Sequence[Scenario], slice]:
        """What became of the requests of the present episodes, the scenario of each episode, and which requests count."""


class Details:
    """Gathers what evaluated policies did. A policy's requests become rows as soon as its last episode is there, to save memory."""

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes  # of each policy
        self._open: dict[Key, list[Requests]] = {}
        self._rows: Gathered = {}  # in the order in which policies began: live ones end in another

    def add(self, world: World, policy: str, env: BatchEnv) -> None:
        """The episodes that `env` has just played to the end under that policy."""
        if not isinstance(env, Logged):
            return
        log, scenarios, counted = env.requests()
        key = (world.scenario_id, world.backend, policy)
        self._rows.setdefault(key, {})
        parts = self._open.setdefault(key, [])
        parts += [detail_rows.requests_of(log, b, scenario, counted) for b, scenario in enumerate(scenarios)]
        if len(parts) >= self._episodes:
            self._close(key)

    def gathered(self) -> Gathered:
        """The rows of all policies, those with fewer episodes than planned included: an interrupted live evaluation leaves such."""
        for key in list(self._open):
            self._close(key)
        return self._rows

    def merge(self, others: Gathered) -> None:
        """Rows that another process gathered, of policies that this one has not played; they follow those that are here."""
        self._rows.update(others)

    def write(self, path: Path) -> list[Path]:
        """Write the files that belong to the evaluation at `path`, and return their paths; what was there is replaced.

        A file without rows is removed: it would describe an earlier evaluation. Raises `ResultsError` where the disk refuses.
        """
        gathered, written = self.gathered(), []
        for kind, columns in COLUMNS.items():
            place, rows = beside(path, kind), [row for by_kind in gathered.values() for row in by_kind[kind]]
            if rows:
                write_text(place, _text(columns, rows))
                written.append(place)
            else:
                _remove(place)
        return written

    def _close(self, key: Key) -> None:
        requests = detail_rows.pooled(self._open.pop(key))
        fixed: Row = dict(zip(detail_rows.KEYS, key, strict=True))
        self._rows[key] = {kind: [{**fixed, **row} for row in rows_of(requests)] for kind, rows_of in _ROWS.items()}


def beside(path: Path, kind: str) -> Path:
    """`evaluation.csv` and `latency` make `evaluation_latency.csv`, in the same folder."""
    return path.with_name(f"{path.stem}_{kind}.csv")


def kind_of(columns: Sequence[str]) -> str | None:
    """Which of the files has these columns; None for none of them."""
    return next((kind for kind, own in COLUMNS.items() if tuple(columns) == own), None)


def _text(columns: Sequence[str], rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell_text(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def _remove(place: Path) -> None:
    try:
        place.unlink(missing_ok=True)
    except OSError as error:
        raise ResultsError(f"cannot remove {place}, which an earlier evaluation left: {error.strerror}; remove it") from error

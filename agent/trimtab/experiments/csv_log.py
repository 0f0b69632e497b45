"""CSV files that grow by rows, are never overwritten by surprise, and can be cut back to where a run resumes."""

import contextlib
import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from trimtab.errors import ResultsError

Cell = str | int | float | None


def write_text(path: Path, text: str) -> None:
    """Replace a text file at once or not at all. Raises `ResultsError` where the disk refuses."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the folder itself is in the way: the error that led here says more
            temporary.unlink(missing_ok=True)
        raise ResultsError(
            f"cannot write {path}: {error.strerror}; what was there is untouched; free some space or name another place"
        ) from error


class CsvLog:
    """Rows under a fixed header. Every `append` reaches the operating system before it returns."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.columns = tuple(columns)

    def create(self) -> None:
        """Start with the header alone, replacing what is there: whether that may happen is the caller's to ask."""
        write_text(self.path, ",".join(self.columns) + "\n")

    def append(self, rows: Sequence[Mapping[str, Cell]]) -> None:
        """Add rows; a missing cell or a nan is left blank."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([cell_text(row.get(column)) for column in self.columns] for row in rows)
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        except OSError as error:
            raise ResultsError(
                f"cannot write {self.path}: {error.strerror}; earlier rows are kept; free some space and --resume"
            ) from error

    def cut(self, rows: int) -> None:
        """Keep the header and the first `rows` rows: what came after belongs to work that is about to be done again.

        A file not there yet is no loss where it held nothing. Raises `ResultsError` where rows are missing.
        """
        if rows == 0:
            self.create()
            return
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ResultsError(f"cannot read {self.path}: {error.strerror}; it is part of the run; start anew with --overwrite") from error
        if len(lines) < rows + 1:
            raise ResultsError(
                f"{self.path} has {len(lines) - 1} rows, the state {rows}; it was changed since; start anew with --overwrite"
            )
        write_text(self.path, "\n".join(lines[: rows + 1]) + "\n")


def cell_text(value: Cell) -> str:
    """A cell as text: floats with seven significant digits, nothing for what was not measured."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.7g}" if isinstance(value, float) else str(value)

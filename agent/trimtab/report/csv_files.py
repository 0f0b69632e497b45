"""Reading the results files. What does not fit the contract is refused in one line that says what was expected and what writes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from trimtab.errors import ResultsError
from trimtab.experiments.details import COLUMNS, beside, kind_of
from trimtab.report.columns import KEYS

TRAINING_COMMAND = "python agent/train_dqn.py"
EVALUATION_COMMAND = "python agent/evaluate_dqn.py"
# The columns that every problem writes; a problem declares the others itself, so their absence is not an error.
TRAINING_REQUIRED = ("episode", "phase", "backend", "total_reward")
EVALUATION_REQUIRED = (*KEYS, "total_reward", "decision_us")
TEXT_COLUMNS = ("scenario", "backend", "policy", "phase", "server", "class", "fault")
DETAIL_ENDINGS = tuple(f"_{kind}" for kind in COLUMNS)


@dataclass(frozen=True)
class Results:
    """What the given files hold: one training run at most, and all evaluation rows together."""

    training: pd.DataFrame | None = None
    evaluation: pd.DataFrame | None = None
    rows: dict[Path, int] = field(default_factory=dict)
    details: dict[Path, tuple[str, pd.DataFrame]] = field(default_factory=dict)  # kind and rows of the files beside evaluations


def read_training(path: Path) -> pd.DataFrame:
    """`training_metrics.csv` in episode order. Raises ResultsError."""
    return _training(path, _read(path, f"written by `{TRAINING_COMMAND}`"))


def read_evaluation(path: Path) -> pd.DataFrame:
    """`evaluation.csv`, one row per scenario x backend x policy x episode. Raises ResultsError."""
    return _joined({path: _evaluation(path, _read(path, f"written by `{EVALUATION_COMMAND}`"))})


def read_results(paths: Sequence[Path]) -> Results:
    """All `paths`, each recognised from its columns, and what lies beside an evaluation.

    Raises ResultsError, also for a second training run or a repeated row.
    """
    training: dict[Path, pd.DataFrame] = {}
    evaluation: dict[Path, pd.DataFrame] = {}
    details: dict[Path, tuple[str, pd.DataFrame]] = {}
    for path in _with_details(paths):
        frame = _read(path, f"written by `{TRAINING_COMMAND}` or `{EVALUATION_COMMAND}`")
        kind = kind_of(list(frame.columns))
        if kind is not None:
            details[path] = (kind, _checked_numbers(path, frame))
        elif _is_training(path, frame.columns):
            training[path] = _training(path, frame)
        else:
            evaluation[path] = _evaluation(path, frame)
    if len(training) > 1:
        names = ", ".join(str(path) for path in training)
        raise ResultsError(f"found {len(training)} training files ({names}); one report shows one run: give one of them")
    rows = {path: len(frame) for path, frame in (training | evaluation).items()} | {path: len(one) for path, (_, one) in details.items()}
    return Results(next(iter(training.values()), None), _joined(evaluation) if evaluation else None, rows, details)


def results_in(folder: Path) -> list[Path]:
    """The results files of a metrics folder: training_metrics.csv and every evaluation*.csv. Raises ResultsError where there is none."""
    evaluations = [path for path in sorted(folder.glob("evaluation*.csv")) if not path.stem.endswith(DETAIL_ENDINGS)]
    found = [path for path in (folder / "training_metrics.csv",) if path.is_file()] + evaluations
    if not found:
        raise ResultsError(
            f"{folder} holds neither training_metrics.csv nor evaluation.csv; "
            f"write them with `{TRAINING_COMMAND}` or `{EVALUATION_COMMAND}`, or name files with --csv"
        )
    return found


def _with_details(paths: Sequence[Path]) -> list[Path]:
    """Each path once, and after it the files that its evaluation left beside it."""
    wanted: dict[Path, Path] = {}
    for path in paths:
        for one in (path, *(place for place in (beside(path, kind) for kind in COLUMNS) if place.is_file())):
            wanted.setdefault(one.resolve(), one)
    return list(wanted.values())


def _is_training(path: Path, columns: pd.Index) -> bool:
    """A policy or scenario column means evaluation, a phase or epsilon column training; a file with neither is refused."""
    if "policy" in columns or "scenario" in columns:
        return False
    if "phase" in columns or "epsilon" in columns:
        return True
    raise ResultsError(
        f"{path} is no results file: expected the columns {', '.join(TRAINING_REQUIRED)} (`{TRAINING_COMMAND}`) "
        f"or {', '.join(EVALUATION_REQUIRED)} (`{EVALUATION_COMMAND}`), found {_listed(columns)}"
    )


def _training(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    _require(path, frame, TRAINING_REQUIRED, TRAINING_COMMAND)
    return _checked_numbers(path, frame).sort_values("episode", ignore_index=True)


def _evaluation(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    _require(path, frame, EVALUATION_REQUIRED, EVALUATION_COMMAND)
    return _checked_numbers(path, frame)


def _read(path: Path, origin: str) -> pd.DataFrame:
    if not path.is_file():
        raise ResultsError(f"{path} does not exist; it is {origin}")
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, "str"), skipinitialspace=True)
    except pd.errors.EmptyDataError as error:
        raise ResultsError(f"{path} is empty; it is {origin}") from error
    except (pd.errors.ParserError, UnicodeDecodeError, OSError) as error:
        raise ResultsError(f"{path} cannot be read as CSV ({' '.join(str(error).split())}); it is {origin}") from error
    if frame.empty:
        raise ResultsError(f"{path} has a header but no rows; it is {origin}")
    return frame


def _require(path: Path, frame: pd.DataFrame, required: Sequence[str], command: str) -> None:
    missing = [column for column in required if column not in frame.columns]
    if missing:
        raise ResultsError(
            f"{path} lacks {', '.join(missing)}; expected at least {', '.join(required)}; "
            f"found {_listed(frame.columns)}; write it with `{command}`"
        )
    blank = [column for column in required if column in (*TEXT_COLUMNS, "episode") and frame[column].isna().any()]
    if blank:
        raise ResultsError(f"{path} has rows without {', '.join(blank)}; every row needs them; write it with `{command}`")


def _checked_numbers(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """All but the text columns as floats; the first cell that is neither a number nor blank is named."""
    numbers = frame.copy()
    for column in frame.columns.difference(list(TEXT_COLUMNS), sort=False):
        numbers[column] = pd.to_numeric(frame[column], errors="coerce").astype("float64")
        wrong = numbers[column].isna() & frame[column].notna()
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            cell = str(frame[column].iloc[row])
            raise ResultsError(f"{path} line {row + 2}, {column}: {cell!r} is not a number; a cell holds a number or nothing")
    return numbers


def _joined(frames: dict[Path, pd.DataFrame]) -> pd.DataFrame:
    """All evaluation rows; a repeated one is refused, because counting an episode twice narrows every interval."""
    joined = pd.concat(list(frames.values()), ignore_index=True)
    repeated = joined.duplicated(list(KEYS))
    if repeated.any():
        row = joined[repeated].iloc[0]
        names = ", ".join(f"{key} {row[key]:g}" if isinstance(row[key], float) else f"{key} {row[key]}" for key in KEYS)
        files = ", ".join(str(path) for path in frames)
        raise ResultsError(f"{names} stands twice in {files}; each episode counts once: give files that do not overlap with --csv")
    return joined


def _listed(columns: pd.Index) -> str:
    shown = [str(column) for column in columns[:8]]
    return ", ".join(shown) + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")

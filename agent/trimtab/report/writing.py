"""From results files to figures and a page on disk. All written files are derived, so they are replaced, each in one step."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trimtab.errors import ResultsError
from trimtab.report.comparison import evaluation_tables, twin_against_live
from trimtab.report.csv_files import Results, read_evaluation, read_results
from trimtab.report.details import details_of
from trimtab.report.evaluation_figures import evaluation_drawings, twin_drawings
from trimtab.report.explain_figures import explained_commands, explained_drawings
from trimtab.report.guide import guide_of, make_guide
from trimtab.report.html import BoardFile, Contents, page
from trimtab.report.scoreboard import Naming, scoreboard
from trimtab.report.scoreboard_figure import scoreboard_drawing
from trimtab.report.scoreboard_tables import scoreboard_csv, scoreboard_markdown
from trimtab.report.training_figures import training_drawings

REPORT = "report.html"


def write_report(
    csv_files: Sequence[Path],
    out: Path,
    command: str,
    reference: str | None = None,
    board: BoardFile | None = None,
    naming: Naming | None = None,
) -> list[Path]:
    """Draw everything that `csv_files` hold into `out` and return the written paths, the report last. Raises ResultsError.

    `command` stands in the footer as what made the page; `reference` is the policy that the tables compare with; `board` is shown too,
    and what `--explain` left in `out`. `naming` says how scenarios are called.
    """
    contents = report_contents(read_results(csv_files), command, reference, find_config(csv_files), board, naming)
    contents = replace(contents, explained=explained_drawings(out), explained_commands=explained_commands(out))
    files = {f"{drawing.name}.png": drawing.png for drawing in contents.drawings}
    return _write(out, {**files, REPORT: page(contents).encode("utf-8")})


def write_explained(out: Path) -> list[Path]:
    """Draw the files of `--explain` in `out`, and return the paths of the figures. Raises ResultsError."""
    return _write(out, {f"{drawing.name}.png": drawing.png for drawing in explained_drawings(out)})


def read_scoreboard(csv_file: Path, naming: Naming | None = None) -> BoardFile:
    """The scoreboard of the rows in `csv_file`, with its figure. Raises ResultsError."""
    rows = read_evaluation(csv_file)
    named = naming or Naming()
    board = scoreboard(rows, named)
    return BoardFile(csv_file, len(rows), make_guide(rows, board, named), scoreboard_drawing(board))


def write_scoreboard(one: BoardFile, out: Path) -> list[Path]:
    """Write scoreboard.csv, .md and .png into `out` and return their paths. Raises ResultsError."""
    return _write(
        out,
        {
            "scoreboard.csv": scoreboard_csv(one.guide.board).encode("utf-8"),
            "scoreboard.md": scoreboard_markdown(one.guide.board, one.guide.grids).encode("utf-8"),
            "scoreboard.png": one.drawing.png,
        },
    )


def report_contents(
    results: Results,
    command: str,
    reference: str | None = None,
    config: Mapping[str, object] | None = None,
    board: BoardFile | None = None,
    naming: Naming | None = None,
) -> Contents:
    """Tables and figures of `results`, computed once for both the folder and the page."""
    tables = [] if results.evaluation is None else evaluation_tables(results.evaluation, reference)
    comparisons = [] if results.evaluation is None else twin_against_live(results.evaluation)
    return Contents(
        results=results,
        learning=[] if results.training is None else training_drawings(results.training),
        tables=tables,
        evaluation=evaluation_drawings(tables),
        details=details_of(results),
        board=board,
        comparisons=comparisons,
        twin=twin_drawings(comparisons),
        command=command,
        config=config,
        guide=None if _covered(results, board) else guide_of(results.evaluation, naming or Naming()),
        naming=naming or Naming(),
    )


def _covered(results: Results, board: BoardFile | None) -> bool:
    """Whether the board judges every evaluated scenario, so that the page need not say it twice."""
    if results.evaluation is None or board is None:
        return False
    judged = {(row.scenario, row.backend) for row in board.guide.board.rows}
    return set(zip(results.evaluation["scenario"], results.evaluation["backend"], strict=True)) <= judged


def find_config(csv_files: Sequence[Path]) -> Mapping[str, object] | None:
    """The run's config.json, beside a CSV or in the folder above it as training leaves it; None where there is none."""
    folders = [folder for path in csv_files for folder in (path.resolve().parent, path.resolve().parent.parent)]
    path = next((folder / "config.json" for folder in folders if (folder / "config.json").is_file()), None)
    if path is None:
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} is no readable JSON ({error}); restore it or move it away, the report works without") from error
    return config if isinstance(config, dict) else {"config": config}


def _write(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Files by name into a folder that is made where it is missing; their paths."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            replace_file(out / name, data)
    except OSError as error:
        raise ResultsError(f"cannot write to {out} ({error.strerror}); name a writable folder with --out") from error
    return [out / name for name in files]


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` beside `path` and move it over, so that a reader or an interrupted run never sees half a file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)  # mkstemp makes files that only their owner reads
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise

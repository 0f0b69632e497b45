"""`visualize.py`: figures and one self-contained report from the results files."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trimtab.cli import command
from trimtab.errors import UsageError
from trimtab.paths import models_dir
from trimtab.problems.suites import load_suite

if TYPE_CHECKING:
    from trimtab.report.scoreboard import Naming

EXAMPLES = """\
python agent/visualize.py
    figures and report.html from Models/metrics/ into Models/metrics/plots/
python agent/visualize.py --csv twin.csv live.csv --out plots
    files of your own; each is recognised from its columns
python agent/visualize.py --reference sed-online
    compare every policy with sed-online instead of dqn
python agent/visualize.py --scoreboard Models/scoreboard/evaluation.csv
    the headroom map of a suite: scoreboard.csv, scoreboard.md, scoreboard.png and report.html beside the file
python agent/visualize.py --csv Models/metrics/evaluation.csv --scoreboard Models/scoreboard/evaluation.csv
    one report with both
python agent/visualize.py --explain Models/reference.pth --scenario family:grey --out Models/metrics/plots
    what a model goes by, its rule beside the heuristics', who gets which class; a report.html written there later shows it, too
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what the results files hold; 0 done, 1 the files are missing or malformed, 2 bad usage."""
    return command.run(_draw, build_parser(), argv)


def build_parser() -> argparse.ArgumentParser:
    """The options, apart so that documentation and tests can read them."""
    parser = command.parser("visualize.py", "Draw learning curves, evaluation figures and one self-contained report.html.", EXAMPLES)
    parser.add_argument(
        "--csv",
        type=Path,
        nargs="+",
        action="extend",
        metavar="PATH",
        help="results files, recognised from their columns (default: training_metrics.csv and evaluation*.csv in Models/metrics)",
    )
    parser.add_argument("--scoreboard", type=Path, metavar="CSV", help="an evaluated suite, for the headroom map; alone or beside --csv")
    parser.add_argument("--suite", metavar="NAME", help="suite whose groups and labels a scoreboard shows (default twin)")
    parser.add_argument("--explain", type=Path, metavar="MODEL", help="what a routing model has learned; alone or beside --csv")
    parser.add_argument(
        "--scenario", metavar="ID", help="where --explain plays it, in the twin: id, file or family:NAME (default compose-default)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: plots/ beside the first file, or of the model's run)"
    )
    parser.add_argument("--reference", metavar="POLICY", help="policy that the tables compare with (default: dqn, else sed-online)")
    return parser


def _draw(options: argparse.Namespace) -> int:
    if options.suite and not options.scoreboard:
        raise UsageError("--suite names the scenarios of a scoreboard; give its rows with --scoreboard CSV")
    if options.scoreboard and options.reference and not options.csv:
        raise UsageError("--scoreboard compares with fixed policies, and --reference is for the tables of --csv; leave --reference out")
    if options.scenario and not options.explain:
        raise UsageError("--scenario says where a model is explained; name one with --explain MODEL")
    if options.explain:
        _explain(options.explain, options.scenario, _out(options) or _run_plots(options.explain.parent))
    return 0 if options.explain and not (options.csv or options.scoreboard) else _report(options)


def _report(options: argparse.Namespace) -> int:
    # Imported here: pandas, scipy and matplotlib take seconds, and --help or a mistyped option should not wait for them.
    from trimtab.report.csv_files import results_in
    from trimtab.report.writing import read_scoreboard, write_report, write_scoreboard

    csv_files = options.csv or ([] if options.scoreboard else results_in(models_dir() / "metrics"))
    out = _out(options) or csv_files[0].parent / "plots"
    naming = _naming(options)
    board = read_scoreboard(options.scoreboard, naming) if options.scoreboard else None
    for path in write_scoreboard(board, out) if board else []:
        print(f"wrote {path}")
    written = write_report(csv_files, out, _command_line(options), options.reference, board, naming)
    print(f"wrote {len(written) - 1} figures into {out}")
    print(f"wrote {written[-1]}")
    return 0


def _out(options: argparse.Namespace) -> Path | None:
    """Where to write; None: beside whatever files are found."""
    if options.out or options.csv:
        return Path(options.out or options.csv[0].parent / "plots")
    return Path(options.scoreboard.parent) if options.scoreboard else None


def _run_plots(folder: Path) -> Path:
    """Where the run of a model in `folder` has its report."""
    return (folder.parent / "metrics" if folder.name == "checkpoints" else folder) / "plots"


def _explain(model: Path, scenario: str | None, out: Path) -> None:
    """Play the model, write what it went by as CSV files into `out`, and draw them."""
    # Imported here: torch, pandas and SciPy take seconds.
    from trimtab.experiments.explain import PROBLEM, explain, load_routing_model
    from trimtab.problems.base import Task
    from trimtab.problems.catalogue import build
    from trimtab.report.writing import write_explained

    problem = build(PROBLEM)
    task = Task(scenario or problem.default_scenario, "twin")
    checkpoint, network = load_routing_model(model, problem.choices(task))
    world = problem.open(task)
    try:
        written = explain(world, problem.build_policy("sed-online"), checkpoint, network, model, out)
    finally:
        world.close()
    for path in [*written, *write_explained(out)]:
        print(f"wrote {path}")


def _naming(options: argparse.Namespace) -> "Naming":
    """Groups and labels of the suite, and what the scenarios' own files and families say about themselves and hold."""
    from trimtab.problems.routing.families import FAMILIES
    from trimtab.problems.routing.scenario_files import list_scenarios
    from trimtab.problems.routing.setting import setting
    from trimtab.report.scoreboard import FAMILY, Naming

    suite = load_suite(options.suite or "twin")
    families = {f"{FAMILY}{name}": one.doc for name, one in FAMILIES.items()}
    return Naming({one.id: (one.group, one.label) for one in suite.entries}, suite.groups, dict(list_scenarios()) | families, setting)


def _command_line(options: argparse.Namespace) -> str:
    """The command as given, quoted for a shell, for the footer of the report."""
    words = ["python", "agent/visualize.py"]
    if options.csv:
        words += ["--csv", *(str(path) for path in options.csv)]
    for name in ("scoreboard", "suite", "explain", "scenario", "out", "reference"):
        if getattr(options, name):
            words += [f"--{name}", str(getattr(options, name))]
    return shlex.join(words)

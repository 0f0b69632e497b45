"""evaluate_dqn.py: the trained policy against every classical one, on the same requests."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab.cli import options, watching
from trimtab.cli.command import parser as command_parser
from trimtab.cli.command import run
from trimtab.cli.progress import Bar
from trimtab.core.tally import Tallies
from trimtab.errors import ResultsError, UsageError
from trimtab.experiments.csv_log import CsvLog
from trimtab.experiments.evaluate import Row, evaluate, evaluation_columns
from trimtab.experiments.runs import RunFolder
from trimtab.paths import REPOSITORY, models_dir
from trimtab.policies.catalogue import LEARNED
from trimtab.problems.base import Policy, Problem, Task, World
from trimtab.problems.catalogue import build
from trimtab.telemetry.counts import TallyCollector
from trimtab.telemetry.pages import EvaluationPage

EXAMPLES = """\
  python agent/evaluate_dqn.py                               50 episodes in the twin, every policy
  python agent/evaluate_dqn.py --backend http --policies dqn,sed-online,least-outstanding
  python agent/evaluate_dqn.py --scenario affinity-100 --scenario speeds-70 --csv /tmp/two.csv
  python agent/evaluate_dqn.py --policies list"""
EPISODES = {"twin": 50, "http": 5}


def main(argv: Sequence[str] | None = None) -> int:
    return run(_body, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("evaluate_dqn.py", "Evaluate the greedy policy against the classical ones on common arrivals.", EXAMPLES)
    options.add_scenario(parser)
    parser.add_argument("--scenario", action="append", default=None, metavar="ID", help="id, file, family:NAME or 'list'; repeatable")
    parser.add_argument("--backend", default="twin", choices=tuple(EPISODES))
    parser.add_argument("--model", type=Path, default=None, metavar="PATH", help="default: the trained one, else the reference")
    parser.add_argument("--episodes", type=options.positive, default=None, metavar="N", help="of each policy (default 50, live 5)")
    parser.add_argument("--policies", default="all", metavar="a,b,c", help="'all', 'list' or names; dqn stands for the model")
    parser.add_argument("--csv", type=Path, default=None, metavar="PATH", help="where rows go (default Models/metrics/evaluation.csv)")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="the run's folder (default Models)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing CSV file")
    watching.add_options(parser, watching.EVALUATION_PORT)
    return parser


def _body(args: argparse.Namespace) -> int:
    problem = build(args.problem or "routing")
    scenarios = args.scenario or [problem.default_scenario]
    if "list" in scenarios:
        return options.print_listing(problem.scenario_ids())
    if args.policies == "list":
        return options.print_listing(problem.policy_list())
    if args.scenario_check:
        return options.print_scenario_check(problem, args.scenario_check)
    path = args.csv or RunFolder(args.out or models_dir()).evaluation
    _measure(problem, [Task(scenario, args.backend, args.servers or ()) for scenario in scenarios], args, path)
    _print_tables(path)
    return 0


def _measure(problem: Problem, tasks: Sequence[Task], args: argparse.Namespace, path: Path) -> None:
    """Write the rows of every task to `path`, all mistakes that can be seen beforehand being errors beforehand."""
    names = _policy_names(args.policies, problem)
    if path.exists() and not args.overwrite:
        raise ResultsError(f"{path} exists; replace it with --overwrite or write elsewhere with --csv")
    model = _model(args.model, names, RunFolder(args.out or models_dir()))
    for task in tasks:
        problem.choices(task)  # raises for a scenario that is wrong
        _policies(problem, task, names, model)
    partial = CsvLog(path.with_name(f"{path.name}.partial"), evaluation_columns(problem))
    _discard(partial.path)
    seen = _Seen(partial, EvaluationPage(problem.evaluation_metrics), Tallies())
    with watching.page(args, watching.EVALUATION_PORT, (seen.page, TallyCollector(seen.tallies))):
        try:
            for task in tasks:
                _evaluate(problem, task, _policies(problem, task, names, model), args, seen)
        finally:
            _publish(partial.path, path)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Where measured rows go: the file, and the page of whoever watches."""

    log: CsvLog
    page: EvaluationPage
    tallies: Tallies

    def add(self, rows: Sequence[Row]) -> None:
        if not self.log.path.exists():
            self.log.create()
        self.log.append(rows)
        self.page.add(rows)


def _policy_names(text: str, problem: Problem) -> list[str]:
    if text == "all":
        return list(problem.default_policies)
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) != len(names):
        raise UsageError(f"--policies {text!r}: allowed are different names separated by commas; list them with --policies list")
    for name in names:
        if name != LEARNED:
            problem.build_policy(name)  # an unknown name is an error before anything is measured
    return names


def _model(given: Path | None, names: Sequence[str], folder: RunFolder) -> Path | None:
    if LEARNED not in names:
        return None
    from trimtab.experiments.session import default_model  # here: torch takes seconds that classical policies need not pay

    model = given or default_model(folder, REPOSITORY / "Models" / "reference.pth")
    print(f"model: {model}", file=sys.stderr)
    return model


def _policies(problem: Problem, task: Task, names: Sequence[str], model: Path | None) -> list[Policy]:
    return [
        problem.build_policy(name) if name != LEARNED else problem.load_policy(model or Path(), problem.choices(task)) for name in names
    ]


def _evaluate(problem: Problem, task: Task, policies: Sequence[Policy], args: argparse.Namespace, seen: _Seen) -> None:
    episodes = args.episodes or EPISODES[task.backend]
    world = problem.open(task)
    try:
        _announce(world, len(policies), episodes)
        rounds = len(policies) * (1 if task.backend == "twin" else episodes)
        with Bar(f"evaluating {world.scenario_id}", rounds) as bar:
            for done, rows in enumerate(evaluate(world, policies, episodes, args.seed or 0, seen.tallies), start=1):
                seen.add(rows)
                bar.update(done, f"{rows[-1]['policy']}")
    finally:
        world.close()


def _publish(partial: Path, path: Path) -> None:
    """Rows that were measured are kept, also after Ctrl-C; where there are none, what was there before stays."""
    if partial.exists() and partial.read_text(encoding="utf-8").count("\n") > 1:
        partial.replace(path)
    elif partial.exists():
        partial.unlink()


def _discard(partial: Path) -> None:
    """Remove what a killed evaluation left behind. Raises `ResultsError` where no file can be."""
    try:
        partial.unlink(missing_ok=True)
    except OSError as error:
        raise ResultsError(f"cannot write {partial}: {error.strerror}; name another place with --csv") from error


def _announce(world: World, policies: int, episodes: int) -> None:
    print(f"{world.note}: {policies} policies x {episodes} episodes", file=sys.stderr)
    if world.episode_s() > 0.0:
        print(f"expected: about {policies * episodes * (world.episode_s() + 1.0) / 60:.1f} minutes", file=sys.stderr)


def _print_tables(path: Path) -> None:
    # Imported here: pandas and scipy take a second that --help and --policies list need not pay.
    from trimtab.report.comparison import evaluation_tables, twin_against_live
    from trimtab.report.csv_files import read_evaluation
    from trimtab.report.tables import as_text, fitted_grid, twin_grid

    frame = read_evaluation(path)
    for table in evaluation_tables(frame):
        print(as_text(fitted_grid(table, 200)))
    for comparison in twin_against_live(frame):
        print(as_text(twin_grid(comparison)))
    print(path)

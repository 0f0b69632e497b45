"""evaluate_dqn.py: the trained policy against every classical one, on the same requests."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trimtab.cli import options, spread, watching
from trimtab.cli.command import parser as command_parser
from trimtab.cli.command import run
from trimtab.cli.progress import Bar
from trimtab.core.tally import Tallies
from trimtab.errors import ResultsError, UsageError
from trimtab.experiments.csv_log import CsvLog
from trimtab.experiments.details import COLUMNS, Details, beside
from trimtab.experiments.evaluate import Row, evaluate, evaluation_columns
from trimtab.experiments.runs import RunFolder
from trimtab.paths import REPOSITORY, models_dir
from trimtab.policies.catalogue import LEARNED
from trimtab.problems.base import Policy, Problem, Task, World
from trimtab.problems.catalogue import build
from trimtab.problems.suites import Suite, list_suites
from trimtab.telemetry.counts import TallyCollector
from trimtab.telemetry.pages import EvaluationPage

EXAMPLES = """\
  python agent/evaluate_dqn.py                               50 episodes in the twin, every policy
  python agent/evaluate_dqn.py --backend http --policies dqn,sed-online,least-outstanding
  python agent/evaluate_dqn.py --scenario affinity-100 --scenario speeds-70 --csv /tmp/two.csv
  python agent/evaluate_dqn.py --policies list
  python agent/evaluate_dqn.py --aa sed-online               does the test find winners where there are none?"""
EPISODES = {"twin": 50, "http": 5}
AA_EPISODES = 20  # a side: the fewest that a published comparison uses
REFERENCES = {"routing": "reference.pth"}  # committed models; other problems carry their names


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
    parser.add_argument("--aa", default=None, metavar="POLICY", help="compare one policy with itself on independent episodes, and stop")
    parser.add_argument("--comparisons", type=options.positive, default=200, metavar="N", help="of --aa (default 200, 20 episodes a side)")
    parser.add_argument("--csv", type=Path, default=None, metavar="PATH", help="where rows go (default Models/metrics/evaluation.csv)")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="the run's folder (default Models)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing CSV file")
    spread.add_options(parser)
    watching.add_options(parser, watching.EVALUATION_PORT)
    return parser


def _body(args: argparse.Namespace) -> int:
    if args.suite == "list":
        return options.print_listing(list_suites())
    suite = spread.chosen_suite(args)
    problem = build(suite.problem if suite else args.problem or "routing")
    scenarios = [one.id for one in suite.entries] if suite else args.scenario or [problem.default_scenario]
    if "list" in scenarios:
        return options.print_listing(problem.scenario_ids())
    tasks = [Task(scenario, args.backend, args.servers or ()) for scenario in scenarios]
    if args.policies == "list":
        return options.print_listing([*problem.policy_list(), *_rival_list(problem, tasks[0])])
    if args.scenario_check:
        return options.print_scenario_check(problem, args.scenario_check)
    path = args.csv or RunFolder(args.out or models_dir()).evaluation
    if args.aa:
        return max(_against_itself(problem, task, args) for task in tasks)
    _measure(problem, tasks, args, path, suite)
    if suite is None:
        print_tables(path)
    else:
        print(f"{path}: see it with python agent/visualize.py --scoreboard {path}")
    return 0


def _measure(problem: Problem, tasks: Sequence[Task], args: argparse.Namespace, path: Path, suite: Suite | None = None) -> None:
    """Write the rows of every task to `path`, all mistakes that can be seen beforehand being errors beforehand."""
    jobs, names = spread.chosen_jobs(args), _policy_names(args.policies, problem, tasks, with_model=args.model is not None)
    _require_free(path, args.overwrite)
    model = _model(args.model, names, RunFolder(args.out or models_dir()), problem)
    for task in tasks:
        problem.choices(task)  # raises for a scenario that is wrong
        _policies(problem, task, names, model)
    partial = CsvLog(path.with_name(f"{path.name}.partial"), evaluation_columns(problem))
    _discard(partial.path)
    details = Details(args.episodes or EPISODES[args.backend])
    seen = _Seen(partial, EvaluationPage(problem.evaluation_metrics), Tallies(), details)
    with watching.page(args, watching.EVALUATION_PORT, (seen.page, TallyCollector(seen.tallies))):
        try:
            if jobs > 1:
                _spread(spread.units_of(problem, tasks, names, model, args.episodes or EPISODES["twin"], args.seed or 0), suite, jobs, seen)
            else:
                for task in tasks:
                    _evaluate(problem, task, _policies(problem, task, names, model), args, seen)
        finally:
            if _publish(partial.path, path):
                details.write(path)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Where measured rows go: the file, the page of whoever watches, and the files about single requests."""

    log: CsvLog
    page: EvaluationPage
    tallies: Tallies
    details: Details

    def add(self, rows: Sequence[Row]) -> None:
        self._write(rows)
        self.page.add(rows)

    def keep(self, measured: spread.Measured) -> None:
        """What another process measured, in the order of the file; the page has seen it already."""
        self._write(measured.rows)
        self.details.merge(measured.details)

    def watch(self, measured: spread.Measured) -> None:
        """The same as it comes, in no order."""
        self.page.add(measured.rows)
        for key, tally in measured.counts:
            self.tallies.merge(key, tally)

    def _write(self, rows: Sequence[Row]) -> None:
        if not self.log.path.exists():
            self.log.create()
        self.log.append(rows)


def _policy_names(text: str, problem: Problem, tasks: Sequence[Task], *, with_model: bool) -> list[str]:
    refused = {one.name: one.refused for task in tasks for one in problem.rivals(task) if one.refused}
    if text == "all":
        names = [*problem.default_policies, *_possible_rivals(problem, tasks[0], refused)]
        return [LEARNED, *names] if with_model and LEARNED not in names else names
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) != len(names):
        raise UsageError(f"--policies {text!r}: allowed are different names separated by commas; list them with --policies list")
    for name in names:
        if name in refused:
            raise UsageError(f"--policies {name}: {refused[name]}")
        if name != LEARNED:
            problem.build_policy(name)  # an unknown name is an error before anything is measured
    return names


def _possible_rivals(problem: Problem, task: Task, refused: Mapping[str, str]) -> list[str]:
    """Rivals that run in every task; says which of a live evaluation do not."""
    if task.backend == "http":
        for name, why in refused.items():
            print(f"left out: {name}: {why}", file=sys.stderr)
    return [one.name for one in problem.rivals(task) if one.name not in refused]


def _rival_list(problem: Problem, task: Task) -> list[tuple[str, str]]:
    """For --policies list: what may be named with --backend http."""
    found = problem.rivals(replace(task, backend="http"))
    return [(one.name, f"live only: {one.summary}" + (f" ({one.refused})" if one.refused else "")) for one in found]


def _model(given: Path | None, names: Sequence[str], folder: RunFolder, problem: Problem) -> Path | None:
    if LEARNED not in names:
        return None
    from trimtab.experiments.session import default_model  # here: torch takes seconds that classical policies need not pay

    model = given or default_model(folder, REPOSITORY / "Models" / REFERENCES.get(problem.id, f"reference_{problem.id}.pth"))
    print(f"model: {model}", file=sys.stderr)
    return model


def _policies(problem: Problem, task: Task, names: Sequence[str], model: Path | None) -> list[Policy]:
    return [spread.policy_of(problem, task, name, model) for name in names]


def _evaluate(problem: Problem, task: Task, policies: Sequence[Policy], args: argparse.Namespace, seen: _Seen) -> None:
    episodes = args.episodes or EPISODES[task.backend]
    world = problem.open(task)
    try:
        _announce(world, len(policies), episodes)
        rounds = len(policies) * (1 if task.backend == "twin" else episodes)
        with Bar(f"evaluating {world.scenario_id}", rounds) as bar:
            for done, rows in enumerate(evaluate(world, policies, episodes, args.seed or 0, seen.tallies, seen.details), start=1):
                seen.add(rows)
                bar.update(done, f"{rows[-1]['policy']}")
    finally:
        world.close()


def _spread(units: Sequence[spread.Unit], suite: Suite | None, jobs: int, seen: _Seen) -> None:
    tasks, policies = len({one.task for one in units}), len({one.policy for one in units})
    spread.announce(tasks, policies, units[0].episodes, jobs)
    spread.measure_all(units, spread.costs_of(units, suite), jobs, seen.keep, seen.watch)


def _against_itself(problem: Problem, task: Task, args: argparse.Namespace) -> int:
    """The A/A run of one scenario: prints how many winners the test named, 1 where that is more than chance explains."""
    # Imported here: scipy takes a second that --help and --policies list need not pay.
    from trimtab.experiments.self_comparison import allowed_winners, self_comparisons, winners

    if task.backend != "twin":
        raise UsageError(f"--aa plays thousands of episodes and --backend is {task.backend!r}; allowed: twin")
    names = _policy_names(args.aa, problem, [task], with_model=False)
    if len(names) != 1:
        raise UsageError(f"--aa {args.aa!r}: allowed is one policy; list them with --policies list")
    (policy,) = _policies(problem, task, names, _model(args.model, names, RunFolder(args.out or models_dir()), problem))
    latency = "mean_latency_ms" in problem.evaluation_metrics
    episodes, world, found = args.episodes or AA_EPISODES, problem.open(task), []
    with Bar(f"A/A {world.scenario_id}", args.comparisons) as bar:
        cost = _latency if latency else _lost_reward
        for one in self_comparisons(world, policy, args.comparisons, episodes, args.seed or 0, cost):
            found.append(one)
            bar.update(len(found), policy.name)
    count, allowed = winners(found), allowed_winners(len(found))
    text = f"{count} of {len(found)} comparisons of {policy.name} with itself named a winner ({episodes} episodes a side)"
    print(f"{world.scenario_id} on {world.backend}: {text}; allowed {allowed}, the 99 % bound of a 5 % test")
    return int(count > allowed)


def _latency(row: Mapping[str, float]) -> float:
    return row["mean_latency_ms"]


def _lost_reward(row: Mapping[str, float]) -> float:
    return -row["total_reward"]


def _require_free(path: Path, overwrite: bool) -> None:
    """Raise where results would be replaced unasked, or where a later evaluation's files would bear the name of this one."""
    if path.stem.endswith(tuple(f"_{kind}" for kind in COLUMNS)):
        kept = ", ".join(f"_{kind}.csv" for kind in COLUMNS)
        raise UsageError(f"--csv {path}: names that end in {kept} are kept for the files beside an evaluation; choose another name")
    for one in (path, *(beside(path, kind) for kind in COLUMNS)):
        if one.exists() and not overwrite:
            raise ResultsError(f"{one} exists; replace it with --overwrite or write elsewhere with --csv")


def _publish(partial: Path, path: Path) -> bool:
    """Were there rows? They are kept, also after Ctrl-C; where there are none, what was there before stays."""
    if partial.exists() and partial.read_text(encoding="utf-8").count("\n") > 1:
        partial.replace(path)
        return True
    if partial.exists():
        partial.unlink()
    return False


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


def print_tables(path: Path) -> None:
    """The tables of an evaluation's CSV, and where that lies, on stdout."""
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

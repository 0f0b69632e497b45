"""evaluate_dqn.py over many scenarios: suites, and processes that each play one policy on one scenario at a time."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trimtab.cli import options
from trimtab.cli.progress import Bar
from trimtab.core.tally import Key, Tallies, Tally
from trimtab.errors import UsageError
from trimtab.experiments.details import Details, Gathered
from trimtab.experiments.evaluate import Row, evaluate
from trimtab.experiments.pool import in_processes
from trimtab.policies.catalogue import LEARNED
from trimtab.problems.base import Policy, Problem, Task
from trimtab.problems.catalogue import build
from trimtab.problems.suites import Suite, load_suite

if TYPE_CHECKING:
    from types import ModuleType

LEARNED_COST: Final = 5.0  # a forward pass against a classical rule, on fleets of four
Counts = list[tuple[Key, Tally]]


@dataclass(frozen=True, slots=True)
class Unit:
    """One policy on one scenario in the twin: what a process does at a time."""

    problem: str
    task: Task
    policy: str
    model: Path | None
    episodes: int
    seed: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a unit: its rows, what was counted on the way, and rows about single requests."""

    rows: list[Row]
    counts: Counts
    details: Gathered


def add_options(parser: argparse.ArgumentParser) -> None:
    """--suite and --jobs."""
    parser.add_argument("--suite", default=None, metavar="NAME", help="all scenarios of a suite, in the twin; name, file or 'list'")
    text = "processes that share the work, in the twin (default: 1; with --suite as many as there are cores)"
    parser.add_argument("--jobs", type=options.positive, default=None, metavar="N", help=text)


def chosen_suite(args: argparse.Namespace) -> Suite | None:
    """The suite of --suite, None without one. Raises `UsageError` where other options contradict it."""
    if args.suite is None:
        return None
    if args.scenario or args.backend != "twin" or args.servers or args.aa:
        raise UsageError("--suite names scenarios for the twin; leave out --scenario, --backend, --servers and --aa")
    suite = load_suite(args.suite)
    if args.problem not in {None, suite.problem}:
        raise UsageError(f"suite {suite.name} is about {suite.problem!r}, found --problem {args.problem}; leave --problem out")
    return suite


def chosen_jobs(args: argparse.Namespace) -> int:
    """Number of processes. Raises `UsageError` for several on live servers, which one evaluation has to itself."""
    if args.backend != "twin" and args.jobs not in {None, 1}:
        raise UsageError(f"--jobs {args.jobs} with --backend {args.backend}: policies take turns on live servers; leave --jobs out")
    default = _cores() if args.suite else 1
    return int(args.jobs or default)


def policy_of(problem: Problem, task: Task, name: str, model: Path | None) -> Policy:
    """A fresh policy of that name; the learned one is that of `model`, made for the task's number of choices."""
    if name != LEARNED:
        return problem.build_policy(name)
    _learned().use_one_thread()  # as in every other process, so that --jobs does not change the order of sums
    return problem.load_policy(model or Path(), problem.choices(task))


def measure(unit: Unit) -> Measured:
    """Play one unit."""
    problem, tallies, details = build(unit.problem), Tallies(), Details(unit.episodes)
    world = problem.open(unit.task)
    try:
        policy = policy_of(problem, unit.task, unit.policy, unit.model)
        rows = [row for part in evaluate(world, [policy], unit.episodes, unit.seed, tallies, details) for row in part]
    finally:
        world.close()
    return Measured(rows, list(tallies), details.gathered())


def measure_all(
    units: Sequence[Unit],
    costs: Sequence[float],
    jobs: int,
    write: Callable[[Measured], None],
    watch: Callable[[Measured], None],
) -> None:
    """Measure all units in `jobs` processes, those of the largest `costs` first so that none is left to wait for at the end.

    `watch` sees results as they come, `write` in the order of `units`; after an error or Ctrl-C it gets all there are.
    """
    order = sorted(range(len(units)), key=lambda number: -costs[number])
    waiting: dict[int, Measured] = {}
    written = 0
    worked, bar = 0.0, Bar("evaluating", len(units), work=sum(costs))
    with bar, closing(in_processes(measure, [units[number] for number in order], jobs)) as results:
        try:
            for done, (place, measured) in enumerate(results, start=1):
                watch(measured)
                waiting[order[place]] = measured
                while written in waiting:
                    write(waiting.pop(written))
                    written += 1
                worked += costs[order[place]]
                bar.update(done, f"{measured.rows[-1]['scenario']} {measured.rows[-1]['policy']}", worked)
        finally:
            for number in sorted(waiting):
                write(waiting[number])


def units_of(problem: Problem, tasks: Iterable[Task], names: Sequence[str], model: Path | None, episodes: int, seed: int) -> list[Unit]:
    """Every policy on every task, in the order of the results file."""
    return [Unit(problem.id, task, name, model, episodes, seed) for task in tasks for name in names]


def costs_of(units: Sequence[Unit], suite: Suite | None) -> list[float]:
    """About how long each unit takes in relation to the others."""
    scenario = {one.id: one.cost for one in suite.entries} if suite else {}
    return [scenario.get(one.task.scenario, 1.0) * (LEARNED_COST if one.policy == LEARNED else 1.0) for one in units]


def announce(tasks: int, policies: int, episodes: int, jobs: int) -> None:
    """One line on stderr."""
    print(f"twin: {tasks} scenarios, {policies} policies x {episodes} episodes, {jobs} processes", file=sys.stderr)


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _learned() -> "ModuleType":
    import trimtab.policies.learned as learned  # here: torch takes seconds that classical policies need not pay

    return learned

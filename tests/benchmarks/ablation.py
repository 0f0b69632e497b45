"""Which parts of the learner earn their keep: every variant trained with several seeds, and played on fleets that it never saw.

    python tests/benchmarks/ablation.py --suite acceleration --episodes 1200 --seeds 0-9
    python tests/benchmarks/ablation.py --suite ablation --episodes 1200 --seeds 0-2 --jobs 2

Suite `acceleration`: what a heuristic is good for: none, its action rewarded in the choice (xi H), cloned, or learned on top of (the
defaults). Suite `ablation`: learning from rewards, and one change each; suite `rollouts`: the same for learning from rollouts. All play
the same held-out fleets greedily, with sed-online and sed-moods beside them. Trainings in --out that are finished are kept, so the same
command goes on where it was stopped, and more seeds or another suite can be added. curves.csv holds the learning curves, fleets.csv a
row for each policy and fleet, results.csv a row for each training, SUITE.md the table and SUITE.png the curves. With --jobs above 1 the
training seconds include waiting for each other.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(Path(__file__).parent)]

from ablation_report import REFERENCES, comparison, curve_figure, measured  # noqa: E402 - found through the path set above
from ablation_training import METRICS, Job, Outcome, Plan, work  # noqa: E402
from ablation_variants import SUITES, Variant  # noqa: E402
from measuring import ended, print_machine  # noqa: E402

from trimtab.cli.options import count, positive  # noqa: E402
from trimtab.dqn.config import DQNConfig  # noqa: E402
from trimtab.errors import ResultsError, UsageError  # noqa: E402
from trimtab.experiments.csv_log import CsvLog, write_text  # noqa: E402
from trimtab.experiments.pool import in_processes  # noqa: E402
from trimtab.experiments.runs import provenance  # noqa: E402
from trimtab.problems.base import Task  # noqa: E402
from trimtab.problems.catalogue import build  # noqa: E402
from trimtab.report.tables import as_markdown  # noqa: E402

KEY = ("variant", "seed")
CURVES = (*KEY, "episode", "decisions", *METRICS)
FLEETS = (*KEY, "fleet", *METRICS)
COSTS = ("training_s", "training_cpu_s", "decisions", "gradient_steps")
RESULTS = (*KEY, "changes", *METRICS, *COSTS)


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return ended(compare, args, f"stopped; what was finished is in {args.out}; the same command goes on")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=tuple(SUITES), required=True)
    parser.add_argument("--scenario", default="family:grey", metavar="ID", help="id, file or family:NAME (default family:grey)")
    parser.add_argument("--episodes", type=positive, default=1200, metavar="N", help="of each training (default 1200)")
    parser.add_argument(
        "--seeds", type=seeds, default=tuple(range(10)), metavar="0-9", help="of training: N, N-M, or N,M,... (default 0-9)"
    )
    parser.add_argument("--variants", default="all", metavar="a,b", help="'all', 'list' or names of the suite's")
    parser.add_argument("--fleets", type=positive, default=64, metavar="N", help="held-out fleets at the end (default 64)")
    parser.add_argument("--curve-fleets", type=positive, default=32, metavar="N", help="the first of them, on the way (default 32)")
    parser.add_argument("--curve-every", type=positive, default=200, metavar="N", help="episodes between looks (default 200)")
    parser.add_argument("--evaluation-seed", type=count, default=777, metavar="N", help="of the held-out fleets (default 777)")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="trainings at a time (default 1)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "Models" / "ablation", metavar="DIR", help="rows, table and figure")
    parser.add_argument("--table-only", action="store_true", help="train nothing; table and figure of what is there")
    return parser


def seeds(text: str) -> tuple[int, ...]:
    """`0-9`, `3` or `0,2,5-7`."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isdigit() and (last.isdigit() or not dash)) or (dash and int(last) < int(first)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of seeds such as 0-9 or 0,2,5-7")
        found += range(int(first), int(last or first) + 1)
    if len(set(found)) != len(found):
        raise argparse.ArgumentTypeError(f"{text!r} names a seed twice")
    return tuple(found)


def compare(args: argparse.Namespace) -> int:
    """Everything that can be wrong is an error before the first training."""
    if args.variants == "list":
        print("\n".join(f"{one.name:<22}  {one.described}" for one in SUITES[args.suite]))
        return 0
    variants = _chosen(args.variants, SUITES[args.suite])
    plan = _plan(args)
    results = Results(args.out)
    results.open(plan)
    if not args.table_only:
        print_machine(f"{args.suite} on {plan.scenario}")
        measure(list(_jobs(plan, variants, args.seeds)), results, args.jobs)
    write(args.suite, variants, args.seeds, plan, results)
    return 0


def _chosen(text: str, known: Sequence[Variant]) -> list[Variant]:
    names = [one.name for one in known]
    wanted = names if text == "all" else [part.strip() for part in text.split(",")]
    for name in wanted:
        if name not in names:
            raise UsageError(f"--variants {name!r} is none of the suite's; allowed: {', '.join(names)}")
    return [one for one in known if one.name in wanted]


def _plan(args: argparse.Namespace) -> Plan:
    build("routing").open(Task(args.scenario, "twin")).close()  # a scenario that does not exist is an error now
    if args.curve_fleets > args.fleets:
        raise UsageError(f"--curve-fleets {args.curve_fleets} are more than --fleets {args.fleets}; they are the first of them")
    return Plan(args.scenario, args.episodes, args.curve_every, args.curve_fleets, args.fleets, args.evaluation_seed)


def _jobs(plan: Plan, variants: Sequence[Variant], training_seeds: Sequence[int]) -> Iterator[Job]:
    """Seed by seed, so that a run that is stopped has compared everybody equally."""
    yield from (Job(plan, name) for name in REFERENCES)
    yield from (Job(plan, one.name, seed, one) for seed in training_seeds for one in variants)


class Results:
    """The files of a comparison. A row in results.csv says that a training is finished; it is written after all others of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._settings = folder / "settings.json"
        self._logs = {name: CsvLog(folder / f"{name}.csv", columns) for name, columns in _FILES.items()}

    def open(self, plan: Plan) -> None:
        """Begin, or go on with what is there. Raises ResultsError where that was measured in another way."""
        wanted = {**asdict(plan), "defaults": DQNConfig.from_dict(dict(build("routing").learner_defaults)).to_dict()}
        if self._settings.exists():
            self._require_same(wanted)
            return
        write_text(self._settings, json.dumps({"plan": wanted, **provenance()}, indent=2) + "\n")
        for log in self._logs.values():
            log.create()

    def done(self) -> set[tuple[str, str]]:
        """(variant, seed) of what is finished."""
        frame = self.read("results")
        return set(zip(frame["variant"], frame["seed"], strict=True))

    def read(self, name: str) -> Any:
        """A file's rows, as `ablation_report.measured`."""
        return measured(self._logs[name].path)

    def add(self, job: Job, outcome: Outcome) -> None:
        key = {"variant": job.name, "seed": job.seed}
        self._logs["curves"].append([{**key, **row} for row in outcome.curve])
        self._logs["fleets"].append([{**key, **row} for row in outcome.fleets])
        means = {name: sum(row[name] for row in outcome.fleets) / len(outcome.fleets) for name in METRICS}
        changes = job.variant.described if job.variant else "untrained"
        self._logs["results"].append([{**key, "changes": changes, **means, **outcome.cost}])

    def _require_same(self, wanted: dict[str, Any]) -> None:
        found = json.loads(self._settings.read_text(encoding="utf-8"))["plan"]
        for key, value in wanted.items():
            if found.get(key) != value:
                raise ResultsError(f"{self.folder} was measured with {key} = {found.get(key)}, not {value}; name another --out")


_FILES = {"curves": CURVES, "fleets": FLEETS, "results": RESULTS}


def measure(jobs: Sequence[Job], results: Results, at_a_time: int) -> None:
    """Do what is not yet done, and write each as it is finished."""
    done = results.done()
    open_ = [job for job in jobs if (job.name, _seed_text(job)) not in done]
    print(f"{len(jobs) - len(open_)} of {len(jobs)} are there already", flush=True)
    for number, (place, outcome) in enumerate(in_processes(work, open_, at_a_time), 1):
        job = open_[place]
        results.add(job, outcome)
        cost = f"{outcome.cost['training_s']:.0f} s of training" if outcome.cost else "no training"
        print(f"{number}/{len(open_)}  {job.name}  seed {_seed_text(job) or '-'}  {cost}", flush=True)


def _seed_text(job: Job) -> str:
    return "" if job.seed is None else str(job.seed)


def write(suite: str, variants: Sequence[Variant], training_seeds: Sequence[int], plan: Plan, results: Results) -> None:
    """SUITE.md and SUITE.png from what is finished."""
    frames = {name: results.read(name) for name in _FILES}
    text = as_markdown(comparison(plan, variants, [str(one) for one in training_seeds], frames))
    write_text(results.folder / f"{suite}.md", text + "\n")
    (results.folder / f"{suite}.png").write_bytes(curve_figure(suite, plan, variants, [str(one) for one in training_seeds], frames))
    print(f"\n{text}\n\n{results.folder / suite}.md\n{results.folder / suite}.png")


if __name__ == "__main__":
    sys.exit(main())

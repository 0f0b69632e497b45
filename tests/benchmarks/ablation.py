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
import sys
from collections.abc import Sequence
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(Path(__file__).parent)]

from ablation_report import REFERENCES, comparison, curve_figure  # noqa: E402 - found through the path set above
from ablation_training import METRICS, Plan, work  # noqa: E402
from ablation_variants import SUITES, Variant  # noqa: E402
from comparing import Results, chosen, jobs_of  # noqa: E402
from measuring import ended, print_machine  # noqa: E402

from trimtab.cli.options import count, positive  # noqa: E402
from trimtab.dqn.config import DQNConfig  # noqa: E402
from trimtab.errors import UsageError  # noqa: E402
from trimtab.experiments.csv_log import write_text  # noqa: E402
from trimtab.experiments.pool import in_processes  # noqa: E402
from trimtab.problems.base import Task  # noqa: E402
from trimtab.problems.catalogue import build  # noqa: E402
from trimtab.report.tables import as_markdown  # noqa: E402

CLOCK = "training_s"
COSTS = (CLOCK, "training_cpu_s", "decisions", "gradient_steps")
FILES = {"curves": ("episode", "decisions", *METRICS), "fleets": ("fleet", *METRICS), "results": ("changes", *METRICS, *COSTS)}


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
    variants = chosen("--variants", args.variants, SUITES[args.suite], attrgetter("name"))
    plan = _plan(args)
    results = opened(args.out, plan)
    if not args.table_only:
        print_machine(f"{args.suite} on {plan.scenario}")
        measure(plan, variants, args.seeds, results, args.jobs)
    write(args.suite, variants, args.seeds, plan, results)
    return 0


def _plan(args: argparse.Namespace) -> Plan:
    build("routing").open(Task(args.scenario, "twin")).close()  # a scenario that does not exist is an error now
    if args.curve_fleets > args.fleets:
        raise UsageError(f"--curve-fleets {args.curve_fleets} are more than --fleets {args.fleets}; they are the first of them")
    return Plan(args.scenario, args.episodes, args.curve_every, args.curve_fleets, args.fleets, args.evaluation_seed)


def opened(folder: Path, plan: Plan) -> Results:
    """The files of a comparison, begun or gone on with."""
    results = Results(folder, FILES)
    results.open({**asdict(plan), "defaults": DQNConfig.from_dict(dict(build("routing").learner_defaults)).to_dict()})
    return results


def measure(plan: Plan, variants: Sequence[Variant], training_seeds: Sequence[int], results: Results, at_a_time: int) -> None:
    """Train and play what is not yet done."""
    jobs = list(jobs_of(plan, REFERENCES, variants, training_seeds))
    results.fill(jobs, lambda units: in_processes(work, units, at_a_time), CLOCK)


def write(suite: str, variants: Sequence[Variant], training_seeds: Sequence[int], plan: Plan, results: Results) -> None:
    """SUITE.md and SUITE.png from what is finished."""
    frames = results.frames()
    text = as_markdown(comparison(plan, variants, [str(one) for one in training_seeds], frames))
    write_text(results.folder / f"{suite}.md", text + "\n")
    (results.folder / f"{suite}.png").write_bytes(curve_figure(suite, plan, variants, [str(one) for one in training_seeds], frames))
    print(f"\n{text}\n\n{results.folder / suite}.md\n{results.folder / suite}.png")


if __name__ == "__main__":
    sys.exit(main())

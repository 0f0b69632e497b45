"""Search the learner's settings: trials by Optuna, each a training of the same length, scored on fleets that it never saw.

The score is the geometric mean over held-out fleets of the mean latency relative to sed-online's on the same arrivals, and of the same of
p99 with --p99-weight. The defaults are the first trial; a trial that falls behind the median on the way is ended early. Everything is in
study.sqlite3 in --out as it is found: the same command goes on where it was stopped, and a greater --trials adds to it. tune.md holds the
best ten with intervals, what mattered, and the line that trains with the best settings; it is written anew after each trial.

The best of many is partly luck. --confirm N trains the best N and the defaults again, with other training seeds and on the fleets of
ablation.py, and writes confirm/confirm.md; what stands there is what may become a default.

Needs the package of the extra `tune`: pip install -e '.[tune]'.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(Path(__file__).parent)]

import ablation  # noqa: E402 - found through the path set above
from ablation_training import Plan  # noqa: E402
from ablation_variants import DEFAULTS, Variant  # noqa: E402
from comparing import chosen  # noqa: E402
from measuring import ended, print_machine  # noqa: E402
from tune_space import SPACES, defaults  # noqa: E402
from tune_training import CLOCKS, Search  # noqa: E402

from trimtab.cli.options import count, positive, print_listing  # noqa: E402
from trimtab.errors import UsageError  # noqa: E402
from trimtab.experiments.csv_log import write_text  # noqa: E402
from trimtab.problems.base import Task  # noqa: E402
from trimtab.problems.catalogue import build  # noqa: E402

if TYPE_CHECKING:
    from tune_study import Trials

PACKAGES = ("optuna", "sqlalchemy")
EXAMPLES = """examples:
  python tests/benchmarks/tune.py --trials 40 --seconds 120 --out Models/tune      about 90 minutes, less what is pruned
  python tests/benchmarks/tune.py --trials 80 --seconds 120 --out Models/tune      forty more
  python tests/benchmarks/tune.py --settings rollout_horizon,trust --trials 15 --out Models/tune-horizon
  python tests/benchmarks/tune.py --learning td --out Models/tune-td              learning from rewards
  python tests/benchmarks/tune.py --trials 40 --out Models/tune --confirm 3        retrain the best three and the defaults
  python tests/benchmarks/tune.py --settings list                                  what is searched, and the defaults
"""
CONFIRM_FLEETS, CONFIRM_SEED, LOOK_EVERY, LOOK_FLEETS = 64, 777, 200, 32  # as ablation.py, so that its tables can be compared


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return ended(tune, args, f"stopped; finished trials are in {args.out}; the same command goes on")


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("--trials", type=positive, default=40, metavar="N", help="in all, earlier ones in --out included (default 40)")
    parser.add_argument("--seconds", type=_above_zero, default=120.0, metavar="S", help="of each training (default 120)")
    clock = "what seconds are: wall-clock, or processor seconds on a machine that does other things as well (default wall)"
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help=clock)
    parser.add_argument("--scenario", default="family:grey", metavar="ID", help="id, file or family:NAME (default family:grey)")
    how = "how it learns: from rollouts of the twin, or from rewards (default rollouts)"
    parser.add_argument("--learning", choices=tuple(SPACES), default="rollouts", help=how)
    parser.add_argument("--settings", default="all", metavar="a,b", help="'all', 'list' or what is searched; others keep their defaults")
    parser.add_argument("--p99-weight", type=_weight, default=0.5, metavar="W", help="of p99, the mean latency's being 1 (default 0.5)")
    parser.add_argument("--fleets", type=positive, default=96, metavar="N", help="held-out fleets at the end (default 96)")
    parser.add_argument("--look-fleets", type=positive, default=32, metavar="N", help="the first of them, on the way (default 32)")
    parser.add_argument("--looks", type=positive, default=4, metavar="N", help="at each training, the end included (default 4)")
    parser.add_argument("--evaluation-seed", type=count, default=31337, metavar="N", help="of the held-out fleets (default 31337)")
    parser.add_argument("--seed", type=count, default=1000, metavar="N", help="of the search and of its trainings (default 1000)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "Models" / "tune", metavar="DIR", help="study and tables")
    parser.add_argument("--table-only", action="store_true", help="train nothing; the table of what is there")
    parser.add_argument("--confirm", type=count, default=0, metavar="N", help="then retrain the best N and the defaults (default 0)")
    parser.add_argument("--confirm-seeds", type=ablation.seeds, default=(0, 1, 2), metavar="0-9", help="of those trainings (default 0-2)")
    parser.add_argument("--confirm-episodes", type=positive, default=1200, metavar="N", help="of each of them (default 1200)")
    return parser


def _above_zero(text: str) -> float:
    return _number(text, above=0.0)


def _weight(text: str) -> float:
    return _number(text, above=-1e-9)


def _number(text: str, above: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not above < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number {'above 0' if above == 0 else 'of 0 or more'}")
    return value


def tune(args: argparse.Namespace) -> int:
    """Everything that can be wrong is an error before the first training."""
    searched = SPACES[args.learning]
    if args.settings == "list":
        usual = defaults(searched, args.learning)
        return print_listing([(one.key, f"{one.described} (default {usual[one.key]})") for one in searched])
    require_packages()
    from tune_study import FILE, opened  # here: where a package is missing the line above says so

    search, space = _search(args), chosen("--settings", args.settings, searched, attrgetter("key"))
    if args.table_only and not (args.out / FILE).exists():
        raise UsageError(f"--table-only: there is no {args.out / FILE}; leave the option out, or name another --out")
    with opened(args.out, search, space) as trials:
        if not args.table_only:
            _go_on(trials, args)
        print(f"\n{_written(trials, args.out)}\n\n{args.out / 'tune.md'}")
        if args.confirm and not args.table_only:
            _confirm(trials, args)
    return 0


def require_packages() -> None:
    """Raises UsageError where what searches is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{' and '.join(missing)} not installed; install what searches with: pip install -e '.[tune]'")


def _search(args: argparse.Namespace) -> Search:
    build("routing").open(Task(args.scenario, "twin")).close()  # a scenario that does not exist is an error now
    if args.look_fleets > args.fleets:
        raise UsageError(f"--look-fleets {args.look_fleets} are more than --fleets {args.fleets}; they are the first of them")
    if args.evaluation_seed == args.seed:
        raise UsageError(f"--evaluation-seed {args.evaluation_seed} is that of the trainings; held-out fleets need another")
    fleets = (args.fleets, args.look_fleets, args.evaluation_seed)
    return Search(args.scenario, args.learning, args.seconds, args.clock, args.looks, *fleets, args.seed, args.p99_weight)


def _go_on(trials: "Trials", args: argparse.Namespace) -> None:
    print_machine(f"search on {trials.search.scenario}")
    left = args.trials - len(trials.finished)
    print(
        f"{len(trials.finished)} trials are there already; expected: at most {max(0, left) * args.seconds / 60:.0f} minutes and the looks"
    )

    def said(line: str) -> None:
        _written(trials, args.out)
        print(line, flush=True)

    trials.go_on(args.trials, said)


def _written(trials: "Trials", folder: Path) -> str:
    from tune_report import report

    text = report(trials)
    write_text(folder / "tune.md", text + "\n")
    return text


def _confirm(trials: "Trials", args: argparse.Namespace) -> None:
    """The comparison of ablation.py with the best trials for variants: seeds and fleets of which the search knows nothing."""
    from tune_report import best

    learning = trials.search.learning
    others = [one for one in best(trials) if trials.changes(one)][: args.confirm]
    better = [Variant(f"trial {one.number}", trials.changes(one), learning=learning) for one in others]
    variants = [Variant(DEFAULTS[learning], learning=learning), *better]
    plan = Plan(trials.search.scenario, args.confirm_episodes, LOOK_EVERY, LOOK_FLEETS, CONFIRM_FLEETS, CONFIRM_SEED)
    results = ablation.opened(args.out / "confirm", plan)
    ablation.measure(plan, variants, args.confirm_seeds, results, 1)
    ablation.write("confirm", variants, args.confirm_seeds, plan, results)


if __name__ == "__main__":
    sys.exit(main())

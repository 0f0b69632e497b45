"""Other people's learners on the same environment: Stable-Baselines3's DQN, QR-DQN and PPO beside this project's own.

    python tests/benchmarks/rivals.py --seconds 60 --seeds 0,1,2
    python tests/benchmarks/rivals.py --seconds 20 --seeds 0 --decisions 50000 --rivals sb3-dqn,sb3-ppo

Everybody is trained in the twin of one scenario for the same wall-clock, and until the same number of decisions: those that ours made
in that time, or --decisions, which ours is then read at as well. Rivals go on until they have made them or --most-seconds are over.
Each learner has trained for a moment before, so imports and compilation are outside the clock. Then all play the same held-out
episodes, greedily, through this project's evaluation, with classical policies beside them. One process, two threads at most: ours uses
two, the rivals one, on which they are faster. Needs the packages of the extra `rivals`: pip install -e '.[rivals]'. Rows go to
training.csv and evaluation.csv as they are measured, the table to rivals.md. Run it on a machine that does nothing else.
"""

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(Path(__file__).parent)]

from comparing import chosen  # noqa: E402 - found through the path set above
from measuring import ended, print_machine  # noqa: E402
from rivals_report import UNTRAINED, comparison  # noqa: E402
from rivals_training import OURS, SECONDS, Budget, Reading, Readings, train_ours  # noqa: E402

from trimtab.cli.options import positive  # noqa: E402
from trimtab.errors import UsageError  # noqa: E402
from trimtab.experiments.csv_log import CsvLog, write_text  # noqa: E402
from trimtab.experiments.evaluate import evaluate, evaluation_columns  # noqa: E402
from trimtab.problems.base import Policy, Task, World  # noqa: E402
from trimtab.problems.catalogue import build  # noqa: E402
from trimtab.problems.routing.problem import FAMILY, MEMBERSHIP  # noqa: E402
from trimtab.problems.routing.scenario_files import load_scenario  # noqa: E402
from trimtab.report.tables import as_markdown  # noqa: E402

if TYPE_CHECKING:
    from rivals_sb3 import Rival

PACKAGES = ("stable_baselines3", "sb3_contrib")
CLASSICAL = ("sed-online", "thompson", "least-outstanding", "oracle-greedy")
EVALUATION_SEED = 0  # training draws other episodes, whatever its seed: their numbers are apart
REHEARSAL_S = 10.0  # longest unmeasured training before the measured one; it ends with its first gradient step
COSTS = ("scenario", "policy", "stop", "training_seed", "wanted", "training_s", "decisions", "gradient_steps")
Train = Callable[[int, Readings], None]


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return ended(compare, args, f"stopped; what was measured is in {args.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="compose-default", metavar="ID", help="id, file or family:NAME (default compose-default)")
    parser.add_argument("--seconds", type=_seconds, default=60.0, metavar="S", help="wall-clock of each training (default 60)")
    parser.add_argument("--seeds", type=_seeds, default=(0, 1, 2), metavar="N,...", help="of training (default 0,1,2)")
    parser.add_argument("--decisions", type=positive, default=None, metavar="N", help="of each training (default: what ours makes)")
    longest = "for that number; below --seconds: leave that comparison out (default 300)"
    parser.add_argument("--most-seconds", type=float, default=300.0, metavar="S", help=longest)
    parser.add_argument("--episodes", type=positive, default=50, metavar="N", help="held-out episodes of each policy (default 50)")
    parser.add_argument("--rivals", default="all", metavar="a,b,c", help="'all', 'list' or names")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "Models" / "rivals", metavar="DIR", help="rows and table")
    parser.add_argument("--overwrite", action="store_true", help="replace the rows of an earlier run")
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _seeds(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdigit() for part in parts) or len(set(parts)) != len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different whole numbers of 0 or more")
    return tuple(int(part) for part in parts)


def compare(args: argparse.Namespace) -> int:
    """Everything that can be wrong is an error before the first training."""
    require_packages()
    from rivals_sb3 import RIVALS  # here: where a package is missing the line above says so

    if args.rivals == "list":
        print("\n".join(f"{one.name:<16}  {one.summary}" for one in RIVALS))
        return 0
    rivals = chosen("--rivals", args.rivals, RIVALS, attrgetter("name"))
    _require_constant_membership(args.scenario)
    results = Results(args.out, args.scenario)
    results.start(overwrite=args.overwrite)
    print_machine(f"rivals on {args.scenario}")
    _expect(args, len(rivals))
    for one in rivals:
        print(f"{one.name}: {one.summary}", flush=True)
    world = build("routing").open(Task(args.scenario, "twin"))
    try:
        measure(args, rivals, world, results)
    finally:
        world.close()
    results.write_table()
    return 0


def require_packages() -> None:
    """Raises UsageError where a package of the rivals is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{' and '.join(missing)} not installed; install what is compared with: pip install -e '.[rivals]'")


def _require_constant_membership(scenario: str) -> None:
    if scenario.startswith(FAMILY):
        return  # no family moves servers; a policy that met one that is out would say so
    moving = sorted({fault.kind for fault in load_scenario(scenario).faults} & MEMBERSHIP)
    if moving:
        raise UsageError(f"servers {' and '.join(moving)} in {scenario!r}, and the rivals have no action mask; choose another scenario")


def _expect(args: argparse.Namespace, rivals: int) -> None:
    longest_s = args.seconds + rivals * max(args.seconds, args.most_seconds)
    print(
        f"expected: at most {len(args.seeds) * longest_s / 60 + (1 + rivals) * REHEARSAL_S / 60:.0f} minutes and the evaluation\n",
        flush=True,
    )


class Results:
    """Rows on disk as they are measured, and in memory for the table."""

    def __init__(self, folder: Path, scenario: str) -> None:
        self.scenario = scenario
        self.trainings: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        self._table = folder / "rivals.md"
        self._training_log = CsvLog(folder / "training.csv", COSTS)
        self._evaluation_log = CsvLog(folder / "evaluation.csv", ("stop", "training_seed", *evaluation_columns(build("routing"))))

    def start(self, *, overwrite: bool) -> None:
        """Begin the files. Raises UsageError where there are some already."""
        for log in (self._training_log, self._evaluation_log):
            if log.path.exists() and not overwrite:
                raise UsageError(f"{log.path} exists; replace it with --overwrite or write elsewhere with --out")
        self._training_log.create()
        self._evaluation_log.create()

    def trained(self, name: str, seed: int, reading: Reading, wanted: float) -> None:
        cost = {"training_s": reading.training_s, "decisions": reading.decisions, "gradient_steps": reading.gradient_steps}
        row = {"scenario": self.scenario, "policy": name, "stop": reading.stop, "training_seed": seed, "wanted": wanted, **cost}
        self.trainings.append(row)
        self._training_log.append([row])

    def played(self, name: str, stop: str, seed: int | None, rows: Sequence[dict[str, Any]]) -> None:
        named = [{**row, "policy": name, "stop": stop, "training_seed": seed} for row in rows]
        self.evaluations += named
        self._evaluation_log.append(named)

    def write_table(self) -> None:
        text = as_markdown(comparison(self.scenario, self.trainings, self.evaluations))
        write_text(self._table, text + "\n")
        print(f"\n{text}\n\n{self._table}")


def measure(args: argparse.Namespace, rivals: Sequence["Rival"], world: World, results: Results) -> None:
    """Train everybody for every seed, and evaluate what each reading caught."""
    problem = build("routing")
    rehearse(args, rivals)
    for seed in args.seeds:
        decisions = args.decisions
        for name, train in _learners(args, rivals):
            budget = _budget(args, decisions)
            for reading in _readings(name, train, seed, budget):
                results.trained(name, seed, reading, args.seconds if reading.stop == SECONDS else budget.decisions or 0)
                results.played(name, reading.stop, seed, _rows(world, reading.policy, args.episodes))
                if name == OURS and args.decisions is None:
                    decisions = reading.decisions
    for name in CLASSICAL:
        results.played(name, UNTRAINED, None, _rows(world, problem.build_policy(name), args.episodes))


def rehearse(args: argparse.Namespace, rivals: Sequence["Rival"]) -> None:
    """Train each learner once without looking, so that nobody pays for compilation and first allocations on the clock."""
    for name, train in _learners(args, rivals):
        _readings(f"{name}, rehearsal", train, 0, Budget(min(REHEARSAL_S, args.seconds)), until_first_step=True)


def _learners(args: argparse.Namespace, rivals: Sequence["Rival"]) -> Iterator[tuple[str, Train]]:
    """Ours first: its decisions are what the others have to make."""
    from rivals_sb3 import train_rival

    def ours(seed: int, readings: Readings) -> None:
        with tempfile.TemporaryDirectory() as folder:
            train_ours(args.scenario, seed, Path(folder), readings)

    yield OURS, ours
    for rival in rivals:
        yield rival.name, lambda seed, readings, rival=rival: train_rival(rival, args.scenario, seed, readings)


def _budget(args: argparse.Namespace, decisions: int | None) -> Budget:
    second = args.most_seconds >= args.seconds
    return Budget(args.seconds, decisions if second else None, args.most_seconds)


def _readings(name: str, train: Train, seed: int, budget: Budget, *, until_first_step: bool = False) -> list[Reading]:
    readings = Readings(budget, f"{name}, seed {seed}, seconds", until_first_step=until_first_step)
    train(seed, readings)
    return readings.taken


def _rows(world: World, policy: Policy, episodes: int) -> list[dict[str, Any]]:
    return [row for rows in evaluate(world, [policy], episodes, EVALUATION_SEED) for row in rows]


if __name__ == "__main__":
    sys.exit(main())

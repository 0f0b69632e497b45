"""Which network and which cost should learn from rollouts: all fitted to the same ones, and played on fleets that they never saw.

    python tests/benchmarks/architectures.py --jobs 2
    python tests/benchmarks/architectures.py --variants "set 32 (defaults),attention" --seeds 0-9 --out Models/attention
    python tests/benchmarks/architectures.py --variants list

A fixed model plays --episodes episodes of --scenario in the twin and tries out choices on the way, as a training by rollouts does. Every
copy is priced by each cost: the sum over its requests of their response times to the power 1, 1.4 or 2, or of the worst tenth of them.
Then every variant learns from these rollouts, from fresh weights, with the settings of a training, and is played greedily with the same
caution. So the variants differ in nothing else, and nobody plays on with what he learned: a training repeats this step.

What is finished in --out is kept, so the same command goes on where it was stopped, and more seeds or variants can be added.
rollouts_*.npz is the harvest, fleets.csv holds a row for each fit, scenario and fleet, results.csv a row for each fit,
architectures.md the table.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(Path(__file__).parent)]

from ablation import seeds  # noqa: E402 - found through the path set above
from ablation_training import METRICS  # noqa: E402
from architectures_fit import REFERENCES, VARIANTS, Plan, Variant, learner_of, work  # noqa: E402
from architectures_harvest import Harvest, gather, load, pieces  # noqa: E402
from architectures_report import comparison  # noqa: E402
from comparing import Results, chosen, jobs_of  # noqa: E402
from measuring import ended, print_machine  # noqa: E402

from trimtab.cli.options import count, positive  # noqa: E402
from trimtab.core.observation import FEATURES  # noqa: E402
from trimtab.dqn.checkpoint import load_checkpoint  # noqa: E402
from trimtab.errors import ResultsError, UsageError  # noqa: E402
from trimtab.experiments.csv_log import write_text  # noqa: E402
from trimtab.experiments.pool import in_processes  # noqa: E402
from trimtab.experiments.rollouts import FIRST  # noqa: E402
from trimtab.problems.base import Task  # noqa: E402
from trimtab.problems.routing.problem import Routing  # noqa: E402
from trimtab.problems.routing.world import TWIN_WARMUP  # noqa: E402
from trimtab.report.tables import as_markdown  # noqa: E402

CLOCK = "fit_s"
COSTS = ("parameters", "updates", CLOCK, "fit_cpu_s", "held_out_loss", "loss_before")
FILES = {"fleets": ("scenario", "fleet", *METRICS, "decision_us"), "results": COSTS}


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return ended(compare, args, f"stopped; what was finished is in {args.out}; the same command goes on")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model, out = REPOSITORY / "Models" / "reference.pth", REPOSITORY / "Models" / "architectures"
    played = "family:grey,family:affinity,family:speeds"
    parser.add_argument("--scenario", default="family:mixed", metavar="ID", help="of the rollouts: id, file or family:NAME (%(default)s)")
    parser.add_argument("--model", type=Path, default=model, metavar="FILE", help="decides in episodes and copies (Models/reference.pth)")
    parser.add_argument("--episodes", type=positive, default=800, metavar="N", help="the last tenth is held out for the loss (%(default)s)")
    parser.add_argument("--decisions", type=positive, default=500, metavar="N", help="of an episode after the warm-up (%(default)s)")
    parser.add_argument("--every", type=positive, default=25, metavar="N", help="decisions between rollouts, on average (%(default)s)")
    parser.add_argument("--horizon", type=positive, default=96, metavar="N", help="requests of a copy (%(default)s)")
    parser.add_argument("--harvest-seed", type=count, default=0, metavar="N", help="of the episodes of the rollouts (%(default)s)")
    parser.add_argument("--variants", default="all", metavar="a,b", help="'all', 'list' or names")
    parser.add_argument("--seeds", type=seeds, default=(0, 1, 2), metavar="0-2", help="of the fits: N, N-M, or N,M,... (default 0-2)")
    parser.add_argument("--updates", type=positive, default=600, metavar="N", help="gradient steps of a fit (%(default)s)")
    parser.add_argument("--batch", type=positive, default=1024, metavar="N", help="rollouts in a gradient step (%(default)s)")
    parser.add_argument("--evaluate", default=played, metavar="a,b", help="scenarios of the held-out fleets (%(default)s)")
    parser.add_argument("--fleets", type=positive, default=256, metavar="N", help="held out, of each scenario (%(default)s)")
    parser.add_argument("--evaluation-seed", type=count, default=777, metavar="N", help="of the held-out fleets (%(default)s)")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="processes at a time (%(default)s)")
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help="rollouts, rows and table (Models/architectures)")
    parser.add_argument("--table-only", action="store_true", help="play and fit nothing; the table of what is there")
    return parser


def compare(args: argparse.Namespace) -> int:
    """Everything that can be wrong is an error before the first episode."""
    if args.variants == "list":
        print("\n".join(f"{one.name:<20}  {one.network} {one.hidden}, {one.cost}, updates x {one.length:g}" for one in VARIANTS))
        return 0
    variants, plan = chosen("--variants", args.variants, VARIANTS, attrgetter("name")), _plan(args)
    results = _opened(plan)
    if not args.table_only:
        print_machine(f"architectures on {plan.harvest.scenario}")
        harvest(plan, args.jobs)
        jobs = list(jobs_of(plan, REFERENCES, _possible(plan, variants), args.seeds))
        results.fill(jobs, lambda units: in_processes(work, units, args.jobs), CLOCK)
    write(plan, variants, args.seeds, results)
    return 0


def _plan(args: argparse.Namespace) -> Plan:
    scenarios = tuple(part.strip() for part in args.evaluate.split(","))
    for scenario in (args.scenario, *scenarios):
        Routing().open(Task(scenario, "twin")).close()  # one that does not exist is an error now
    load_checkpoint(args.model, problem=Routing.id, observation=FEATURES)
    most = TWIN_WARMUP + args.decisions - FIRST
    if args.horizon > most:
        raise UsageError(f"--horizon {args.horizon} is longer than the episodes; allowed: at most {most}, or raise --decisions")
    if args.episodes < 2:
        raise UsageError("--episodes 1 leaves none to learn from; allowed: 2 or more, the last tenth is held out")
    played = Harvest(args.scenario, str(args.model), args.episodes, args.decisions, args.every, args.horizon, args.harvest_seed)
    return Plan(played, args.out, args.updates, args.batch, scenarios, args.fleets, args.evaluation_seed)


def harvest(plan: Plan, at_a_time: int) -> None:
    """Play what is not yet played."""
    every = list(pieces(plan.harvest, plan.folder))
    open_ = [one for one in every if not one.path.exists()]
    print(f"{len(every) - len(open_)} of {len(every)} parts of the harvest are there already", flush=True)
    for number, (place, states) in enumerate(in_processes(gather, open_, at_a_time), 1):
        print(f"{number}/{len(open_)}  rollouts from {states} states, of episode {open_[place].first} and on", flush=True)


def _possible(plan: Plan, variants: Sequence[Variant]) -> list[Variant]:
    """Without the flat network where fleets are of several sizes."""
    data = load(tuple(piece.path for piece in pieces(plan.harvest, plan.folder)))
    sizes = {one.mask.shape[1] for one in data} | {Routing().choices(Task(scenario, "twin")) for scenario in plan.scenarios}
    if len(sizes) == 1:
        return list(variants)
    print(f"no flat network: fleets have {', '.join(map(str, sorted(sizes)))} servers")
    return [one for one in variants if one.network != "flat"]


def _opened(plan: Plan) -> Results:
    """The files of a comparison, begun or gone on with."""
    results, harvested = Results(plan.folder, FILES), next(plan.folder.glob("rollouts_*.npz"), None)
    if harvested is not None and not results.begun:
        raise ResultsError(f"{plan.folder} holds rollouts without a settings.json that says of what; delete them or name another --out")
    results.open(_described(plan))
    return results


def _described(plan: Plan) -> dict[str, Any]:
    """What must be the same for rows to be compared; of the model its content, wherever it lies."""
    played = {**asdict(plan.harvest), "model": hashlib.sha256(Path(plan.harvest.model).read_bytes()).hexdigest()}
    fitted = {"updates": plan.updates, "scenarios": list(plan.scenarios), "fleets": plan.fleets, "evaluation seed": plan.seed}
    return {**{f"harvest {name}": value for name, value in played.items()}, **fitted, "learner": learner_of(plan, VARIANTS[0]).to_dict()}


def write(plan: Plan, variants: Sequence[Variant], fit_seeds: Sequence[int], results: Results) -> None:
    """architectures.md from what is finished."""
    text = as_markdown(comparison(plan, variants, [str(one) for one in fit_seeds], results.frames()))
    write_text(results.folder / "architectures.md", text + "\n")
    print(f"\n{text}\n\n{results.folder / 'architectures.md'}")


if __name__ == "__main__":
    sys.exit(main())

"""What tuning on recorded traffic does to a trained model, also where the machine halted meanwhile.

    python tests/benchmarks/tuning_on_log.py --log Models/runs/live_learning/run/decisions

Learns from one log again and again, with settings as `train_dqn.py --from-log LOG --init MODEL` has them and one change or two each, and
plays the model in the twin of the log's scenario on the way, greedy, on the same arrivals. With halts, requests that were under way at
some moments of the log end later by a halt: what a machine that stands still for that long looks like from outside. The same log, model
and options always give the same table.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(Path(__file__).parent)]

from measuring import ended, print_machine  # noqa: E402 - found through the path set above

from trimtab.cli.options import count, positive  # noqa: E402
from trimtab.cli.progress import Bar  # noqa: E402
from trimtab.cli.train import CAUTION, SHAPE  # noqa: E402
from trimtab.dqn.agent import DQNAgent  # noqa: E402
from trimtab.dqn.checkpoint import Checkpoint, load_checkpoint, load_network  # noqa: E402
from trimtab.dqn.config import LIVE, TUNED, DQNConfig  # noqa: E402
from trimtab.errors import ResultsError  # noqa: E402
from trimtab.experiments.decision_log import Header, read_header  # noqa: E402
from trimtab.experiments.evaluate import evaluate  # noqa: E402
from trimtab.experiments.log_reader import LogReader, Step  # noqa: E402
from trimtab.experiments.log_training import LogTrainer  # noqa: E402
from trimtab.experiments.statistics import paired_difference  # noqa: E402
from trimtab.policies.learned import LearnedPolicy  # noqa: E402
from trimtab.problems.base import Policy, Task, World  # noqa: E402
from trimtab.problems.routing.problem import Routing  # noqa: E402
from trimtab.problems.routing.scenario_files import save_scenario  # noqa: E402
from trimtab.report.tables import Grid, as_markdown  # noqa: E402

FREE: Mapping[str, Any] = {"kept": 0.0, "loss": "mse"}
VARIANTS: tuple[Mapping[str, Any], ...] = (
    FREE,
    {**FREE, "loss": "huber"},
    {**FREE, "kept": 10.0},
    {"kept": 1.0},
    {"kept": 3.0},
    {},
    {"kept": 30.0},
)
HALT_S = 2.5  # seen on shared machines; a hundred times what a request takes
HEAD = ("settings", "halts", "worst of the looks, ms", "at the end, ms", "end against before, 95 %")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True, metavar="DIR", help="recorded decisions (app.py --record)")
    parser.add_argument("--init", type=Path, default=REPOSITORY / "Models" / "reference.pth", metavar="MODEL")
    parser.add_argument("--halts", type=count, default=3, metavar="N", help=f"of {HALT_S:g} s each (default 3)")
    parser.add_argument("--looks", type=positive, default=8, metavar="N", help="at the model on the way (default 8)")
    parser.add_argument("--episodes", type=positive, default=20, metavar="N", help="in the twin, of each look (default 20)")
    parser.add_argument("--seed", type=count, default=0)
    return ended(compare, parser.parse_args(argv), "stopped")


def compare(args: argparse.Namespace) -> int:
    problem, header = Routing(), read_header(args.log)
    if header.features != problem.features:
        raise ResultsError(f"{args.log} holds decisions seen by other features than those of {problem.id}; record anew")
    model = load_checkpoint(args.init, problem=problem.id, observation=problem.features)
    world, steps = twin_of(header), list(recorded(args.log, header))
    print_machine(f"tuning {args.init.name} on {len(steps):,} decisions of {header.scenario_id}")
    start = played(world, problem.load_policy(args.init, len(header.servers)), args)
    cells = [(changes, halts) for halts in dict.fromkeys((0, args.halts)) for changes in VARIANTS]
    rows = []
    with Bar("trainings", len(cells)) as bar:
        for done, (changes, halts) in enumerate(cells, start=1):
            agent = begun(problem, model, settings(problem, model, changes), header, args.seed)
            policy = LearnedPolicy("dqn", agent.policy_network, problem.observe)
            looks = [played(world, policy, args) for _ in tuned(agent, problem, header, halted(steps, halts), args.looks)]
            rows.append((named(changes), str(halts), *told(start, looks)))
            bar.update(done, " ".join(rows[-1]))
    title = f"before tuning {start.mean():.2f} ms"
    print(as_markdown(Grid(title, HEAD, tuple(rows))))
    return 0


def twin_of(header: Header) -> World:
    """The twin of the scenario as the log has it, which may be of a file that is gone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.toml"
        save_scenario(path, header.read_scenario())
        return Routing().open(Task(str(path), "twin"))


def settings(problem: Routing, model: Checkpoint, changes: Mapping[str, Any]) -> DQNConfig:
    inherited = {name: getattr(model.config, name) for name in (*SHAPE, *CAUTION)}
    return DQNConfig.from_dict({**problem.learner_defaults, **LIVE, **TUNED, **inherited, **changes})


def begun(problem: Routing, model: Checkpoint, config: DQNConfig, header: Header, seed: int) -> DQNAgent:
    torch.set_num_threads(1)
    servers = len(header.servers)
    agent = DQNAgent(config, len(problem.features), servers, seed)
    agent.adopt(load_network(model, servers))
    return agent


def tuned(agent: DQNAgent, problem: Routing, header: Header, steps: Iterable[Step], looks: int) -> Iterator[int]:
    """Learn from the decisions; `looks` times on the way, and at the end, the number of those learned from."""
    trainer = LogTrainer(agent, problem.training_metrics)
    trainer.open(header)
    steps = list(steps)
    stops = {len(steps) * number // (looks + 1) for number in range(1, looks + 1)} | {len(steps)}
    for done, step in enumerate(steps, start=1):
        trainer.take(step)
        if done in stops:
            yield done


def recorded(log: Path, header: Header) -> Iterator[Step]:
    """Every decision of the log."""
    reader = LogReader(log, header)
    for last in (False, True):
        if last:
            reader.finish()
        while (step := reader.next()) is not None:
            yield step


def halted(steps: Sequence[Step], halts: int) -> Iterator[Step]:
    """The decisions as if the machine had stood still `halts` times, evenly spread: what was under way ends later by the rest of it."""
    sent_s = [float(step.record["sent_s"]) for step in steps]
    began_s, span_s = min(sent_s, default=0.0), max(sent_s, default=0.0) - min(sent_s, default=0.0)
    moments_s = [began_s + span_s * number / (halts + 1) for number in range(1, halts + 1)]
    for step in steps:
        record = step.record.copy()
        for moment_s in moments_s:
            record["latency_s"] += rest_s(float(record["sent_s"]), float(record["latency_s"]), moment_s)
        yield step._replace(record=record)


def rest_s(sent_s: float, latency_s: float, halt_s: float) -> float:
    """By how much a request ends later where the machine stands still for HALT_S from the moment `halt_s` on."""
    until_s = halt_s + HALT_S
    return until_s - max(halt_s, sent_s) if sent_s < until_s and sent_s + latency_s > halt_s else 0.0


def played(world: World, policy: Policy, args: argparse.Namespace) -> np.ndarray:
    """Mean latencies [episodes], in ms, greedy."""
    rows = [row for rows in evaluate(world, [policy], args.episodes, args.seed) for row in rows]
    return np.array([float(str(row["mean_latency_ms"])) for row in rows])


def told(start: np.ndarray, looks: list[np.ndarray]) -> tuple[str, str, str]:
    """Worst look, end, and the end against the start over paired episodes."""
    found = paired_difference(looks[-1], start)
    difference = f"{found.estimate:+.1f} % [{found.low:+.1f}, {found.high:+.1f}]"
    return f"{max(one.mean() for one in looks):.2f}", f"{looks[-1].mean():.2f}", difference


def named(changes: Mapping[str, Any]) -> str:
    words = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in changes.items()]
    return ", ".join(words) or f"the defaults (kept {TUNED['kept']:g}, loss {TUNED['loss']})"


if __name__ == "__main__":
    sys.exit(main())

"""train_dqn.py: train a DQN in the twin, over real HTTP, or in the twin first and live after."""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trimtab.cli import options, watching
from trimtab.cli.command import parser as command_parser
from trimtab.cli.command import run
from trimtab.cli.progress import Bar, training_text
from trimtab.dqn.config import DQNConfig
from trimtab.experiments.csv_log import Cell
from trimtab.experiments.runs import RunFolder
from trimtab.paths import models_dir
from trimtab.problems.base import Problem
from trimtab.problems.catalogue import build
from trimtab.telemetry.pages import Row

if TYPE_CHECKING:
    from trimtab.experiments.session import TrainingSession

BACKENDS: Final = ("hybrid", "twin", "http")
EXAMPLES = """\
  python agent/train_dqn.py                                  twin first, then 20 episodes on live servers
  python agent/train_dqn.py --backend twin --episodes 500    a short run in the simulator alone
  python agent/train_dqn.py --backend http --servers http://localhost:8081,http://localhost:8082,...
  python agent/train_dqn.py --resume                         go on where the last run stopped
  python agent/train_dqn.py --heuristic sed-online --set n_step=5 --out Models/runs/heuristic"""


def main(argv: Sequence[str] | None = None) -> int:
    return run(_body, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("train_dqn.py", "Train a DQN that routes requests over unequal servers.", EXAMPLES)
    options.add_scenario(parser)
    parser.add_argument("--scenario", default=None, metavar="ID", help="id, file, family:NAME, or 'list' (default compose-default)")
    parser.add_argument("--backend", default=None, choices=BACKENDS, help="hybrid: calibrated twin, then live (default)")
    parser.add_argument("--episodes", type=options.positive, default=None, metavar="N", help="in all, resumed ones included (default 6000)")
    parser.add_argument("--live-episodes", type=options.count, default=None, metavar="N", help="fine-tuning of hybrid (default 20)")
    parser.add_argument("--heuristic", default=None, metavar="NAME", help="policy whose action gets a bonus while learning")
    parser.add_argument("--reward", default=None, metavar="NAME", help="response (default) or integral: what a decision is paid by")
    parser.add_argument("--set", dest="learner", type=options.learner_setting, action="append", metavar="KEY=VALUE", help="learner setting")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="where the run is written (default Models)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue the run in --out")
    start.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    watching.add_options(parser, watching.TRAINING_PORT)
    return parser


def _body(args: argparse.Namespace) -> int:
    problem = build(args.problem or "routing")
    if args.scenario == "list":
        return options.print_listing(problem.scenario_ids())
    if args.scenario_check:
        return options.print_scenario_check(problem, args.scenario_check)
    return _train(problem, args)


def _train(problem: Problem, args: argparse.Namespace) -> int:
    # Imported here: torch takes seconds, and --help or a mistyped option should not wait for it.
    from trimtab.dqn.learner import resolve_device
    from trimtab.experiments.session import Settings, TrainingSession, resumed_settings

    folder = RunFolder(args.out or models_dir())
    changes = _changes(args)
    settings = resumed_settings(folder, changes) if args.resume else Settings.from_dict({**Settings().to_dict(), **changes})
    with TrainingSession(problem, settings, folder, resolve_device(args.device)) as session:
        if args.resume:
            session.resume()
        else:
            session.start(overwrite=args.overwrite)
        watch = watching.TrainingWatch(session)
        with watching.page(args, watching.TRAINING_PORT, watch.collectors) as watched:
            return _run(session, watch.batches(watched=watched))


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names."""
    names = ("problem", "scenario", "backend", "servers", "seed", "reward", "heuristic", "episodes", "live_episodes")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.learner:
        given["learner"] = DQNConfig.from_dict(dict(args.learner)).to_dict()
    return given


def _run(session: "TrainingSession", batches: Iterator[list[Row]]) -> int:
    started = time.monotonic()
    first = session.trainer.episode
    settings = session.settings
    _say(f"{settings.backend} training of {session.problem.id}, {settings.scenario}, on {session.where}, into {session.folder.root}")
    try:
        with Bar("episodes", session.total, done=first) as bar:
            for rows in batches:
                _tell(session)
                bar.update(session.trainer.episode, training_text(_average(rows)))
    except KeyboardInterrupt:
        _say(f"stopped; the state of {session.folder.resume_state} is kept: continue with --resume")
        raise
    done, elapsed = session.trainer.episode - first, time.monotonic() - started
    _say(f"{done} episodes, {session.agent.decisions} decisions, {session.agent.updates} gradient steps in all; {elapsed:.0f} s")
    print(session.folder.final)
    return 0


def _tell(session: "TrainingSession") -> None:
    """Say what the session has noted since the last time."""
    for note in session.notes:
        _say(f"note: {note}")
    session.notes.clear()


def _average(rows: Sequence[Row]) -> dict[str, Cell]:
    """Means over the rows of a batch: single episodes jump about."""
    last = dict(rows[-1])
    for name in ("average_reward", "mean_latency_ms", "p99_latency_ms"):
        values = [value for row in rows if isinstance(value := row.get(name), float) and math.isfinite(value)]
        last[name] = statistics.fmean(values) if values else None
    return last


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

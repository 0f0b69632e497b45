"""train_dqn.py: train a DQN in the twin, over real HTTP, in the one and then the other, or on the traffic of a gateway."""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trimtab.cli import options, watching
from trimtab.cli.beside import DEFAULT_PORT, GatewayProcess, check_words, low_priority
from trimtab.cli.command import parser as command_parser
from trimtab.cli.command import run
from trimtab.cli.progress import Bar, training_text
from trimtab.dqn.config import LIVE, TUNED, DQNConfig
from trimtab.errors import UsageError
from trimtab.experiments.csv_log import Cell
from trimtab.experiments.curriculum import CURRICULUM
from trimtab.experiments.runs import RunFolder
from trimtab.paths import models_dir
from trimtab.problems.base import Problem
from trimtab.problems.catalogue import build
from trimtab.telemetry.pages import Row

if TYPE_CHECKING:
    from trimtab.experiments.session import RunSession, Settings

TRAFFIC: Final = ("internal", "gateway")
GATEWAY: Final = "gateway"
LIVE_EPISODES: Final = 200  # of 500 decisions each: ten minutes at 170 requests/s
SHAPE: Final = ("network", "hidden", "dueling", "anchor")
CAUTION: Final = ("trust", "lead", "bound_factor", "bound_slack")
LEARNING: Final = ("rollouts", "td")
BACKENDS: Final = ("hybrid", "twin", "http")
EXAMPLES = """\
  python agent/train_dqn.py                                  twin first, then 20 episodes on live servers
  python agent/train_dqn.py --backend twin --episodes 500    a short run in the simulator alone
  python agent/train_dqn.py --backend http --servers http://localhost:8081,http://localhost:8082,...
  python agent/train_dqn.py --resume                         go on where the last run stopped
  python agent/train_dqn.py --traffic gateway                learn from the requests that people send to localhost:8080
  python agent/train_dqn.py --traffic gateway --init Models/reference.pth --out Models/runs/tuned
  python agent/train_dqn.py --from-log Models/decisions --out Models/runs/offline
  python agent/train_dqn.py --heuristic sed-online --set n_step=5 --out Models/runs/heuristic"""


def main(argv: Sequence[str] | None = None) -> int:
    return run(_body, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("train_dqn.py", "Train a DQN that routes requests over unequal servers.", EXAMPLES)
    options.add_scenario(parser)
    parser.add_argument("--scenario", default=None, metavar="ID", help="id, file, family:NAME, or 'list' (default compose-default)")
    traffic = "whose requests: its own (default), or those that a gateway, which it starts, is sent by others"
    parser.add_argument("--traffic", default=None, choices=TRAFFIC, help=traffic)
    parser.add_argument("--port", type=options.positive, default=None, metavar="N", help="of that gateway (default 8080)")
    control = "of that gateway's requests that sed-online decides, to compare: at most 0.5 (default 0.1; 0: it is not compared)"
    parser.add_argument("--control-share", type=options.control_share, default=None, metavar="SHARE", help=control)
    parser.add_argument("--from-log", type=Path, default=None, metavar="DIR", help="learn from recorded decisions (app.py --record)")
    parser.add_argument("--epochs", type=options.positive, default=None, metavar="N", help="how often that log is gone through (default 1)")
    parser.add_argument("--backend", default=None, choices=BACKENDS, help="hybrid: calibrated twin, then live (default)")
    parser.add_argument(
        "--episodes", type=options.positive, default=None, metavar="N", help="in all, resumed ones included (default 6000; gateway 200)"
    )
    lengths = ", ".join(str(phase.decisions) for phase in CURRICULUM)
    parser.add_argument(
        "--decisions", type=options.positive, default=None, metavar="N", help=f"of every episode (default {lengths}, in phases)"
    )
    parser.add_argument("--live-episodes", type=options.count, default=None, metavar="N", help="fine-tuning of hybrid (default 20)")
    parser.add_argument(
        "--heuristic", default=None, metavar="NAME", help="policy whose action gets a bonus while learning; chooses --learning td"
    )
    learning = "in the twin: from rollouts, choices tried out in copies of it, or from rewards (default rollouts where they are possible)"
    parser.add_argument("--learning", default=None, choices=LEARNING, help=learning)
    parser.add_argument("--reward", default=None, metavar="NAME", help="response (default) or integral: what a decision is paid by")
    parser.add_argument("--set", dest="learner", type=options.learner_setting, action="append", metavar="KEY=VALUE", help="learner setting")
    parser.add_argument(
        "--init", type=Path, default=None, metavar="MODEL", help="begin with a trained model's weights, such as Models/reference.pth"
    )
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
    _check_words(problem, args)
    folder = RunFolder(args.out or models_dir())
    settings = _settings(problem, folder, args)
    problem = build(settings.problem)  # a resumed run knows its own
    with ExitStack() as stack:
        session = _session(problem, settings, folder, args, stack)
        watch = watching.TrainingWatch(session)
        watched = stack.enter_context(watching.page(args, watching.TRAINING_PORT, watch.collectors))
        return _run(session, watch.batches(watched=watched))


def _settings(problem: Problem, folder: RunFolder, args: argparse.Namespace) -> "Settings":
    # Imported here and below: torch takes seconds, and --help or a mistyped option should not wait for it.
    from trimtab.experiments.session import Settings, resumed_settings

    changes = _changes(problem, args)
    if args.resume:
        return resumed_settings(folder, changes)
    if (backend := changes.get("backend", problem.backends[0])) not in (*problem.backends, GATEWAY):
        raise UsageError(f"--backend {backend}: problem {problem.id} knows {', '.join(problem.backends)}; choose one of them")
    defaults = {"problem": problem.id, "scenario": problem.default_scenario, "backend": problem.backends[0]}
    return Settings.from_dict({**Settings().to_dict(), **defaults, **changes})


def _session(problem: Problem, settings: "Settings", folder: RunFolder, args: argparse.Namespace, stack: ExitStack) -> "RunSession":
    """The run, started or resumed; it and a gateway beside it end with `stack`."""
    from trimtab.dqn.learner import resolve_device
    from trimtab.experiments.session import TrainingSession
    from trimtab.experiments.traffic import RecordedSession, TrafficSession

    device = resolve_device(args.device)
    if settings.log is not None:
        return _begun(stack.enter_context(RecordedSession(problem, settings, folder, device)), args)
    if settings.backend != GATEWAY:
        return _begun(stack.enter_context(TrainingSession(problem, settings, folder, device)), args)
    gateway = GatewayProcess(folder, settings, args.port or DEFAULT_PORT, args.control_share)
    session = stack.enter_context(TrafficSession(problem, settings, folder, device, gateway.wait))
    session.at = gateway.url
    _begun(session, args)
    _say(stack.enter_context(gateway.running()))
    stack.enter_context(low_priority())
    return session


def _begun(session: "RunSession", args: argparse.Namespace) -> "RunSession":
    if args.resume:
        session.resume()
    else:
        session.start(overwrite=args.overwrite)
    return session


def _check_words(problem: Problem, args: argparse.Namespace) -> None:
    """Raises UsageError for options that do not go together."""
    names = ("backend", "live_episodes", "decisions", "heuristic")
    own = [(f"--{name.replace('_', '-')}", getattr(args, name) is not None) for name in names]
    if args.traffic == GATEWAY or args.from_log is not None:
        check_words([("--problem", problem.id != "routing")], "where a gateway decides: it routes requests")
        check_words(own, "for the traffic of a gateway: that explores with sed-online at hand")
    if args.from_log is not None:
        check_words([("--traffic", args.traffic is not None), ("--episodes", args.episodes is not None)], "beside --from-log")
        check_words([("--scenario", args.scenario is not None), ("--servers", args.servers is not None)], "beside --from-log")
    if args.from_log is None and not args.resume:
        check_words([("--epochs", args.epochs is not None)], "without --from-log")
    if args.traffic != GATEWAY and not args.resume:
        check_words([("--port", args.port is not None), ("--control-share", args.control_share is not None)], "without --traffic gateway")


def _changes(problem: Problem, args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names."""
    fixed = ("problem", "scenario", "backend", "servers", "seed", "reward", "heuristic", "learning")
    names = (*fixed, "episodes", "live_episodes", "decisions", "epochs")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.traffic == GATEWAY or args.from_log is not None:
        given["backend"] = GATEWAY
    if args.traffic == GATEWAY and not args.resume:
        given.setdefault("episodes", LIVE_EPISODES)
    if args.from_log is not None:
        given["log"] = str(args.from_log.resolve())
    if args.init is not None:
        given["init"] = str(args.init.resolve())
    return given | _learner_changes(problem, args, given.get("backend", problem.backends[0]))


def _learner_changes(problem: Problem, args: argparse.Namespace, backend: str) -> dict[str, Any]:
    """How the run learns; of a resumed run only what is named, for the rest is what it was. Raises UsageError."""
    named = dict(args.learner or [])
    usual = {**problem.learner_defaults, **(LIVE if backend == GATEWAY else {})}
    usual |= TUNED if backend == GATEWAY and args.init is not None else {}
    inherited = _inherited(problem, args.init, named) if args.init is not None else {}
    checked = DQNConfig.from_dict({**usual, **inherited, **named})
    if args.resume:
        return {"learner": named} if named else {}
    learning = _learning(problem, args, backend, checked)
    more = problem.rollout_defaults if learning == "rollouts" else {}
    return {"learning": learning, "learner": DQNConfig.from_dict({**usual, **more, **inherited, **named}).to_dict()}


def _inherited(problem: Problem, model: Path, named: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a model brings along: its network's shape, and how far it is trusted. Raises UsageError where another is `named`."""
    from trimtab.dqn.checkpoint import load_checkpoint

    config = load_checkpoint(model, problem=problem.id, observation=problem.features).config.to_dict()
    for name in SHAPE:
        if named.get(name, config[name]) != config[name]:
            raise UsageError(f"learner setting {name} is {named[name]!r} and {model} has {config[name]!r}; leave it out of --set")
    return {name: config[name] for name in (*SHAPE, *CAUTION)}


def _learning(problem: Problem, args: argparse.Namespace, backend: str, learner: DQNConfig) -> str:
    """What was asked for; else rollouts, unless something was asked for that only rewards can do. Raises UsageError."""
    without = [
        ("--from-log", args.from_log is not None),
        ("--traffic gateway", backend == GATEWAY),
        (f"--problem {problem.id}", not problem.branches),
        (f"--backend {backend}", backend not in ("hybrid", "twin")),
        ("--heuristic", args.heuristic is not None),
        (f"--reward {args.reward}", args.reward not in (None, problem.rewards[0])),
        ("--set anchor below 0", learner.anchor < 0),
        ("--set cloning", learner.cloning != 0),
        ("--set kept", learner.kept != 0),
    ]
    reasons = [word for word, holds in without if holds]
    if args.learning == "rollouts" and reasons:
        raise UsageError(
            f"{reasons[0]} does not go with --learning rollouts, which compares choices in copies of the twin; use --learning td"
        )
    return args.learning or ("td" if reasons else "rollouts")


def _run(session: "RunSession", batches: Iterator[list[Row]]) -> int:
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


def _tell(session: "RunSession") -> None:
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

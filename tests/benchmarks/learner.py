"""Milliseconds of a gradient step, and where the time of training in the twin goes.

PYTHONPATH=agent python tests/benchmarks/learner.py --episodes 100 --rounds 1
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from measuring import median_and_range, number, parser, print_machine, print_table

from trimtab.core.observation import FEATURES
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.learner import Learner
from trimtab.dqn.replay import Batch
from trimtab.experiments.curriculum import BATCH, CURRICULUM, EPISODES
from trimtab.experiments.train import Stage, Trainer
from trimtab.problems.routing.env import RoutingEnv
from trimtab.problems.routing.problem import Routing
from trimtab.problems.routing.scenario_files import load_scenario
from trimtab.problems.routing.world import TwinWorld, fixed_twin

SERVERS = 4
LAST_PHASE_STARTS = EPISODES - CURRICULUM[-1].episodes


def main() -> None:
    made = parser("Milliseconds of a gradient step, and decisions a second while training in the twin.")
    made.add_argument("--episodes", type=int, default=None, metavar="N", help="of the last phase's length (default 600; fewer below 1 s)")
    args = made.parse_args()
    args.episodes = args.episodes or max(BATCH, int(600 * min(1.0, args.seconds)))
    print_machine(f"learner, torch on {torch.get_num_threads()} threads")
    _print_steps(args)
    _print_training(args)


# A gradient step


def random_batch(config: DQNConfig, seed: int) -> Batch:
    """A batch of the right shapes; the values do not change how long a step takes."""
    chance = torch.Generator().manual_seed(seed)
    obs = torch.rand((2, config.batch, SERVERS, len(FEATURES)), generator=chance)
    everybody = torch.ones((config.batch, SERVERS), dtype=torch.bool)
    return Batch(
        obs=obs[0],
        mask=everybody,
        action=torch.randint(SERVERS, (config.batch,), generator=chance),
        reward=-torch.rand(config.batch, generator=chance),
        discount=torch.full((config.batch,), config.discount**config.n_step),
        next_obs=obs[1],
        next_mask=everybody,
    )


def _print_steps(args: argparse.Namespace) -> None:
    config = DQNConfig()
    learner = Learner(config, len(FEATURES), SERVERS, seed=0)
    batches = [random_batch(config, seed) for seed in range(8)]
    for batch in batches:  # the first steps allocate
        learner.update(batch)
    times_ms = [_step_ms(learner, batches, args.seconds) for _ in range(args.rounds)]
    print(f"gradient step, batch {config.batch}, {SERVERS} servers: {' ms, range '.join(median_and_range(times_ms))} ms\n")


def _step_ms(learner: Learner, batches: list[Batch], seconds: float) -> float:
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        learner.update(batches[steps % len(batches)])
        steps += 1
    return (time.perf_counter() - started) / steps * 1e3


# Training


class Split:
    """Where the time of wrapped calls goes, by label. Calls do not nest."""

    def __init__(self) -> None:
        self.elapsed_s: dict[str, float] = defaultdict(float)

    def wrap(self, owner: Any, label: str, *methods: str) -> None:
        """Count the time of `owner`'s methods under `label`."""
        for method in methods:
            setattr(owner, method, self._timed(getattr(owner, method), label))

    def _timed(self, call: Callable[..., Any], label: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.elapsed_s[label] += time.perf_counter() - started

        return timed


class TimedWorld:
    """A twin whose environments report to a split."""

    backend = "twin"

    def __init__(self, world: TwinWorld, split: Split) -> None:
        self._world, self._split = world, split

    def training_env(self, decisions: int, batch: int) -> RoutingEnv:
        env = self._world.training_env(decisions, batch)
        self._split.wrap(env, "twin: drawing arrivals", "reset")
        self._split.wrap(env, "twin: serving", "step", "closing", "drain", "credits")
        self._split.wrap(env, "metrics of episodes", "metrics")
        return env


def _train(episodes: int) -> tuple[Split, int, int, float]:
    """(times, decisions, gradient steps, seconds) of a training run of the last phase's episodes."""
    split, problem = Split(), Routing()
    agent = DQNAgent(DQNConfig(), len(FEATURES), SERVERS, seed=0)
    split.wrap(problem, "acting: observation", "observe")
    split.wrap(agent, "acting: network", "act")
    split.wrap(agent, "replay: writing", "begin", "observe", "credit", "finish")
    split.wrap(agent, "gradient steps and sampling", "learn")
    trainer = Trainer(problem, agent, seed=0)  # type: ignore[arg-type]
    trainer.episode = LAST_PHASE_STARTS
    world: Any = TimedWorld(fixed_twin(load_scenario("compose-default")), split)
    started = time.perf_counter()
    for _ in trainer.run([Stage(world, LAST_PHASE_STARTS + episodes)]):
        pass
    return split, agent.decisions, agent.updates, time.perf_counter() - started


def _print_training(args: argparse.Namespace) -> None:
    _train(1)  # compiles what is not compiled yet
    rates = []
    for _ in range(args.rounds):
        split, decisions, updates, elapsed_s = _train(args.episodes)
        rates.append(decisions / elapsed_s)
    median, spread = median_and_range(rates)
    print(f"training in the twin, {args.episodes} episodes of {CURRICULUM[-1].decisions} decisions: {median} decisions/s, range {spread}")
    print(f"the last round: {decisions:,} decisions, {updates:,} gradient steps, {elapsed_s:.1f} s")
    parts = {**split.elapsed_s, "the loop itself": elapsed_s - sum(split.elapsed_s.values())}
    rows = [[name, number(part), f"{part / elapsed_s:.0%}"] for name, part in sorted(parts.items(), key=lambda one: -one[1])]
    print_table(["part", "s", "share"], rows)


if __name__ == "__main__":
    main()

"""Evaluation: every policy on the same arrivals and the same work, greedy, one row an episode."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from trimtab.core.tally import Tallies
from trimtab.experiments.loop import play_out
from trimtab.problems.base import I64, BatchEnv, Policy, Problem, World

Row = dict[str, str | int | float | None]


def evaluation_columns(problem: Problem) -> tuple[str, ...]:
    """Columns of evaluation.csv: the fixed ones, and the problem's own between them."""
    metrics = problem.evaluation_metrics
    late = tuple(name for name in metrics if name == "schedule_lag_ms")  # the contract puts it last
    early = tuple(name for name in metrics if name not in late)
    return ("scenario", "backend", "policy", "episode", "seed", *early, "total_reward", "decision_us", *late)


class _Stopwatch:
    """Times the decisions of a policy and nothing else."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.elapsed_s = 0.0
        self.decisions = 0

    def choose(self, view: Any) -> I64:
        started = time.perf_counter()
        actions = self._policy.select(view)
        self.elapsed_s += time.perf_counter() - started
        self.decisions += len(actions)
        return actions


def evaluate(world: World, policies: Sequence[Policy], episodes: int, seed: int, tallies: Tallies | None = None) -> Iterator[list[Row]]:
    """Rows of one policy (twin: all its episodes; live: one episode), policies interleaved and their order rotated.

    Decisions and outcomes are counted in `tallies`, if given.
    """
    env = world.evaluation_env(episodes)
    at_once = min(env.batch, episodes)
    for turn, first in enumerate(range(0, episodes, at_once)):
        numbers = list(range(first, min(first + at_once, episodes)))
        for place in range(len(policies)):
            # Who goes first changes from round to round: a fixed order would give someone the freshly started servers always.
            policy = policies[(place + turn) % len(policies)]
            if tallies is not None:
                env.count_into(tallies, policy.name)
            yield _run(world, env, policy, numbers, seed)


def _run(world: World, env: BatchEnv, policy: Policy, numbers: Sequence[int], seed: int) -> list[Row]:
    watch = _Stopwatch(policy)
    metrics = play_out(env, policy, watch.choose, seed, numbers)
    fixed: Row = {"scenario": world.scenario_id, "backend": world.backend, "policy": policy.name, "seed": seed}
    decision_us = watch.elapsed_s / max(1, watch.decisions) * 1e6
    return [{**fixed, "episode": number, **row, "decision_us": decision_us} for number, row in zip(numbers, metrics, strict=True)]

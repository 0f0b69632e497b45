"""Evaluation: every policy on the same arrivals and the same work, greedy, one row an episode."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trimtab.core.tally import Tallies
from trimtab.experiments.details import Details
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


def evaluate(
    world: World,
    policies: Sequence[Policy],
    episodes: int,
    seed: int,
    tallies: Tallies | None = None,
    details: Details | None = None,
) -> Iterator[list[Row]]:
    """Rows of one policy (twin: all its episodes; live: one episode), policies interleaved and their order rotated.

    Decisions and outcomes are counted in `tallies`, and requests handed to `details`, if given.
    """
    env = world.evaluation_env(episodes)
    rivals = {policy.name: world.rival_env(policy.name) for policy in policies}
    at_once = min(env.batch, episodes)
    for turn, first in enumerate(range(0, episodes, at_once)):
        numbers = list(range(first, min(first + at_once, episodes)))
        for place in range(len(policies)):
            # Who goes first changes from round to round: a fixed order would give someone the freshly started servers always.
            policy = policies[(place + turn) % len(policies)]
            rival = rivals[policy.name]
            if tallies is not None:
                (rival or env).count_into(tallies, policy.name)
            rows = _played(world, env, rival, policy, numbers, seed)
            if details is not None:
                details.add(world, policy.name, rival or env)
            yield rows


def evaluate_again(world: World, policy: Policy, number: int, seed: int) -> Row:
    """The row of one episode, by its number: the same arrivals and work as when `evaluate` plays it."""
    return _played(world, world.evaluation_env(1), world.rival_env(policy.name), policy, [number], seed)[0]


def _played(world: World, env: BatchEnv, rival: BatchEnv | None, policy: Policy, numbers: Sequence[int], seed: int) -> list[Row]:
    return _run(world, env, policy, numbers, seed) if rival is None else _run_rival(world, rival, policy, numbers, seed)


def _run(world: World, env: BatchEnv, policy: Policy, numbers: Sequence[int], seed: int) -> list[Row]:
    watch = _Stopwatch(policy)
    metrics = play_out(env, policy, watch.choose, seed, numbers)
    return _rows(world, policy, numbers, seed, metrics, watch.elapsed_s / max(1, watch.decisions) * 1e6)


def _run_rival(world: World, env: BatchEnv, rival: Policy, numbers: Sequence[int], seed: int) -> list[Row]:
    """How long another program takes to decide is part of its latency, and known to nobody."""
    return _rows(world, rival, numbers, seed, play_out(env, rival, _no_choice, seed, numbers), None)


def _no_choice(view: Any) -> I64:
    return np.zeros(len(view.available), dtype=np.int64)


def _rows(
    world: World, policy: Policy, numbers: Sequence[int], seed: int, metrics: Sequence[Mapping[str, float]], decision_us: float | None
) -> list[Row]:
    fixed: Row = {"scenario": world.scenario_id, "backend": world.backend, "policy": policy.name, "seed": seed}
    return [{**fixed, "episode": number, **row, "decision_us": decision_us} for number, row in zip(numbers, metrics, strict=True)]

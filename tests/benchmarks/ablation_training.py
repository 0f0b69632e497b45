"""One training of ablation.py, in a process of its own: train, look at the policy on the way, play the held-out fleets at the end."""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ablation_variants import Variant
from comparing import Job, Outcome, Row

from trimtab.dqn.config import DQNConfig
from trimtab.experiments.evaluate import evaluate
from trimtab.experiments.runs import RunFolder
from trimtab.experiments.session import Settings, TrainingSession
from trimtab.policies.learned import LearnedPolicy, use_one_thread
from trimtab.problems.base import Policy, Task, World

METRICS = ("mean_latency_ms", "p99_latency_ms", "error_rate")


@dataclass(frozen=True)
class Plan:
    """What every variant goes through."""

    scenario: str
    episodes: int  # of training
    curve_every: int  # episodes between looks; a look falls at the end of a batch of them
    curve_fleets: int
    fleets: int  # held out, at the end
    seed: int  # of the held-out fleets


def work(job: Job) -> Outcome:
    """Do a job. A function of a module, so that another process can."""
    use_one_thread()
    return _reference(job) if job.variant is None else _trained(job, job.variant)


def _reference(job: Job) -> Outcome:
    world = Variant(job.name).problem.open(Task(job.plan.scenario, "twin"))
    try:
        fleets = _played(world, Variant(job.name).problem.build_policy(job.name), job.plan.fleets, job.plan.seed)
    finally:
        world.close()
    return Outcome({"changes": "untrained", **_means(fleets)}, {"fleets": fleets})


def _trained(job: Job, variant: Variant) -> Outcome:
    plan, problem = job.plan, variant.problem
    settings = Settings(
        scenario=plan.scenario,
        backend="twin",
        seed=job.seed or 0,
        heuristic=variant.heuristic,
        episodes=plan.episodes,
        learning=variant.learning,
        learner=DQNConfig.from_dict(variant.learner),
    )
    with tempfile.TemporaryDirectory() as folder, TrainingSession(problem, settings, RunFolder(Path(folder)), "cpu") as session:
        world = problem.open(Task(plan.scenario, "twin"))
        session.start(overwrite=False)
        run = _Run(session, world, plan, LearnedPolicy(job.name, session.agent.policy_network, problem.observe))
        return run.to_end(variant.described)


def _cpu_s() -> float:
    """CPU time of this process and of those that it has seen end, as the players of rollouts do with the last batch."""
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


class _Run:
    """A session that is trained with the clock running and looked at with the clock stopped."""

    def __init__(self, session: TrainingSession, world: World, plan: Plan, policy: Policy) -> None:
        self._session, self._world, self._plan, self._policy = session, world, plan, policy
        self._curve: list[Row] = []
        self._training_s = self._cpu_s = 0.0

    def to_end(self, described: str) -> Outcome:
        self._look()
        batches = self._session.run()
        while self._advance(batches):
            episode = self._session.trainer.episode
            if episode % self._plan.curve_every == 0 and episode < self._plan.episodes:
                self._look()
        agent = self._session.agent
        fleets = _played(self._world, self._policy, self._plan.fleets, self._plan.seed)
        self._curve.append(self._point(fleets[: self._plan.curve_fleets]))
        clocks = {"training_s": self._training_s, "training_cpu_s": self._cpu_s}
        counts = {"decisions": agent.decisions, "gradient_steps": agent.updates}
        return Outcome({"changes": described, **_means(fleets), **clocks, **counts}, {"curves": self._curve, "fleets": fleets})

    def _advance(self, batches: Any) -> bool:
        """Train for one batch of episodes; False after the last one and its final save."""
        started_s, cpu_s = time.perf_counter(), _cpu_s()
        rows = next(batches, None)
        self._training_s += time.perf_counter() - started_s
        self._cpu_s += _cpu_s() - cpu_s
        return rows is not None

    def _look(self) -> None:
        self._curve.append(self._point(_played(self._world, self._policy, self._plan.curve_fleets, self._plan.seed)))

    def _point(self, rows: Sequence[Row]) -> Row:
        return {"episode": self._session.trainer.episode, "decisions": self._session.agent.decisions, **_means(rows)}


def _means(rows: Sequence[Row]) -> Row:
    return {name: float(np.mean([row[name] for row in rows])) for name in METRICS}


def _played(world: World, policy: Policy, fleets: int, seed: int) -> list[Row]:
    """One row a fleet, in order."""
    rows = [row for rows in evaluate(world, [policy], fleets, seed) for row in rows]
    return [{"fleet": row["episode"], **{name: row[name] for name in METRICS}} for row in rows]

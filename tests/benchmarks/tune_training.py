"""One training of tune.py against a clock, looked at on the way, and what it reaches on fleets that it never saw."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from ablation_report import REFERENCES
from ablation_training import METRICS, Plan, work
from comparing import Job, Row
from rivals_training import ENDLESS
from tune_space import base

from trimtab.core.moods import FAILURE_S
from trimtab.dqn.config import DQNConfig
from trimtab.errors import TrimtabError
from trimtab.experiments.evaluate import evaluate
from trimtab.experiments.runs import RunFolder
from trimtab.experiments.session import Settings, TrainingSession
from trimtab.experiments.statistics import F64
from trimtab.policies.learned import LearnedPolicy
from trimtab.problems.base import Policy, Task, World
from trimtab.problems.catalogue import build

CLOCKS: Final[Mapping[str, Callable[[], float]]] = {"wall": time.perf_counter, "cpu": time.process_time}
REFERENCE: Final = REFERENCES[0]
NAME: Final = "tuned"


@dataclass(frozen=True)
class Search:
    """What every trial goes through."""

    scenario: str
    learning: str  # a key of tune_space.SPACES
    seconds: float  # of training, looks not counted
    clock: str  # a key of CLOCKS
    looks: int  # the last one is at the end
    fleets: int  # held out, at the end
    look_fleets: int  # the first of them, on the way
    evaluation_seed: int  # of the held-out fleets
    training_seed: int
    p99_weight: float  # in the score; the mean latency has the weight 1


@dataclass(frozen=True)
class Latencies:
    """What a policy reached on each held-out fleet, ms.  # [N] each"""

    mean_ms: F64  # a failed request counts as FAILURE_S
    p99_ms: F64

    def logs(self, reference: "Latencies", weight: float) -> F64:
        """Logarithm of each fleet's latency relative to the reference's, mean and p99 weighted 1 to `weight`.  # [N]

        The fleets are the first ones of the reference's. Their mean is the logarithm of the weighted geometric mean.
        """
        count = self.mean_ms.size
        mean = np.log(self.mean_ms / reference.mean_ms[:count])
        p99 = np.log(self.p99_ms / reference.p99_ms[:count])
        return np.asarray((mean + weight * p99) / (1 + weight))


@dataclass(frozen=True)
class Look:
    """A training at one moment: `number` counts from 1, the last is the result."""

    number: int
    latencies: Latencies
    training_s: float
    decisions: int
    gradient_steps: int


def reference(search: Search) -> Latencies:
    """sed-online on the held-out fleets."""
    plan = Plan(search.scenario, 1, 1, 1, search.fleets, search.evaluation_seed)
    return _latencies(work(Job(plan, REFERENCE)).rows["fleets"])


def looks(search: Search, values: Mapping[str, Any]) -> Iterator[Look]:
    """Train as train_dqn.py --backend twin does, with the clock stopped while it is looked at.

    Raises LearningError where the settings let it diverge.
    """
    problem = build("routing")
    settings = Settings(
        scenario=search.scenario,
        backend="twin",
        seed=search.training_seed,
        episodes=ENDLESS,
        learning=search.learning,
        learner=DQNConfig.from_dict({**base(search.learning), **values}),
    )
    with tempfile.TemporaryDirectory() as folder, TrainingSession(problem, settings, RunFolder(Path(folder)), "cpu") as session:
        world = problem.open(Task(search.scenario, "twin"))
        try:
            session.start(overwrite=False)
            yield from _timed(search, session, world, LearnedPolicy(NAME, session.agent.policy_network, problem.observe))
        finally:
            world.close()


def _timed(search: Search, session: TrainingSession, world: World, policy: Policy) -> Iterator[Look]:
    clock, trained_s = CLOCKS[search.clock], 0.0
    batches = session.run()
    for number in range(1, search.looks + 1):
        before_s = clock() - trained_s
        while trained_s < search.seconds * number / search.looks:
            next(batches)  # without end
            trained_s = clock() - before_s
        fleets = search.fleets if number == search.looks else search.look_fleets
        latencies = played(world, policy, fleets, search.evaluation_seed)
        yield Look(number, latencies, trained_s, session.agent.decisions, session.agent.updates)


def played(world: World, policy: Policy, fleets: int, seed: int) -> Latencies:
    """The policy on the first `fleets` held-out fleets, greedily."""
    return _latencies([row for rows in evaluate(world, [policy], fleets, seed) for row in rows])


def _latencies(rows: Sequence[Row]) -> Latencies:
    mean_ms, p99_ms, failed = (np.array([row[name] for row in rows], dtype=np.float64) for name in METRICS)
    found = Latencies((1 - failed) * mean_ms + failed * FAILURE_S * 1e3, p99_ms)
    if not (np.isfinite(found.mean_ms).all() and np.isfinite(found.p99_ms).all()):
        raise TrimtabError("a held-out fleet served too few requests for a mean and a p99; choose a --scenario with more of them")
    return found

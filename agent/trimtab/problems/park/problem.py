"""Park's load balancing game as a problem of this testbed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from trimtab.errors import UsageError
from trimtab.problems.base import F32, Task, World
from trimtab.problems.park.env import METRICS, REWARDS, ParkEnv
from trimtab.problems.park.game import JOBS, SERVERS
from trimtab.problems.park.policies import POLICIES
from trimtab.problems.park.view import FEATURES, ParkView, observation
from trimtab.problems.simulated import SimulatedProblem, SimulatedWorld, allowed

SCENARIO: Final = "park"
TRAINING_WARMUP: Final = 64  # jobs that fill the servers: at load 0.9 an empty fleet teaches little


class Park(SimulatedProblem):
    """Send each job to one of ten servers of unequal speed."""

    id = "park"
    features = FEATURES
    policies = POLICIES
    training_metrics = ("mean_latency_ms", "p95_latency_ms", "p99_latency_ms", "gini_coefficient", "optimal_decision_rate")
    evaluation_metrics = METRICS
    rewards = REWARDS
    default_scenario = SCENARIO
    learner_defaults: Mapping[str, Any] = MappingProxyType(
        {
            "anchor": FEATURES.index("price"),
            "average": 0.005,
            "trust": 0.25,  # more gains nothing in the mean and costs the tail
            "discount": 0.85,  # the reward's estimate stands for what lies further ahead
            "tau": 0.02,
            "batch": 512,
            "decisions_per_update": 128,
            # A random server costs a large job a hundred times its time, and the price is a good start.
            "epsilon_start": 0.05,
            "epsilon_end": 0.01,
            "epsilon_decisions": 20_000,
        }
    )
    yardsticks = ("relative-value", "least-completion-time")

    def choices(self, task: Task) -> int:
        _require_known(task.scenario)
        self.require_twin(task)
        return SERVERS

    def scenario_ids(self) -> list[tuple[str, str]]:
        return [
            (
                SCENARIO,
                f"Park's load_balance at its defaults: {SERVERS} servers, {JOBS} jobs of Pareto sizes, load 0.91, first in first out",
            )
        ]

    def observe(self, view: ParkView) -> F32:
        return observation(view)

    def open(self, task: Task) -> World:
        self.choices(task)
        reward = allowed(task.reward, REWARDS, "reward", "--reward")
        return SimulatedWorld(
            SCENARIO,
            "Park's load balancing game, simulated",
            training=lambda decisions, batch: ParkEnv(TRAINING_WARMUP, decisions, batch, reward),
            evaluation=lambda batch: ParkEnv(0, JOBS, batch, reward),
        )


def _require_known(scenario: str) -> None:
    if scenario != SCENARIO:
        raise UsageError(f"unknown scenario {scenario!r} of problem 'park'; allowed: {SCENARIO}; leave --scenario out")

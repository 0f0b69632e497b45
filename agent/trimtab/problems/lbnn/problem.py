"""The placement game as a problem of this testbed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from trimtab.problems.base import F32, Task, World
from trimtab.problems.lbnn.env import LbnnEnv
from trimtab.problems.lbnn.game import GAMES, SERVERS, find_game
from trimtab.problems.lbnn.metrics import METRICS
from trimtab.problems.lbnn.policies import POLICIES
from trimtab.problems.lbnn.view import FEATURES, LbnnView, observation
from trimtab.problems.simulated import SimulatedProblem, SimulatedWorld, allowed

OWN: Final = "own"  # the reward of the scenario's own generation
REWARDS: Final = (OWN, "peak", "balance", "gradient")


class Lbnn(SimulatedProblem):
    """Place each request on one of three servers, where it holds CPU and memory for a known time."""

    id = "lbnn"
    features = FEATURES
    policies = POLICIES
    training_metrics = ("mean_peak", "p95_peak", "frac_over_90", "gini_coefficient", "utilization_std", "optimal_decision_rate")
    evaluation_metrics = METRICS
    rewards = REWARDS
    learner_defaults: Mapping[str, Any] = MappingProxyType(
        {
            "discount": 0.9,  # what a placement does is felt for about ten ticks; further ahead is chance
            "average": 0.001,
            "learning_rate_updates": 4000,
            "batch": 256,
            "decisions_per_update": 64,
            "tau": 0.005,
            # Random placement fills servers as no policy worth learning from does: begin beside a heuristic, with little chance.
            "epsilon_start": 0.1,
            "heuristic_decisions": 100_000,
        }
    )
    default_scenario = GAMES[0].id
    yardsticks: tuple[str, ...] = ()  # there is no latency to show

    def choices(self, task: Task) -> int:
        find_game(task.scenario)
        self.require_twin(task)
        return SERVERS

    def scenario_ids(self) -> list[tuple[str, str]]:
        return [(one.id, one.summary) for one in GAMES]

    def observe(self, view: LbnnView) -> F32:
        return observation(view)

    def open(self, task: Task) -> World:
        self.choices(task)
        game, reward = find_game(task.scenario), allowed(task.reward, REWARDS, "reward", "--reward")
        paid = game.reward if reward == OWN else reward
        return SimulatedWorld(
            game.id,
            f"placement game {game.id}, simulated",
            training=lambda decisions, batch: LbnnEnv(game, paid, game.random_ticks, 0, decisions, batch),
            evaluation=lambda batch: LbnnEnv(game, paid, 0, game.warmup, game.ticks, batch),
        )

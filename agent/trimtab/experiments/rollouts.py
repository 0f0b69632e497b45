"""Training by rollouts: processes play batches of episodes in the twin and try out choices in copies of them; this process learns.

Two batches are under way while one is learned from. Which weights a batch is played with does not depend on how fast they are: those
after the batch before the last one. So a run is the same on every machine, and a resumed one goes on as if nothing had happened.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch

from trimtab.core.tally import Key, Tallies, Tally
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.chance import Uniforms
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.inference import epsilon_greedy_choice
from trimtab.dqn.network import QNetwork, build_network
from trimtab.dqn.rollouts import Rollouts
from trimtab.errors import UsageError
from trimtab.experiments.loop import play
from trimtab.experiments.pool import Workers
from trimtab.experiments.seeding import TRAINING_OFFSET
from trimtab.experiments.train import Row, Stage, Trainer
from trimtab.policies.catalogue import LEARNED
from trimtab.policies.learned import LearnedPolicy
from trimtab.problems import catalogue
from trimtab.problems.base import F32, I64, Branching, Mask, Problem, Task, World

AHEAD: Final = 2  # batches under way
FIRST: Final = 20  # decisions of an episode before choices are tried out: nothing is known of any server yet
_EXPLORE, _MOMENTS = 4, 5  # streams of chance, apart from the agent's under the same seed

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Unit:
    """One batch of episodes to be played, as another process needs it."""

    problem: str
    task: Task
    seed: int
    first: int  # episode, counted from the start of the run
    size: int
    decisions: int
    choices: int
    learner: Mapping[str, Any]
    epsilon: float
    weights: Weights


class Harvest(NamedTuple):
    """What came of it."""

    rollouts: list[Rollouts]
    metrics: list[dict[str, float]]
    tallies: list[tuple[Key, Tally]]


class RolloutTrainer(Trainer):
    """Learns by rollouts in the stages that have a task, and from rewards in the others."""

    def __init__(self, problem: Problem, agent: DQNAgent, seed: int, choices: int, decisions: int | None = None) -> None:
        super().__init__(problem, agent, seed, decisions=decisions)
        self._choices = choices
        self.refresh()

    def refresh(self) -> None:
        self._now = self._before = self._present()

    def state_dict(self) -> dict[str, Any]:
        """What going on needs beside the agent: what the batch under way is played with."""
        return {"epsilon": self._before[0], "weights": {name: torch.from_numpy(one.copy()) for name, one in self._before[1].items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` copied, once the agent is what it was then."""
        self._before = state["epsilon"], {name: one.numpy() for name, one in state["weights"].items()}
        self._now = self._present()

    def require(self, world: World) -> None:
        check_horizon(cast(Branching, world.training_env(self._length(self.episode), 1)), self.agent.config)

    def _stretch(self, stage: Stage) -> Iterator[list[Row]]:
        if stage.task is None:
            yield from super()._stretch(stage)
            return
        with Workers(AHEAD) as workers:
            begun = self.episode
            waiting: deque[Callable[[], Harvest]] = deque()
            for known in (self._before, self._now):
                begun = self._begin(workers, stage, stage.task, begun, known, waiting)
            while waiting:
                started = time.perf_counter()
                rows = self._learn(stage, waiting.popleft()(), started)
                begun = self._begin(workers, stage, stage.task, begun, self._now, waiting)
                yield rows

    def _begin(
        self, workers: Workers, stage: Stage, task: Task, first: int, known: tuple[float, Weights], waiting: deque[Callable[[], Harvest]]
    ) -> int:
        """Have the batch that starts at episode `first` played, if there is one; the episode after it."""
        if first >= stage.last:
            return first
        size, (epsilon, weights) = self._size(first, stage), known
        learner, decisions = self.agent.config.to_dict(), self._length(first)
        unit = Unit(self.problem.id, task, self.seed, first, size, decisions, self._choices, learner, epsilon, weights)
        waiting.append(workers.give(played, unit))
        return first + size

    def _learn(self, stage: Stage, harvest: Harvest, started: float) -> list[Row]:
        for key, tally in harvest.tallies:
            self.tallies.merge(key, tally)
        self.agent.note(harvest.rollouts, self._length(self.episode) * len(harvest.metrics))
        updates = self.agent.study()
        self._before, self._now = self._now, self._present()
        return self._rows(stage, harvest.metrics, updates, time.perf_counter() - started)

    def _present(self) -> tuple[float, Weights]:
        weights = {name: one.detach().cpu().numpy().copy() for name, one in self.agent.policy_network.state_dict().items()}
        return self.agent.epsilon, weights


def played(unit: Unit) -> Harvest:
    """Play a batch with a copy of the network, and try out choices at moments of chance."""
    torch.set_num_threads(1)
    problem, world = _opened(unit.problem, unit.task)
    env = cast(Branching, world.training_env(unit.decisions, unit.size))
    tallies, config = Tallies(), DQNConfig.from_dict(unit.learner)
    env.count_into(tallies, LEARNED)
    player = Player(problem, env, config, _network(config, problem, unit), unit)
    for _ in play(env, player.choose, unit.seed, [TRAINING_OFFSET + unit.first + i for i in range(unit.size)]):
        pass
    env.drain()
    return Harvest(player.rollouts, env.metrics(), list(tallies))


def check_horizon(env: Branching, config: DQNConfig) -> None:
    """Raises UsageError where no moment of an episode that has not begun has so many decisions before it."""
    most, found = env.left - FIRST, config.rollout_horizon
    if found > most:
        allowed = f"allowed: at most {most} in these episodes; make them longer with --decisions"
        raise UsageError(f"learner setting rollout_horizon is {found}; {allowed}")


class Player:
    """Chooses as the network would, now and then by chance, and tries out choices on the way."""

    def __init__(self, problem: Problem, env: Branching, config: DQNConfig, network: QNetwork, unit: Unit) -> None:
        self.rollouts: list[Rollouts] = []
        self._problem, self._env, self._config, self._network = problem, env, config, network
        # The network's own policy, as it would be deployed, decides in copies: so each round improves on what the last one learned. A fixed
        # heuristic would be cheaper, but one that tries unknown servers by itself teaches never to try them now, since it will soon.
        self._policy = LearnedPolicy(LEARNED, network, problem.observe)
        self._epsilon = unit.epsilon
        self._explore = Uniforms(np.random.default_rng([unit.seed, _EXPLORE, unit.first]))
        self._moments = Uniforms(np.random.default_rng([unit.seed, _MOMENTS, unit.first]))
        self._decision = 0

    def choose(self, view: Any) -> I64:
        """A choice of each episode.  # [B]"""
        obs, mask = self._problem.observe(view), np.ascontiguousarray(view.available)
        values, near, _ = self._network.decide(obs, mask)
        if self._decision == 0:
            check_horizon(self._env, self._config)
        if self._decision >= FIRST and self._moments.take(1)[0] < 1.0 / self._config.rollout_every:
            self._try_out(obs, mask, near)
        self._decision += 1
        values = np.where(near, values, np.float32(-np.inf))
        return epsilon_greedy_choice(values, mask, self._epsilon, self._explore.take(len(obs), 2))

    def _try_out(self, obs: F32, mask: Mask, near: Mask) -> None:
        """Of the choices that a greedy decision may take: what the others would lead to is nobody's question."""
        if self._env.left < self._config.rollout_horizon:
            return
        tried = near & (near.sum(axis=1) > 1)[:, None]
        some = tried.any(axis=1)
        if some.any():
            config = self._config
            cost = self._env.costs_of_choices(tried, self._policy, config.rollout_horizon, config.rollout_exponent)
            kept = np.where(tried, cost, 0.0).astype(np.float32)
            self.rollouts.append(Rollouts(obs[some], mask[some], tried[some], kept[some]))


@lru_cache(maxsize=1)
def _opened(problem: str, task: Task) -> tuple[Problem, World]:
    built = catalogue.build(problem)
    return built, built.open(task)


def _network(config: DQNConfig, problem: Problem, unit: Unit) -> QNetwork:
    network = build_network(config, len(problem.features), unit.choices)
    network.load_state_dict({name: torch.from_numpy(one) for name, one in unit.weights.items()})
    return network

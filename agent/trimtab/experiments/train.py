"""Training: batches of episodes in, rows of metrics out; the agent learns on the way. A generator, so that others save and draw."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.core.tally import Tallies
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.learner import UpdateStats
from trimtab.experiments.curriculum import BATCH, batch_at, phase_of
from trimtab.experiments.loop import Moment, play
from trimtab.experiments.seeding import TRAINING_OFFSET, policy_seeds
from trimtab.policies.catalogue import LEARNED
from trimtab.problems.base import F32, I64, BatchEnv, Mask, Policy, Problem, Task, World

Row = dict[str, str | int | float | None]
Seen = tuple[F32, Mask, I64] | tuple[F32, Mask, I64, I64]  # of one decision: observation, open choices, actions, and what is to be cloned


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of training: where, and up to which episode."""

    world: World
    last: int  # episodes, counted from the start of the run, at which the stage ends
    phase: int | None = None  # a number of its own; None: the curriculum's
    task: Task | None = None  # by which other processes open the same world; given where choices are to be tried out there


def training_columns(problem: Problem) -> tuple[str, ...]:
    """Columns of training_metrics.csv, in order."""
    before = ("episode", "phase", "backend", "episode_length", "total_reward", "average_reward")
    return (*before, *problem.training_metrics, "epsilon", "loss", "q_mean", "wall_s")


class Trainer:
    """Plays batches of episodes with a learning agent. Holds nothing between batches but the agent and the episode count."""

    def __init__(self, problem: Problem, agent: DQNAgent, seed: int, heuristic: Policy | None = None, decisions: int | None = None) -> None:
        """`decisions` in every episode; None: the curriculum's."""
        self.problem = problem
        self.agent = agent
        self.seed = seed
        self.episode = 0
        self.tallies = Tallies()  # decisions and outcomes of this process, for whoever watches
        self.world: World | None = None  # where the last batch was played
        agent.require_advice(heuristic is not None)
        self._heuristic = heuristic
        self._decisions = decisions
        self._obs: F32
        self._hint: I64 | None = None  # the heuristic's actions at the present decision
        self._ids: I64 = np.zeros((0, 0), dtype=np.int64)  # [decisions, B] replay's number of each decision of this batch
        self._remembered = 0  # decisions that have one
        self._updates: list[UpdateStats] = []

    def run(self, stages: Sequence[Stage]) -> Iterator[list[Row]]:
        """Rows of one batch of episodes after the other, until the last stage ends. The agent may be saved at every yield."""
        for stage in stages:
            self.world = stage.world
            yield from self._stretch(stage)

    def state_dict(self) -> dict[str, Any]:
        """What going on needs beside the agent and the number of episodes."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` copied, once the agent is what it was then."""

    def refresh(self) -> None:
        """Take note of an agent that begins with other weights than it was made with."""

    def require(self, world: World) -> None:
        """Raises UsageError where this trainer cannot learn in that simulation."""

    def _stretch(self, stage: Stage) -> Iterator[list[Row]]:
        while self.episode < stage.last:
            yield self._batch(stage)

    def _length(self, episode: int) -> int:
        """Decisions of that episode."""
        return self._decisions or phase_of(episode)[1].decisions

    def _size(self, episode: int, stage: Stage) -> int:
        """Episodes in the batch that starts at this one."""
        return batch_at(episode, stage.last, BATCH)

    def _batch(self, stage: Stage) -> list[Row]:
        started = time.perf_counter()
        decisions = self._length(self.episode)
        wanted = self._size(self.episode, stage)
        env = stage.world.training_env(decisions, wanted)
        first, size = self.episode, min(wanted, env.batch)
        self._ids = np.empty((decisions, size), dtype=np.int64)
        self._play(env, [TRAINING_OFFSET + first + i for i in range(size)])
        return self._rows(stage, env.metrics(), self._updates, time.perf_counter() - started)

    def _rows(self, stage: Stage, measured: Sequence[Mapping[str, float]], updates: Sequence[UpdateStats], elapsed_s: float) -> list[Row]:
        """Rows of the batch that has just been played and learned from, which is counted by this."""
        first = self.episode
        self.episode += len(measured)
        shared: Row = {
            "phase": stage.phase or phase_of(first)[0],
            "backend": stage.world.backend,
            "episode_length": self._length(first),
            "epsilon": self.agent.epsilon,
            "loss": mean([one.loss for one in updates]),
            "q_mean": mean([one.q_mean for one in updates]),
            "wall_s": elapsed_s / len(measured),
        }
        return [{"episode": first + i + 1, **shared, **metrics} for i, metrics in enumerate(measured)]

    def _play(self, env: BatchEnv, episodes: Sequence[int]) -> None:
        self._remembered, self._updates = 0, []
        if self._heuristic is not None:
            self._heuristic.reset(policy_seeds(self.seed, episodes))
        self.agent.begin(len(episodes))
        env.count_into(self.tallies, LEARNED)
        seen: list[Seen] = []
        for moment in play(env, self._choose, self.seed, episodes):
            if moment.number >= 0:
                seen.append(self._seen(moment))
            if not env.realtime:  # live, remembering and learning wait for the end: in between they would make requests late
                self._remember(seen)
                self._credit(env)
                self._updates += self.agent.learn()
        closing = env.closing()
        self._remember(seen)
        self.agent.finish(self.problem.observe(closing), _open(closing))
        env.drain()
        self._credit(env)
        self._updates += self.agent.learn()

    def _seen(self, moment: Moment) -> Seen:
        known = self._obs, _open(moment.view), moment.actions
        return known if self._hint is None or self.agent.config.cloning == 0 else (*known, self._hint)

    def _remember(self, seen: list[Seen]) -> None:
        for decision in seen:
            self._ids[self._remembered] = self.agent.observe(*decision)
            self._remembered += 1
        seen.clear()

    def _choose(self, view: Any) -> I64:
        self._obs = self.problem.observe(view)
        self._hint = None if self._heuristic is None else self._heuristic.select(view)
        return self.agent.act(self._obs, _open(view), explore=True, heuristic_actions=self._hint)

    def _credit(self, env: BatchEnv) -> None:
        credits = env.credits()
        if credits.reward.size:
            self.agent.credit(self._ids[credits.decision, credits.episode], credits.reward, credits.valid)


def _open(view: Any) -> Mask:
    return np.ascontiguousarray(view.available)


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return float(np.mean(values)) if values else None

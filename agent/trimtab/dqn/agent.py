"""The agent: acts, remembers, learns. Glue between network, replay and learner; the environment's loop calls it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trimtab.dqn.chance import Uniforms, generator_state, restore_generator
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.inference import epsilon_greedy_choice
from trimtab.dqn.learner import Learner, UpdateStats
from trimtab.dqn.network import QNetwork, q_values, rehearse
from trimtab.dqn.replay import Batch
from trimtab.dqn.rollouts import RolloutBatch, RolloutMemory, Rollouts
from trimtab.dqn.schedule import linear, updates_scheduled
from trimtab.dqn.shelf import Shelf
from trimtab.dqn.targets import heuristic_bonus
from trimtab.errors import CheckpointError, UsageError

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

_EXPLORE, _SAMPLE, _STUDY = 1, 2, 3  # streams of chance under one seed; the weights use the seed itself


class DQNAgent:
    """Learns from B parallel streams of decisions over S servers with F features each; with a `set` network S may change between episodes.

    Per episode: `begin(B)`; per step `act`, `observe`, and whenever rewards arrive `credit`; `learn` whenever convenient; `finish`. What it
    does depends on its arguments, its seed and the number of threads only.
    """

    def __init__(self, config: DQNConfig, features: int, servers: int, seed: int, device: str | torch.device = "cpu") -> None:
        self.config = config
        self.decisions = 0  # that were learned from, in either way
        self.rollouts = 0  # taken
        self._rewarded = 0  # of the decisions, those remembered for their rewards
        self._rewarded_updates = 0
        self._studied = 0  # gradient steps on rollouts alone
        self._shape = {"features": features, "servers": servers}
        self._learner = Learner(config, features, servers, seed, device)
        self._replay = Shelf(config.replay_capacity, servers, features, device, advised=config.cloning > 0)
        self._tried = RolloutMemory(config.rollout_capacity, servers, features)
        self._explore = Uniforms(np.random.default_rng([seed, _EXPLORE]))
        self._sample_rng = np.random.default_rng([seed, _SAMPLE])
        self._study_rng = np.random.default_rng([seed, _STUDY])
        rehearse(self.policy_network, servers, features)

    @property
    def updates(self) -> int:
        """Gradient steps made."""
        return self._learner.updates

    @property
    def replay_fill(self) -> float:
        """Part of the memory that is filled: of rollouts, as long as nothing is learned from rewards."""
        return self._replay.fill if self._rewarded else self._tried.fill

    @property
    def epsilon(self) -> float:
        """Share of random decisions now."""
        c = self.config
        return linear(c.epsilon_start, c.epsilon_end, c.epsilon_decisions, self.decisions)

    @property
    def heuristic_weight(self) -> float:
        """xi now."""
        return self._faded(self.config.heuristic_weight)

    @property
    def cloning_weight(self) -> float:
        """Weight of the loss that pulls towards the heuristic's action now."""
        return self._faded(self.config.cloning)

    @property
    def policy_network(self) -> QNetwork:
        """The network of the greedy policy: the averaged one, or the online one where nothing is averaged; live, not a copy."""
        return self._learner.greedy

    @property
    def optimizer_state(self) -> dict[str, Any]:
        """A copy of the optimiser's state, for a checkpoint."""
        optimizer: dict[str, Any] = self._learner.state_dict()["optimizer"]
        return optimizer

    def adopt(self, network: QNetwork) -> None:
        """Begin with the weights of a trained network. Raises CheckpointError where its shape is another."""
        self._learner.adopt(network)

    def act(self, obs: F32, mask: Bool, explore: bool, heuristic_actions: I64 | None = None) -> I64:
        """Choose a server per stream: obs [B, S, F], mask [B, S] with at least one True in each row -> [B] int64.

        With `explore`, greedy on Q, plus xi H where `heuristic_actions` [B] are given, but for a share epsilon that is uniform over
        available servers. Without, what a deployed policy would do: the averaged network where there is one, cautious where anchored.
        """
        if not explore:
            return self.policy_network.decide(obs, mask)[2]
        q = self._values(obs, mask, heuristic_actions)
        return epsilon_greedy_choice(q, mask, self.epsilon, self._explore.take(len(q), 2))

    def begin(self, streams: int) -> None:
        """Start one fresh episode in each of `streams` streams."""
        self._replay.begin(streams)

    def require_advice(self, given: bool) -> None:
        """Raises UsageError where actions are to be cloned and no heuristic is there to give them."""
        if self.config.cloning > 0 and not given:
            found = f"learner setting cloning is {self.config.cloning:g} and there is no heuristic to clone"
            raise UsageError(f"{found}; name one with --heuristic, or leave cloning at 0")

    def observe(self, obs: F32, mask: Bool, actions: I64, heuristic_actions: I64 | None = None) -> I64:
        """Remember one decision per stream, and return their ids [B] int64, under which `credit` delivers the rewards.

        `heuristic_actions` [B], -1 where there is none, are what is cloned. Raises UsageError where that is wanted and they are missing.
        """
        self.require_advice(heuristic_actions is not None)
        self.decisions += len(actions)
        self._rewarded += len(actions)
        return self._replay.add(obs, mask, actions, heuristic_actions)

    def credit(self, ids: I64, rewards: npt.NDArray[np.floating[Any]], valid: Bool) -> None:
        """Deliver rewards [N] that have arrived, in any order; not `valid`: the outcome cannot be measured. Errors: see `Replay.credit`."""
        clip = self.config.reward_clip
        values = rewards if clip is None else np.clip(rewards, -clip, clip)
        self._replay.credit(ids, values.astype(np.float32, copy=False), valid)

    def finish(self, obs: F32, mask: Bool, terminated: Bool | None = None) -> None:
        """End the episodes with their closing observations, [B, S, F] and [B, S]. Rewards may still arrive afterwards."""
        self._replay.finish(obs, mask, terminated)

    def updates_due(self) -> int:
        """Gradient steps earned by decisions and not yet made; 0 while replay holds less than a batch."""
        c = self.config
        due = updates_scheduled(self._rewarded, c.learn_start, c.decisions_per_update) - self._rewarded_updates
        return due if due > 0 and self._replay.ready(c.batch, c.n_step) else 0

    def learn(self, max_updates: int | None = None) -> list[UpdateStats]:
        """Make the gradient steps that are due, at most `max_updates`; the rest stays due. Raises LearningError on divergence."""
        due = self.updates_due()
        return [self._update() for _ in range(due if max_updates is None else min(due, max_updates))]

    def note(self, tried: Sequence[Rollouts], decisions: int) -> None:
        """Take the rollouts of episodes in which `decisions` were made by a copy of the policy network."""
        for rollouts in tried:
            self._tried.add(rollouts)
            self.rollouts += len(rollouts.obs)
        self.decisions += decisions

    def study(self) -> list[UpdateStats]:
        """Make the gradient steps that rollouts have earned. Raises LearningError on divergence."""
        due = self.rollouts // self.config.rollouts_per_update - self._studied if self._can_study else 0
        self._studied += due
        return [self._learner.study(self._sample_rollouts()) for _ in range(due)]

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything that an identical continuation needs, in types that a weights-only load accepts."""
        return {
            "config": self.config.to_dict(),
            "shape": dict(self._shape),
            "decisions": self.decisions,
            "learner": self._learner.state_dict(),
            "replay": self._replay.state_dict(),
            "explore": self._explore.state_dict(),
            "sample_rng": generator_state(self._sample_rng),
            "tried": self._tried.state_dict(),
            "study_rng": generator_state(self._study_rng),
            "counts": [self.rollouts, self._rewarded, self._rewarded_updates, self._studied],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what `state_dict` copied. Raises CheckpointError where settings or shapes differ."""
        found = {**DQNConfig.from_dict(state["config"]).to_dict(), **state["shape"]}  # an older one lacks settings that came later
        for key, own in {**self.config.to_dict(), **self._shape}.items():
            stored = found.get(key)
            if stored != own:
                raise CheckpointError(f"stored run has {key} = {stored!r}, this one {own!r}; resume with the settings it started with")
        self._learner.load_state_dict(state["learner"])
        self._replay.load_state_dict(state["replay"])
        self.decisions = state["decisions"]
        self._explore.load_state_dict(state["explore"])
        restore_generator(self._sample_rng, state["sample_rng"])
        self._tried.load_state_dict(state["tried"])
        restore_generator(self._study_rng, state["study_rng"])
        self.rollouts, self._rewarded, self._rewarded_updates, self._studied = state["counts"]

    def _faded(self, weight: float) -> float:
        """What is left of a weight that falls to 0 over `heuristic_decisions`."""
        span = self.config.heuristic_decisions
        return linear(weight, 0.0, span, self.decisions) if span else weight

    def _values(self, obs: F32, mask: Bool, heuristic_actions: I64 | None) -> F32:
        q = q_values(self._learner.online, obs, mask)
        if heuristic_actions is not None:
            bonus = heuristic_bonus(q, torch.from_numpy(mask), torch.from_numpy(heuristic_actions), self.config.heuristic_margin)
            q = q + self.heuristic_weight * bonus
        values: F32 = q.numpy()
        return values

    def _update(self) -> UpdateStats:
        rollouts = self._sample_rollouts() if self._can_study else None
        self._rewarded_updates += 1
        return self._learner.update(self._sample(), self.cloning_weight, rollouts)

    @property
    def _can_study(self) -> bool:
        return len(self._tried) >= min(self.config.batch, self.config.rollout_capacity)

    def _sample_rollouts(self) -> RolloutBatch:
        return self._tried.sample(self._study_rng, self.config.batch, self.policy_network.device)

    def _sample(self) -> Batch:
        c = self.config
        return self._replay.sample(self._sample_rng, c.batch, c.n_step, c.discount)

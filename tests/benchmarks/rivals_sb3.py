"""Stable-Baselines3 on the routing environment: the algorithms compared, their training against a clock, a trained one as a policy."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rivals_training import Readings
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from trimtab.core.observation import observation
from trimtab.errors import UsageError
from trimtab.problems.routing.gym_env import RoutingVectorEnv

THREADS = 1  # of torch: networks of this size are slower on two
ENDLESS = 10**12  # decisions: the clock ends the training


@dataclass(frozen=True)
class Rival:
    """An algorithm and what is changed of its defaults."""

    name: str
    algorithm: type[BaseAlgorithm]
    envs: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """What differs from the defaults, in a line."""
        changes = [f"{key}={value}" for key, value in self.changes.items()]
        return ", ".join([f"{self.envs} environments", *changes]) if self.envs > 1 or changes else "defaults"


# The defaults are those of Atari (PPO's of simulated robots): one environment, batches of 32 or 64, a horizon of a hundred decisions, a
# target that is copied every 10,000, and 200 quantiles, whose loss takes some ten times as long as the rest. The tuned ones have as many
# environments as make a decision cheap, this project's horizon, n-step return and step size, and a gradient step for 64 decisions (four
# after four steps of 64 environments). Trials of 20 s on compose-default with twice the steps, other step sizes and horizons came out
# alike.
_TUNED_Q: Mapping[str, Any] = {
    "learning_rate": 5e-4,
    "buffer_size": 200_000,
    "learning_starts": 4096,
    "batch_size": 512,
    "gamma": 0.95,
    "n_steps": 3,
    "train_freq": 4,
    "gradient_steps": 4,
    "target_update_interval": 256,
    "tau": 0.05,
    "exploration_fraction": 0.3,
    "exploration_final_eps": 0.02,
}
_TUNED_PPO: Mapping[str, Any] = {"n_steps": 64, "batch_size": 512, "n_epochs": 10, "gamma": 0.95}

RIVALS: Sequence[Rival] = (
    Rival("sb3-dqn", DQN),
    Rival("sb3-dqn-tuned", DQN, 64, _TUNED_Q),
    Rival("sb3-qrdqn", QRDQN),
    Rival("sb3-qrdqn-tuned", QRDQN, 64, _TUNED_Q | {"policy_kwargs": {"n_quantiles": 25}}),
    Rival("sb3-ppo", PPO),
    Rival("sb3-ppo-tuned", PPO, 64, _TUNED_PPO),
)


class RoutingVecEnv(VecEnv):
    """The vector environment as SB3 wants it: the first observations of new episodes come with the end of the old ones.

    With one environment it is faster than SB3's own DummyVecEnv around the single one, so every rival gets it.
    """

    def __init__(self, envs: RoutingVectorEnv) -> None:
        self._envs = envs
        self._actions = np.zeros(envs.num_envs, dtype=np.int64)
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> np.ndarray:
        seed = self._seeds[0]
        self._reset_seeds()
        return self._envs.reset(seed=seed)[0]

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, rewards, _, truncated, _ = self._envs.step(self._actions)
        if not truncated[0]:
            return obs, rewards, truncated, [{} for _ in range(self.num_envs)]
        # All episodes end together, by truncation: learners go on from the last observation's value.
        infos = [{"terminal_observation": one, "TimeLimit.truncated": True} for one in obs]
        return self._envs.reset()[0], rewards, truncated, infos

    def close(self) -> None:
        self._envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self._envs, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError(f"{attr_name}: the environments share everything")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise NotImplementedError(f"{method_name}: the environments are not objects of their own")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


class Sb3Policy:
    """A trained SB3 policy, greedy, as a routing policy. Raises UsageError where a server is out: it has no notion of a mask."""

    def __init__(self, name: str, policy: BasePolicy) -> None:
        self.name = name
        self._policy = policy

    def reset(self, seeds: np.ndarray) -> None:
        """Nothing to forget."""

    def select(self, view: Any) -> np.ndarray:
        if not view.available.all():
            raise UsageError(f"{self.name} has no action mask, and a server is out; choose a scenario in which none leaves or joins")
        rows = observation(view)
        actions, _ = self._policy.predict(rows.reshape(len(rows), -1), deterministic=True)
        return actions.astype(np.int64)


class _Clock(BaseCallback):
    """Looks at the clock after every step, and counts gradient steps where they happen: algorithms count differently."""

    def __init__(self, name: str, readings: Readings) -> None:
        super().__init__()
        self.gradient_steps = 0
        self._name, self._readings = name, readings

    def count(self, *_: Any) -> None:
        self.gradient_steps += 1

    def _on_step(self) -> bool:
        return self._readings.look(self.num_timesteps, self.gradient_steps, self._greedy)

    def _greedy(self) -> Sb3Policy:
        return Sb3Policy(self._name, copy.deepcopy(self.model.policy))


def train_rival(rival: Rival, scenario: str, seed: int, readings: Readings) -> None:
    """Train until the last reading is taken."""
    torch.set_num_threads(THREADS)
    env = RoutingVecEnv(RoutingVectorEnv(rival.envs, scenario))
    clock = _Clock(rival.name, readings)
    try:
        model = rival.algorithm("MlpPolicy", env, seed=seed, device="cpu", **rival.changes)
        model.policy.optimizer.register_step_post_hook(clock.count)
        _explore_by_the_clock(model, readings)
        with readings:
            model.learn(ENDLESS, callback=clock, log_interval=None)
    finally:
        env.close()


def _explore_by_the_clock(model: Any, readings: Readings) -> None:
    """Let chance fade over the algorithm's own share of the wall-clock: SB3 asks for a number of decisions, which nobody knows before."""
    if hasattr(model, "exploration_schedule"):
        fading = LinearSchedule(model.exploration_initial_eps, model.exploration_final_eps, model.exploration_fraction)
        model.exploration_schedule = lambda _: fading(1.0 - readings.share)

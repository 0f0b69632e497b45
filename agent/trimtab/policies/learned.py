"""A trained network as a policy: the object that training evaluates is the one that is deployed."""

from pathlib import Path

import numpy as np

from trimtab.core.observation import F32, FEATURES, observation
from trimtab.core.request_log import I64
from trimtab.dqn.checkpoint import load_checkpoint, load_network
from trimtab.dqn.inference import greedy_choice
from trimtab.dqn.network import QNetwork, q_values, rehearse
from trimtab.policies.base import RoutingView


class LearnedPolicy:
    """Greedy in the network's Q-values. Has no chance of its own, so `reset` has nothing to do.

    `seen` [B, S, F] and `q` [B, S] are the observation and the Q-values of the last `select`, for whoever guards or shows it.
    """

    def __init__(self, name: str, network: QNetwork) -> None:
        self.name = name
        self.seen: F32 = np.zeros((0, 0, len(FEATURES)), dtype=np.float32)
        self.q: F32 = np.zeros((0, 0), dtype=np.float32)
        self._network = network

    def reset(self, seeds: I64) -> None:
        """Nothing to forget."""

    def select(self, view: RoutingView) -> I64:
        available = np.ascontiguousarray(view.available)
        self.seen = observation(view)
        self.q = q_values(self._network, self.seen, available).numpy()
        return greedy_choice(self.q, available)


def load_policy(path: Path, problem: str, servers: int, name: str = "dqn", device: str = "cpu") -> LearnedPolicy:
    """The policy of a checkpoint, for fleets of `servers`. Raises `CheckpointError` where it was made for something else."""
    checkpoint = load_checkpoint(path, problem=problem, observation=FEATURES)
    network = load_network(checkpoint, servers, device)
    rehearse(network, servers, len(FEATURES))
    return LearnedPolicy(name, network)

"""A trained network as a policy: the object that training evaluates is the one that is deployed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from trimtab.core.observation import F32, FEATURES, observation
from trimtab.core.request_log import I64
from trimtab.dqn.checkpoint import load_checkpoint, load_network
from trimtab.dqn.network import QNetwork, rehearse

Mask = npt.NDArray[np.bool_]
Observe = Callable[[Any], F32]  # a view of the problem -> [B, S, F]
ROUTING: Final[Observe] = observation


class LearnedPolicy:
    """Greedy in the network's Q-values. Has no chance of its own, so `reset` has nothing to do.

    `seen` [B, S, F], `q` [B, S] and `candidates` [B, S] are the observation, the Q-values and the servers that were chosen among in the
    last `select`, for whoever guards or shows it.
    """

    def __init__(self, name: str, network: QNetwork, observe: Observe = ROUTING) -> None:
        self.name = name
        self.seen: F32 = np.zeros((0, 0, 0), dtype=np.float32)
        self.q: F32 = np.zeros((0, 0), dtype=np.float32)
        self.candidates: Mask = np.zeros((0, 0), dtype=np.bool_)
        self._network = network
        self._observe = observe

    @property
    def is_finite(self) -> bool:
        """Whether every weight is a number: a few that are not may hide behind a rectifier until the wrong moment."""
        return all(bool(one.isfinite().all()) for one in self._network.parameters())

    def reset(self, seeds: I64) -> None:
        """Nothing to forget."""

    def select(self, view: Any) -> I64:
        available = np.ascontiguousarray(view.available)
        self.seen = self._observe(view)
        self.q, self.candidates, chosen = self._network.decide(self.seen, available)
        return chosen


def use_one_thread() -> None:
    """Keep torch's forward passes to one thread: threads of several processes would only wait for each other's cores."""
    torch.set_num_threads(1)


def load_policy(
    path: Path,
    problem: str,
    servers: int,
    name: str = "dqn",
    device: str = "cpu",
    *,
    features: tuple[str, ...] = FEATURES,
    observe: Observe = ROUTING,
) -> LearnedPolicy:
    """The policy of a checkpoint, for decisions among `servers`. Raises `CheckpointError` where it was made for something else.

    `features` and `observe` are the problem's own; left out, those of routing.
    """
    checkpoint = load_checkpoint(path, problem=problem, observation=features)
    network = load_network(checkpoint, servers, device)
    rehearse(network, servers, len(features))
    return LearnedPolicy(name, network, observe)

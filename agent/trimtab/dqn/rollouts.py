"""Rollouts: what each of several choices in a state cost, measured in copies of a simulation that play on from there.

The present policy decides in the copies, on the same requests in all of them (Tesauro and Galperin 1996; common random numbers as in the
vine procedure of Schulman et al. 2015), and the network learns the differences: a step of policy improvement. A reward
tells what one choice was followed by, with all the luck of its moment, so rollouts teach in a minute what rewards do not in ten
(docs/results.md). They say nothing of the value of a state, and they need a world that can be copied, which live servers cannot.
"""

from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from trimtab.dqn.anchor import cost_scale
from trimtab.errors import CheckpointError

F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

LINEAR_BEYOND: Final = 1.0  # of the error, in the scale of the state: one copy in a hundred meets a queue that another just missed


class Rollouts(NamedTuple):
    """Of N states with S choices of F features each."""

    obs: F32  # [N, S, F]
    mask: Bool  # [N, S] open choices
    tried: Bool  # [N, S] at least two of them
    cost: F32  # [N, S] of this decision and those that followed, in units of the reward; anything where not tried


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """The same as tensors on the learner's device."""

    obs: Tensor
    mask: Tensor
    tried: Tensor
    cost: Tensor

    def split(self, parts: int) -> list["RolloutBatch"]:
        """The batch in `parts` runs of rows, as even as can be."""
        columns = [torch.tensor_split(getattr(self, one.name), parts) for one in fields(self)]
        return [RolloutBatch(*row) for row in zip(*columns, strict=True)]


def advantage_loss(q: Tensor, batch: RolloutBatch, anchor: int) -> Tensor:
    """How far the differences between the tried choices' values are from those of minus their costs.  # q [B, S] -> []

    Huber's loss, in the scale of the state as the TD error is. Both sides are taken from their mean over the tried choices: what all of
    them have in common is the state's, and rollouts say nothing of it.
    """
    scale = cost_scale(torch.expm1(batch.obs[..., anchor]), batch.mask) if anchor >= 0 else torch.ones_like(q[:, :1])  # [B, 1]
    found, wanted = _differences(q, batch.tried), _differences(-batch.cost, batch.tried)
    loss = functional.huber_loss(found / scale, wanted / scale, reduction="none", delta=LINEAR_BEYOND)
    return (loss * batch.tried).sum() / batch.tried.sum().clamp(min=1)


def _differences(values: Tensor, tried: Tensor) -> Tensor:
    """Values less their mean over the tried choices, 0 where not tried.  # [B, S]"""
    kept = values.masked_fill(~tried, 0.0)
    # Clamped: where nothing was tried, the gradient of 0/0 is not a number, masked or not.
    return (kept - kept.sum(dim=1, keepdim=True) / tried.sum(dim=1, keepdim=True).clamp(min=1)).masked_fill(~tried, 0.0)


class RolloutMemory:
    """The last `capacity` rollouts, in a ring for every number of choices; rings of larger fleets are shorter, none takes more memory."""

    def __init__(self, capacity: int, servers: int, features: int) -> None:
        self._capacity, self._first, self._features = capacity, servers, features
        self._rings: dict[int, Rollouts] = {}
        self._taken: dict[int, int] = {}  # rollouts ever written, by number of choices

    def __len__(self) -> int:
        # Lists, since a page of metrics may ask while another ring is made.
        return sum(min(taken, len(self._rings[servers].obs)) for servers, taken in list(self._taken.items()))

    @property
    def fill(self) -> float:
        """Part of the rows that is filled, over all rings."""
        return len(self) / max(1, sum(len(ring.obs) for ring in list(self._rings.values())))

    def add(self, rollouts: Rollouts) -> None:
        """Keep these, in place of the oldest of their size."""
        servers = rollouts.obs.shape[1]
        ring = self._ring(servers)
        room = len(ring.obs)
        places = (self._taken[servers] + np.arange(len(rollouts.obs))[-room:]) % room
        for kept, new in zip(ring, rollouts, strict=True):
            kept[places] = new[-room:]
        self._taken[servers] += len(rollouts.obs)

    def sample(self, rng: np.random.Generator, batch: int, device: torch.device) -> RolloutBatch:
        """`batch` rollouts of one size, uniformly, with replacement; sizes in proportion to the rollouts they hold."""
        sizes = sorted(self._rings)
        held = np.array([min(self._taken[one], len(self._rings[one].obs)) for one in sizes])
        place = int(rng.choice(len(sizes), p=held / held.sum())) if len(sizes) > 1 else 0
        rows = rng.integers(held[place], size=batch)
        return RolloutBatch(*(torch.from_numpy(column[rows]).to(device) for column in self._rings[sizes[place]]))

    def state_dict(self) -> dict[int, Any]:
        """A copy of everything, by number of choices."""
        return {servers: self._stored(servers) for servers in self._rings}

    def load_state_dict(self, state: dict[int, Any]) -> None:
        """Become what `state_dict` copied. Raises CheckpointError where shapes differ."""
        for servers, stored in state.items():
            columns = [one.numpy() for one in stored["rows"]]
            ring = self._ring(servers)
            if columns[0].shape[1:] != ring.obs.shape[1:] or len(columns[0]) != min(stored["taken"], len(ring.obs)):
                raise CheckpointError(f"stored rollouts are {columns[0].shape}, this run keeps {ring.obs.shape}; resume with its settings")
            for kept, old in zip(ring, columns, strict=True):
                kept[: len(old)] = old
            self._taken[servers] = stored["taken"]

    def _stored(self, servers: int) -> dict[str, Any]:
        filled = min(self._taken[servers], len(self._rings[servers].obs))
        return {"taken": self._taken[servers], "rows": [torch.from_numpy(column[:filled].copy()) for column in self._rings[servers]]}

    def _ring(self, servers: int) -> Rollouts:
        if servers not in self._rings:
            rows = max(2, min(self._capacity, self._capacity * self._first // servers))
            pair = (rows, servers)
            obs = np.zeros((*pair, self._features), dtype=np.float32)
            self._rings[servers] = Rollouts(obs, np.zeros(pair, np.bool_), np.zeros(pair, np.bool_), np.zeros(pair, np.float32))
            self._taken[servers] = 0
        return self._rings[servers]

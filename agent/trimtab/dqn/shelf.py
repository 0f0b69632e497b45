"""Replays by number of choices: one network learns from fleets of different sizes, a batch of one size at a time."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trimtab.dqn.errors import LearningError
from trimtab.dqn.replay import F32, I64, Batch, Bool, Replay


class Shelf:
    """A `Replay` for every number of choices that was met. Episodes that run side by side have equally many.

    Larger fleets get fewer rows, so that no replay takes more memory than the first.
    """

    def __init__(self, capacity: int, servers: int, features: int, device: str | torch.device = "cpu", *, advised: bool = False) -> None:
        self.capacity = capacity
        self._first, self._features, self._device, self._advised = servers, features, device, advised
        self._replays = {servers: self._make(servers)}
        self._open = self._replays[servers]  # where the present episodes go
        self._streams = 0  # of episodes that have begun and made no decision yet

    def __len__(self) -> int:
        return sum(len(one) for one in self._replays.values())

    @property
    def fill(self) -> float:
        """Part of the rows that is filled, over all replays."""
        return len(self) / sum(one.capacity for one in self._replays.values())

    def begin(self, streams: int) -> None:
        """Start `streams` fresh episodes; how many choices they have is seen at their first decision."""
        self._open.begin(streams)
        self._streams = streams

    def add(self, obs: F32, mask: Bool, actions: I64, advice: I64 | None = None) -> I64:
        """See `Replay.add`."""
        self._settle(obs)
        return self._open.add(obs, mask, actions, advice)

    def credit(self, ids: I64, rewards: F32, valid: Bool) -> None:
        """See `Replay.credit`; of the present episodes, or those that finished last."""
        self._open.credit(ids, rewards, valid)

    def finish(self, obs: F32, mask: Bool, terminated: Bool | None) -> None:
        """See `Replay.finish`."""
        self._settle(obs)
        self._open.finish(obs, mask, terminated)

    def ready(self, rows: int, n_step: int) -> bool:
        """Whether `sample` has so many different windows in some replay."""
        return any(one.ready(rows, n_step) for one in self._replays.values())

    def sample(self, rng: np.random.Generator, batch: int, n_step: int, discount: float) -> Batch:
        """A batch of one size, drawn in proportion to the rows that each size holds."""
        if len(self._replays) == 1:
            return self._open.sample(rng, batch, n_step, discount)
        ready = [one for one in self._replays.values() if one.ready(batch, n_step)]
        rows = np.array([len(one) for one in ready], dtype=np.float64)
        return ready[rng.choice(len(ready), p=rows / rows.sum())].sample(rng, batch, n_step, discount)

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything, by number of choices."""
        opened = next(servers for servers, one in self._replays.items() if one is self._open)
        return {"open": opened, "replays": {servers: one.state_dict() for servers, one in self._replays.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what `state_dict` copied. Raises CheckpointError where capacity or shapes differ."""
        for servers, stored in state["replays"].items():
            self._of(servers).load_state_dict(stored)
        self._open, self._streams = self._replays[state["open"]], 0

    def _settle(self, obs: npt.NDArray[np.float32]) -> None:
        servers = obs.shape[1]
        if self._streams and self._replays.get(servers) is not self._open:
            self._open.begin(0)
            self._open = self._of(servers)
            self._open.begin(self._streams)
        if self._replays.get(servers) is not self._open:
            raise LearningError(f"a decision among {servers} choices in episodes that began with another number; call begin first")
        self._streams = 0

    def _of(self, servers: int) -> Replay:
        if servers not in self._replays:
            self._replays[servers] = self._make(servers)
        return self._replays[servers]

    def _make(self, servers: int) -> Replay:
        rows = min(self.capacity, self.capacity * self._first // servers)
        return Replay(max(rows, 2), servers, self._features, self._device, advised=self._advised)

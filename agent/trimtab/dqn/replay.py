"""Replay for rewards that come late.

Decisions enter when they are made, rewards when the requests complete. A row is sampled only when its id lies below the oldest decision
that still waits, the watermark; otherwise short answers, which arrive first, would be learned from more often than long ones.

Bookkeeping lies in numpy on the CPU, where index arithmetic on a thousand rows costs microseconds; observations and masks lie on `device`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trimtab.dqn.errors import LearningError
from trimtab.errors import CheckpointError, UsageError

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

_EMPTY, _PENDING, _CREDITED, _DROPPED, _CLOSING = range(5)
_NONE = -1  # no such row
NO_ADVICE = -1  # no action was advised
_SCAN = 2048  # rows looked at per step when the watermark moves or rows are counted
_ROUNDS = 16  # rejection rounds before all rows are looked at; reached only where fewer than one window in ten is whole


@dataclass(frozen=True, slots=True)
class Batch:
    """N windows of up to n decisions each, on the replay's device."""

    obs: Tensor  # [N, S, F] float32
    mask: Tensor  # [N, S] bool
    action: Tensor  # [N] int64
    reward: Tensor  # [N] float32, discounted sum over the window
    discount: Tensor  # [N] float32, what the bootstrap value is multiplied by: gamma^m, 0 after a true end
    next_obs: Tensor  # [N, S, F] float32, at the end of the window
    next_mask: Tensor  # [N, S] bool
    advice: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))  # [N] the heuristic's action, or -1; [0]: not kept

    def split(self, parts: int) -> list["Batch"]:
        """The batch in `parts` runs of rows, as even as can be."""
        columns = [torch.tensor_split(getattr(self, one.name), parts) for one in fields(self)]
        return [Batch(*row) for row in zip(*columns, strict=True)]


@dataclass(frozen=True, slots=True)
class _Windows:
    whole: Bool  # [N] every reward is known and the bootstrap row exists
    reward: F32  # [N]
    discount: F32  # [N]
    end: I64  # [N] id of the bootstrap row


class Replay:
    """A ring of decisions from B parallel streams, with fixed servers S and features F.

    Per episode: `begin(B)`, then `add` once per step for all streams, then `finish`. `credit` may come at any time and in any order, also
    after `finish`. Ids count up forever; row id lies in slot id % capacity, so that ids older than the ring are recognised and ignored.
    """

    def __init__(self, capacity: int, servers: int, features: int, device: str | torch.device = "cpu", *, advised: bool = False) -> None:
        """`advised`: keep the heuristic's action beside each decision."""
        self.capacity = capacity
        self._obs = torch.zeros(capacity, servers, features, device=device)
        self._mask = torch.zeros(capacity, servers, dtype=torch.bool, device=device)
        self._action = np.zeros(capacity, np.int64)
        self._advice = np.full(capacity if advised else 0, NO_ADVICE, np.int64)
        self._reward = np.zeros(capacity, np.float32)
        # 1, or 0 for the last decision before a true end. Discounting by elapsed time needs only another value here.
        self._continuation = np.ones(capacity, np.float32)
        self._status = np.full(capacity, _EMPTY, np.uint8)
        self._following = np.full(capacity, _NONE, np.int64)  # id of the same stream's next row
        self._last = np.empty(0, np.int64)  # [B] id of each open stream's newest row
        self._next_id = 0
        self._watermark = 0

    def __len__(self) -> int:
        return min(self._next_id, self.capacity)

    @property
    def watermark(self) -> int:
        """Id of the oldest decision that waits for its reward; the next id where none waits. Rows below it may be sampled."""
        self._advance()
        return self._watermark

    def begin(self, streams: int) -> None:
        """Start `streams` fresh episodes. Decisions of an unfinished one before stay, except those that lack a whole window."""
        if 2 * streams > self.capacity:
            raise UsageError(f"replay_capacity is {self.capacity}; allowed with {streams} parallel streams: at least {2 * streams}")
        self._last = np.full(streams, _NONE, np.int64)

    def add(self, obs: F32, mask: Bool, actions: I64, advice: I64 | None = None) -> I64:
        """Store one decision per stream: obs [B, S, F], mask [B, S], actions [B]. Returns their ids, [B] int64.

        `advice` [B]: the heuristic's actions, -1 where it has none; forgotten by a replay that is not `advised`.
        """
        ids = self._append(obs, mask, _PENDING)
        self._action[ids % self.capacity] = actions
        if self._advice.size:
            self._advice[ids % self.capacity] = NO_ADVICE if advice is None else advice
        return ids

    def finish(self, obs: F32, mask: Bool, terminated: Bool | None = None) -> None:
        """End the episodes with each stream's closing observation, obs [B, S, F], mask [B, S].

        By default the episode was only cut off, and its last windows bootstrap from the closing observation; where `terminated` [B] holds,
        it truly ended, and they do not. Closing rows are never trained on.
        """
        last = self._last
        self._append(obs, mask, _CLOSING)
        if terminated is not None:
            self._continuation[last[terminated & (last != _NONE)] % self.capacity] = 0.0
        self._last = np.empty(0, np.int64)

    def credit(self, ids: I64, rewards: F32, valid: Bool) -> None:
        """Deliver rewards [N] for decisions `ids` [N]; where `valid` [N] is false the outcome cannot be measured, and the row is dropped.

        Rows overwritten meanwhile are ignored. Raises LearningError for an id never given, one credited before, or a reward not finite.
        """
        if len(ids) and not (ids.min() >= 0 and ids.max() < self._next_id):
            raise LearningError(f"reward for decision {ids.min()} to {ids.max()}; ids given so far: 0 to {self._next_id - 1}")
        if not np.isfinite(rewards[valid]).all():
            raise LearningError(f"reward of decision {ids[valid & ~np.isfinite(rewards)][0]} is not finite; check the environment's reward")
        alive = ids >= self._next_id - self.capacity
        slots = ids[alive] % self.capacity
        if (self._status[slots] != _PENDING).any():
            raise LearningError(
                f"decision {ids[alive][self._status[slots] != _PENDING][0]} was rewarded before; each decision is rewarded once"
            )
        self._reward[slots] = rewards[alive]
        self._status[slots] = np.where(valid[alive], _CREDITED, _DROPPED)

    def ready(self, rows: int, n_step: int) -> bool:
        """Whether at least `rows` windows of `n_step` decisions can be sampled. Stops counting as soon as it knows."""
        found = 0
        for ids in self._sampleable(n_step):
            found += len(ids)
            if found >= rows:
                return True
        return False

    def sample(self, rng: np.random.Generator, batch: int, n_step: int, discount: float) -> Batch:
        """Draw `batch` windows uniformly, with replacement, from all whole ones below the watermark.

        A window of fewer than `n_step` decisions, at the end of an episode, bootstraps from the closing observation with discount^m. Raises
        LearningError where no window is whole.
        """
        ids = self._draw(rng, batch, n_step)
        windows = self._windows(ids, n_step, discount)
        rows = torch.from_numpy(np.concatenate((ids, windows.end)) % self.capacity).to(self._obs.device)
        obs, mask = self._obs.index_select(0, rows), self._mask.index_select(0, rows)
        return Batch(
            obs=obs[:batch],
            mask=mask[:batch],
            action=self._to_device(self._action[ids % self.capacity]),
            reward=self._to_device(windows.reward),
            discount=self._to_device(windows.discount),
            next_obs=obs[batch:],
            next_mask=mask[batch:],
            advice=self._to_device(self._advice[ids % self.capacity] if self._advice.size else self._advice),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of everything as CPU tensors, rows never written left out."""
        used = len(self)
        arrays = {name: torch.from_numpy(array[:used].copy()) for name, array in self._arrays().items()}
        rows = {"obs": self._obs[:used].to("cpu", copy=True), "mask": self._mask[:used].to("cpu", copy=True)}
        counters = torch.tensor([self.capacity, self._next_id, self._watermark])
        return {**arrays, **rows, "last": torch.from_numpy(self._last.copy()), "counters": counters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what `state_dict` copied. Raises CheckpointError where the capacity or the shapes differ."""
        capacity, next_id, watermark = state["counters"].tolist()
        shape, own_shape = tuple(state["obs"].shape[1:]), tuple(self._obs.shape[1:])
        if capacity != self.capacity or shape != own_shape:
            raise CheckpointError(f"stored replay holds {capacity} rows of {shape}; this run's holds {self.capacity} rows of {own_shape}")
        used = min(next_id, capacity)
        for name, array in self._arrays().items():
            array[:used] = state[name].numpy()
        self._obs[:used] = state["obs"].to(self._obs.device)
        self._mask[:used] = state["mask"].to(self._mask.device)
        self._last = state["last"].numpy().copy()
        self._next_id, self._watermark = next_id, watermark

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        kept: dict[str, npt.NDArray[Any]] = {
            "action": self._action,
            "reward": self._reward,
            "continuation": self._continuation,
            "status": self._status,
            "following": self._following,
        }
        return {**kept, "advice": self._advice} if self._advice.size else kept

    def _append(self, obs: F32, mask: Bool, status: int) -> I64:
        """Write one row per stream and link it from the stream's row before. That row still exists: the ring holds two rows per stream."""
        if len(obs) != len(self._last):
            raise LearningError(
                f"{len(obs)} observations for {len(self._last)} open streams; begin(streams) opens them, finish closes them"
            )
        ids = np.arange(self._next_id, self._next_id + len(obs))
        before = self._last[self._last != _NONE]
        self._following[before % self.capacity] = ids[self._last != _NONE]
        for slots, rows in self._spans(len(obs)):
            self._obs[slots] = torch.from_numpy(obs[rows])
            self._mask[slots] = torch.from_numpy(mask[rows])
            self._status[slots] = status
            self._following[slots] = _NONE
            self._continuation[slots] = 1.0
        self._next_id += len(obs)
        self._last = ids
        return ids

    def _spans(self, rows: int) -> Iterator[tuple[slice, slice]]:
        """The next `rows` slots as one slice, or two where the ring wraps, each with the matching slice of the rows."""
        start = self._next_id % self.capacity
        first = min(rows, self.capacity - start)
        yield slice(start, start + first), slice(0, first)
        if first < rows:
            yield slice(0, rows - first), slice(first, rows)

    def _advance(self) -> None:
        """Move the watermark forward to the oldest row that waits; every row is passed once, so the cost per row is constant."""
        mark = max(self._watermark, self._next_id - self.capacity)
        while mark < self._next_id:
            start = mark % self.capacity
            pending = self._status[start : min(start + _SCAN, self.capacity, start + self._next_id - mark)] == _PENDING
            first = int(pending.argmax())
            if pending[first]:
                mark += first
                break
            mark += len(pending)
        self._watermark = mark

    def _region(self) -> tuple[int, int]:
        """Ids that may start a window: from the oldest row in the ring up to the watermark, excluded."""
        return max(0, self._next_id - self.capacity), self.watermark

    def _windows(self, ids: I64, n_step: int, discount: float) -> _Windows:
        """Follow each stream for `n_step` decisions from `ids` [N], or to its closing row."""
        status = self._status[ids % self.capacity]
        whole = status == _CREDITED  # [N]
        running = whole.copy()  # [N] false once the episode's end is reached
        reward, factor, row = np.zeros(len(ids), np.float32), np.ones(len(ids), np.float32), ids
        for _ in range(n_step):
            slots = row % self.capacity
            status = self._status[slots]
            running = running & (status != _CLOSING)
            whole &= ~running | ((status == _CREDITED) & (row < self._watermark))
            reward += np.where(running, factor * self._reward[slots], 0.0)
            factor = np.where(running, factor * self._continuation[slots] * np.float32(discount), factor)
            row = np.where(running, self._following[slots], row)
            whole &= row != _NONE
        return _Windows(whole, reward, factor, row)

    def _draw(self, rng: np.random.Generator, batch: int, n_step: int) -> I64:
        """Ids [batch] of whole windows by rejection, which keeps the draw uniform; by enumeration where hardly any is whole."""
        low, high = self._region()
        kept: list[I64] = []
        missing = batch
        for _ in range(_ROUNDS if low < high else 0):
            ids = rng.integers(low, high, missing + missing // 8 + 8)
            kept.append(ids[self._windows(ids, n_step, 1.0).whole][:missing])
            missing -= len(kept[-1])
            if missing == 0:
                return np.concatenate(kept)
        return self._draw_from_all(rng, batch, n_step)

    def _draw_from_all(self, rng: np.random.Generator, batch: int, n_step: int) -> I64:
        ids = np.concatenate([np.empty(0, np.int64), *self._sampleable(n_step)])
        if len(ids) == 0:
            raise LearningError("replay holds no whole window to learn from; ask ready(rows, n_step) before sampling")
        return rng.choice(ids, batch)

    def _sampleable(self, n_step: int) -> Iterator[I64]:
        low, high = self._region()
        for start in range(low, high, _SCAN):
            ids = np.arange(start, min(start + _SCAN, high))
            yield ids[self._windows(ids, n_step, 1.0).whole]

    def _to_device(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._obs.device)

"""One gradient step at a time: online and target network, and Adam."""

import copy
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from trimtab.dqn.anchor import cost_scale
from trimtab.dqn.config import DQNConfig, LossKind
from trimtab.dqn.errors import LearningError
from trimtab.dqn.network import QNetwork, build_network
from trimtab.dqn.replay import Batch
from trimtab.dqn.rollouts import RolloutBatch, advantage_loss
from trimtab.dqn.targets import td_target
from trimtab.errors import CheckpointError, UsageError

# A CPU batch is cut in two and each half differentiated by a thread of its own: 13.6 ms a step of 1024 rows on two cores, where
# one thread takes 18.8. Threads inside torch's operations spin while they wait, and collapse when servers use the cores too. The
# cut does not depend on the machine, so neither does the result.
SHARDS: Final = 2
SMALLEST_SHARDED: Final = 512  # rows: below, handing over costs more than it saves

Part = tuple[int, Tensor, Tensor, Sequence[Tensor]]  # rows, mean loss, mean Q and gradient of a part of a batch

_LOSSES: dict[LossKind, Callable[[Tensor, Tensor], Tensor]] = {"mse": functional.mse_loss, "huber": functional.smooth_l1_loss}


@dataclass(frozen=True, slots=True)
class UpdateStats:
    """What one gradient step saw, before it moved the weights."""

    loss: float  # squared reward units (mse), mean over the batch; those of cloning and of drifting from a start are in it
    q_mean: float  # reward units, of the actions taken
    grad_norm: float  # L2, before clipping


def resolve_device(name: str) -> torch.device:
    """The device for `auto` (cuda where there is one), `cpu` or `cuda`. Raises UsageError where it does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device is 'cuda' but this machine has none that torch can use; allowed here: auto, cpu")
    if name not in ("cpu", "cuda"):
        raise UsageError(f"device is {name!r}; allowed: auto, cpu, cuda")
    return torch.device(name)


class Learner:
    """DQN with the variants that `config` names. Weights depend on `seed` alone, on every device."""

    def __init__(self, config: DQNConfig, features: int, servers: int, seed: int, device: str | torch.device = "cpu") -> None:
        self.config = config
        self.updates = 0
        generator = torch.Generator().manual_seed(seed)
        self.online = build_network(config, features, servers, generator).to(device)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self._weights: list[Tensor] = list(self.online.parameters())
        self._target_weights: list[Tensor] = list(self.target.parameters())
        self.average = copy.deepcopy(self.online).requires_grad_(False) if config.average > 0 else None
        self._average_weights: list[Tensor] = [] if self.average is None else list(self.average.parameters())
        self._start: QNetwork | None = None  # the model begun with, where differences are held to its
        self._optimizer = torch.optim.Adam(self._weights, lr=config.learning_rate, fused=True)
        self._loss = _LOSSES[config.loss]
        self._sharded = torch.device(device).type == "cpu" and config.batch >= SMALLEST_SHARDED
        self._threads = ThreadPoolExecutor(SHARDS, "gradient")

    @property
    def greedy(self) -> QNetwork:
        """What decides when nothing is tried out: the average of recent weights where they are averaged, else the online network."""
        return self.online if self.average is None else self.average

    def update(self, batch: Batch, cloning: float = 0.0, rollouts: RolloutBatch | None = None) -> UpdateStats:
        """One gradient step; `cloning` is the weight of the pull towards the advised actions, which the batch then holds.

        `rollouts`, as many as the batch has rows, are learned in the same step: what was learned from them is kept while rewards teach.
        Raises LearningError, with the weights untouched, where loss or gradient is not finite.
        """
        split = SHARDS if self._sharded else 1
        pieces = zip(batch.split(split), [None] * split if rollouts is None else rollouts.split(split), strict=True)
        return self._step(lambda piece: self._gradient(piece[0], piece[1], cloning), list(pieces))

    def study(self, rollouts: RolloutBatch) -> UpdateStats:
        """One gradient step on rollouts alone. Raises as `update` does."""
        return self._step(self._rollout_gradient, rollouts.split(SHARDS if self._sharded else 1))

    def _step(self, gradient: Callable[[Any], Part], pieces: Sequence[Any]) -> UpdateStats:
        parts = list((self._threads.map if self._sharded else map)(gradient, pieces))
        every = sum(rows for rows, _, _, _ in parts)
        shares = [rows / every for rows, _, _, _ in parts]
        for weight, *slopes in zip(self._weights, *(slope for _, _, _, slope in parts), strict=True):
            weight.grad = sum_weighted(slopes, shares)
        grad_norm = nn.utils.clip_grad_norm_(self._weights, self.config.max_grad_norm, foreach=True)
        loss = sum_weighted([one for _, one, _, _ in parts], shares)
        q_mean = sum_weighted([one for _, _, one, _ in parts], shares)
        # One transfer for all three numbers: on an accelerator each would wait for the whole step.
        stats = UpdateStats(*torch.stack((loss, q_mean, grad_norm)).tolist())
        self._check(stats)
        self._optimizer.param_groups[0]["lr"] = step_size(self.config, self.updates)
        self._optimizer.step()
        self.updates += 1
        self._follow()
        return stats

    def _gradient(self, batch: Batch, rollouts: RolloutBatch | None, cloning: float) -> Part:
        """Of a batch or a part of one."""
        if self._sharded:
            torch.set_num_threads(1)  # of this thread: the parts are the parallelism, more threads would only spin
        target = self._td_target(batch)  # [B]
        values = self.online(batch.obs, batch.mask)  # [B, S]
        q = values.gather(1, batch.action.unsqueeze(1)).squeeze(1)  # [B]
        loss = self._loss(*self._scaled(batch, q, target))
        if cloning > 0.0:
            loss = loss + cloning * self._cloning_loss(batch, values)
        if self._start is not None:
            loss = loss + self.config.kept * self._drift(self._start, batch, values)
        if rollouts is not None:
            loss = loss + advantage_loss(self.online(rollouts.obs, rollouts.mask), rollouts, self.config.anchor)
        gradient = torch.autograd.grad(loss, self._weights)
        return len(batch.action), loss.detach(), q.detach().mean(), gradient

    def _rollout_gradient(self, rollouts: RolloutBatch) -> Part:
        if self._sharded:
            torch.set_num_threads(1)
        q = self.online(rollouts.obs, rollouts.mask)  # [B, S]
        loss = advantage_loss(q, rollouts, self.config.anchor)
        # The value stream cancels out, but for rounding.
        gradient = torch.autograd.grad(loss, self._weights)
        return len(q), loss.detach(), q.detach()[rollouts.tried].mean(), gradient

    def state_dict(self) -> dict[str, Any]:
        """Copies of every network, the optimiser and the update counter."""
        state: dict[str, Any] = {
            "online": self.online.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "updates": self.updates,
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        if self._start is not None:
            state["start"] = self._start.state_dict()
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what `state_dict` copied, from a learner of the same configuration and shapes."""
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(state["target"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self._start = None
        if "start" in state:
            self._hold_to(state["start"])
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.updates = state["updates"]

    def adopt(self, network: QNetwork) -> None:
        """Every network becomes a copy of this one. Raises CheckpointError where its shape is another."""
        weights = network.state_dict()
        try:
            for own in (self.online, self.target, self.average):
                if own is not None:
                    own.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(
                "the model's network has another shape than this run's; leave network, hidden and dueling out of --set"
            ) from error
        if self.config.kept > 0:
            self._hold_to(weights)

    def _hold_to(self, weights: dict[str, Any]) -> None:
        """Differences between choices are held to those of a network with these weights."""
        self._start = copy.deepcopy(self.target)
        self._start.load_state_dict(weights)

    def _td_target(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            next_q_target = self.target(batch.next_obs, batch.next_mask)  # [B, S]
            next_q_online = self.online(batch.next_obs, batch.next_mask) if self.config.double else None  # [B, S]
            return td_target(batch.reward, batch.discount, next_q_online, next_q_target, batch.next_mask, self.config.double)

    def _scaled(self, batch: Batch, q: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Both in the scale of the state, where there is an anchor: else overloaded fleets, whose rewards are the largest, teach alone."""
        if self.config.anchor < 0:
            return q, target
        scale = self._scale(batch).squeeze(1)  # [B]
        return q / scale, target / scale

    def _scale(self, batch: Batch) -> Tensor:
        """[B, 1], with an anchor."""
        return cost_scale(torch.expm1(batch.obs[..., self.config.anchor]), batch.mask)

    def _cloning_loss(self, batch: Batch, values: Tensor) -> Tensor:
        """Mean over all rows, advised or not, in the scale of the state as the TD error is."""
        scaled = values if self.config.anchor < 0 else values / self._scale(batch)
        return large_margin(scaled, batch.mask, batch.advice, self.config.heuristic_margin).mean()

    def _drift(self, start: QNetwork, batch: Batch, values: Tensor) -> Tensor:
        """How far the differences between choices are from those that `start` sees, as if rollouts had found those.

        Choices between one are none, and count 0.
        """
        with torch.no_grad():
            costs = -start(batch.obs, batch.mask)  # [B, S]
        return advantage_loss(values, RolloutBatch(batch.obs, batch.mask, batch.mask, costs), self.config.anchor)

    def _check(self, stats: UpdateStats) -> None:
        if not (math.isfinite(stats.loss) and math.isfinite(stats.grad_norm)):
            found = f"loss {stats.loss:g}, gradient norm {stats.grad_norm:g} at update {self.updates + 1}"
            raise LearningError(f"learning diverged: {found}; lower learning_rate, set reward_clip, or check that observations are finite")

    def _follow(self) -> None:
        with torch.no_grad():
            if self.config.target == "soft":
                torch._foreach_lerp_(self._target_weights, self._weights, self.config.tau)
            elif self.updates % self.config.target_period == 0:
                torch._foreach_copy_(self._target_weights, self._weights)
            if self.average is not None:  # at first the plain mean, which forgets the start
                torch._foreach_lerp_(self._average_weights, self._weights, max(self.config.average, 1.0 / (self.updates + 1)))


def large_margin(q: Tensor, mask: Tensor, advice: Tensor, margin: float) -> Tensor:
    """max_a [Q(s, a) + l(a)] - Q(s, a_E), [B], with l = `margin` for all actions but the advised one a_E (Hester et al. 2018, J_E).

    q [B, S], mask [B, S], advice [B] int64. It is 0 where the advised action leads every other open one by the margin, and where nothing
    (-1), or an action that is not open, was advised.
    """
    action = advice.clamp(min=0).unsqueeze(1)  # [B, 1]
    own = q.gather(1, action)  # [B, 1]
    best = (q + margin).scatter(1, action, own).masked_fill(~mask, -math.inf).amax(dim=1)  # [B]
    advised = (advice >= 0) & mask.gather(1, action).squeeze(1)
    return torch.where(advised, best - own.squeeze(1), 0.0)


def step_size(config: DQNConfig, updates: int) -> float:
    """Adam's step size after so many updates: 1/t where it falls (Robbins and Monro 1951), which needs no planned end."""
    span = config.learning_rate_updates
    return config.learning_rate / (1.0 + updates / span) if span else config.learning_rate


def sum_weighted(pieces: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The pieces' weighted sum, in order: floating-point sums depend on it."""
    total = pieces[0] * shares[0]
    for piece, share in zip(pieces[1:], shares[1:], strict=True):
        total = total.add_(piece, alpha=share)
    return total

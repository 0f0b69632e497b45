"""Q networks: one number per server, from the observation of a fleet.

Inside, servers lead ([S, B, H]): pooling over the first axis reads whole rows, about twice as fast on a CPU as over the middle one.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trimtab.dqn.anchor import Caution, anchored, cautious
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.inference import F32, I64, Bool, SetWeights, epsilon_greedy_choice, greedy_choice, set_choice, set_q_values, views
from trimtab.dqn.targets import dueling_q
from trimtab.errors import UsageError

# On a CPU, 4096 decisions in one block are a third slower: buffers leave the cache and go back to the kernel after every call. Much below
# this size the calls themselves begin to count.
_CPU_BLOCK = 512
# Up to so many servers in a call the compiled forward pass is faster than the library's.
_FEW_ROWS = 128


class QNetwork(nn.Module, ABC):
    """obs [B, S, F] float32 and mask [B, S] bool (True: available) -> Q [B, S] float32.

    Features must be finite. The features of an unavailable server do not influence the Q of the others; its own Q is an arbitrary finite
    number that the action rule and the targets ignore.
    """

    anchor: int = -1  # see `dqn.anchor`
    caution = Caution()

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the parameters lie."""

    def decide(self, obs: F32, mask: Bool) -> tuple[F32, Bool, I64]:
        """Values [B, S] and candidates [B, S], see `dqn.anchor.cautious`, and the greedy choice by them [B]."""
        values, near = cautious(q_values(self, obs, mask).numpy(), obs, mask, self.anchor, self.caution)
        return values, near, greedy_choice(values, near)

    @abstractmethod
    def forward(self, obs: Tensor, mask: Tensor) -> Tensor:
        """Q values, [B, S]."""


class SetNetwork(QNetwork):
    """Deep-set network (Zaheer et al. 2017): one encoder for all servers, pooled context, one Q per server.

    Permutation-equivariant, and valid for any number of servers. The context enters the head by its own weights, computed once per fleet,
    which equals one layer over [own embedding, context].
    """

    def __init__(self, features: int, hidden: int, dueling: bool, generator: torch.Generator | None, anchor: int = -1) -> None:
        super().__init__()
        self.dueling = dueling
        self.anchor = anchor
        self.encoder_in = _linear(features, hidden, generator)
        self.encoder_out = _linear(hidden, hidden, generator)
        self.own = _linear(hidden, hidden, generator, bias=False, fan_in=3 * hidden)
        self.context = _linear(2 * hidden, (2 if dueling else 1) * hidden, generator, fan_in=3 * hidden)
        self.advantage = _linear(hidden, 1, generator)
        self.value = _linear(hidden, 1, generator) if dueling else None
        _begin_at(anchor, self.advantage, self.value)
        self._views: tuple[SetWeights | None] | None = None  # see `few`; None: not asked for yet
        self._one_weight = (self.own.weight,)  # in a tuple, which a module looks up as any object does: its own layers take far longer

    @property
    def device(self) -> torch.device:
        return self._one_weight[0].device

    def decide(self, obs: F32, mask: Bool) -> tuple[F32, Bool, I64]:
        # A gateway decides once in some milliseconds, with caches that others have filled: a tensor made and unmade takes 90 us then, and
        # to ask one for its device takes 20.
        weights = self.few(mask)
        return super().decide(obs, mask) if weights is None or self.anchor < 0 else set_choice(weights, obs, mask, self.caution)

    def few(self, mask: Bool) -> SetWeights | None:
        """Views of the parameters where the compiled forward pass is the faster one for a decision with this mask [B, S]; else None."""
        if mask.size > _FEW_ROWS:
            return None
        if self._views is None:
            self._views = (self._weights() if self.device.type == "cpu" else None,)
        return self._views[0]

    def forward(self, obs: Tensor, mask: Tensor) -> Tensor:
        batch, servers, features = obs.shape
        present = mask.t().to(obs.dtype)  # [S, B]
        share = present.sum(0).clamp_(min=1.0).reciprocal_()  # [B] 1/available
        # Two-dimensional until pooled: an in-place ReLU on a view makes autograd copy the whole tensor, which doubled the gradient step.
        x = obs.transpose(0, 1).reshape(servers * batch, features)  # [S * B, F]
        h = functional.relu(self.encoder_in(x), inplace=True)  # [S * B, H]
        h = functional.relu(self.encoder_out(h), inplace=True)  # [S * B, H]
        context = self.context(pool(h.view(servers, batch, -1), present, share))  # [B, H or 2H]
        q = self._heads(h, context, present * share)  # [B, S]
        return q if self.anchor < 0 else anchored(q, obs, mask, self.anchor)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_views": None}  # a copy has its parameters elsewhere

    def _apply(self, *args: Any, **more: Any) -> Self:
        self._views = None  # so has a network that is moved to another device
        super()._apply(*args, **more)  # type: ignore[no-untyped-call]
        return self

    def _weights(self) -> SetWeights:
        return views(self.encoder_in, self.encoder_out, self.own, self.context, self.advantage, self.value, self.anchor)

    def _heads(self, h: Tensor, context: Tensor, weight: Tensor) -> Tensor:
        """Q [B, S], what is learned of it; weight [S, B] is 1/available where available."""
        if self.value is None:
            return self._head(h, context).t()
        shared, fleet = context.chunk(2, dim=-1)
        value = self.value(functional.relu(fleet)).squeeze(-1)  # [B]
        return dueling_q(value, self._head(h, shared), weight).t()

    def _head(self, h: Tensor, shared: Tensor) -> Tensor:
        z = functional.relu(self.own(h).view(-1, *shared.shape) + shared, inplace=True)  # [S, B, H]
        return cast(Tensor, self.advantage(z)).squeeze(-1)  # [S, B]


class FlatNetwork(QNetwork):
    """Two hidden layers over the flattened observation and the mask; for the fleet size that it was made for only."""

    def __init__(
        self, features: int, servers: int, hidden: int, dueling: bool, generator: torch.Generator | None, anchor: int = -1
    ) -> None:
        super().__init__()
        self.anchor = anchor
        self.layer_1 = _linear(servers * (features + 1), hidden, generator)
        self.layer_2 = _linear(hidden, hidden, generator)
        self.advantage = _linear(hidden, servers, generator)
        self.value = _linear(hidden, 1, generator) if dueling else None
        _begin_at(anchor, self.advantage, self.value)

    @property
    def device(self) -> torch.device:
        return self.layer_1.weight.device

    def forward(self, obs: Tensor, mask: Tensor) -> Tensor:
        present = mask.to(obs.dtype)  # [B, S]
        x = torch.cat(((obs * present.unsqueeze(-1)).flatten(1), present), dim=1)  # [B, S * F + S]
        h = functional.relu(self.layer_2(functional.relu(self.layer_1(x), inplace=True)), inplace=True)  # [B, H]
        q = cast(Tensor, self.advantage(h))  # [B, S]
        if self.value is not None:
            weight = (present / present.sum(1, keepdim=True).clamp(min=1.0)).t()  # [S, B]
            q = dueling_q(self.value(h).squeeze(-1), q.t(), weight).t()
        return q if self.anchor < 0 else anchored(q, obs, mask, self.anchor)


def build_network(config: DQNConfig, features: int, servers: int, generator: torch.Generator | None = None) -> QNetwork:
    """The configured network on the CPU, its weights drawn from `generator` alone; without one they are 0, ready to be loaded.

    Raises UsageError where the anchor is no feature.
    """
    if config.anchor >= features:
        raise UsageError(f"learner setting anchor is {config.anchor}; allowed: -1 to {features - 1}, the index of a feature")
    network: QNetwork
    if config.network == "set":
        network = SetNetwork(features, config.hidden, config.dueling, generator, config.anchor)
    else:
        network = FlatNetwork(features, servers, config.hidden, config.dueling, generator, config.anchor)
    network.caution = Caution(config.trust, config.bound_factor, config.bound_slack, config.lead)
    return network


def q_values(network: QNetwork, obs: F32, mask: Bool) -> Tensor:
    """Q [B, S] on the CPU, without gradients, for numpy obs [B, S, F] and mask [B, S]; wherever the network lives."""
    if isinstance(network, SetNetwork) and (weights := network.few(mask)) is not None:
        return torch.from_numpy(set_q_values(weights, obs, mask))
    device = network.device
    with torch.inference_mode():
        x, available = torch.from_numpy(obs), torch.from_numpy(mask)
        if device.type != "cpu":
            return cast(Tensor, network(x.to(device), available.to(device))).cpu()
        if len(x) <= _CPU_BLOCK:
            return cast(Tensor, network(x, available))
        blocks = zip(torch.split(x, _CPU_BLOCK), torch.split(available, _CPU_BLOCK), strict=True)
        return torch.cat([network(*block) for block in blocks])


def rehearse(network: QNetwork, servers: int, features: int) -> None:
    """Make one decision that nobody uses: what it compiles must not be compiled while a live fleet's requests are due."""
    values, near, _ = network.decide(np.zeros((1, servers, features), dtype=np.float32), np.ones((1, servers), dtype=np.bool_))
    epsilon_greedy_choice(values, near, 0.0, np.zeros((1, 2)))


def pool(h: Tensor, present: Tensor, share: Tensor) -> Tensor:
    """Mean and maximum over available servers, [B, 2H]: h [S, B, H] out of a ReLU, present [S, B] 1 or 0, share [B] = 1/available."""
    return cast(Tensor, _Pool.apply(h, present.unsqueeze(-1), share.unsqueeze(-1)))  # type: ignore[no-untyped-call]


class _Pool(torch.autograd.Function):
    """Own backward pass: the library's for `amax` made up a third of a whole gradient step.

    Embeddings come out of a ReLU: an absent server, set to 0, never exceeds a present one, and where the maximum is 0 no gradient is due.
    The gradient of the maximum is shared equally among ties, which are common: idle servers of one kind look the same.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, present: Tensor, share: Tensor) -> Tensor:
        kept = h * present  # [S, B, H]
        top = kept.amax(0)  # [B, H]
        ctx.save_for_backward(kept, top, present, share)
        return torch.cat((kept.sum(0).mul_(share), top), dim=-1)  # [B, 2H]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        kept, top, present, share = ctx.saved_tensors
        grad_mean, grad_top = grads[0].chunk(2, dim=-1)  # [B, H]
        ties = torch.eq(kept, top, out=torch.empty_like(kept))  # [S, B, H] as 1 and 0; by way of bool it takes seven times as long
        grad_tie = grad_top / ties.sum(0)  # [B, H]; at least one server ties
        return ties.mul_(grad_tie).add_(grad_mean * share).mul_(present), None, None


def _begin_at(anchor: int, *heads: nn.Linear | None) -> None:
    """With an anchor the heads begin at zero, and so does what is learned on top of it."""
    if anchor >= 0:
        for head in heads:
            if head is not None:
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)


def _linear(inputs: int, outputs: int, generator: torch.Generator | None, bias: bool = True, fan_in: int | None = None) -> nn.Linear:
    """A layer drawn uniformly within 1/sqrt(fan-in), from `generator` only: a constructor on a real device would advance the global
    generator.

    `fan_in` is that of the whole layer where this is one part of it.
    """
    layer = nn.Linear(inputs, outputs, bias=bias, device="meta").to_empty(device="cpu")
    bound = 1.0 / math.sqrt(fan_in or inputs)
    for parameter in layer.parameters():
        if generator is None:
            nn.init.zeros_(parameter)
        else:
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer

"""The networks of architectures.py that the package does not have. All begin at the anchor, and take any number of servers.

None has a value stream: rollouts say nothing of a state's value, and it would be counted among the parameters.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from trimtab.dqn.anchor import anchored, cost_scale
from trimtab.dqn.network import QNetwork, pool
from trimtab.dqn.rollouts import LINEAR_BEYOND, RolloutBatch

QUANTILES: Final = 8
WORST: Final = 2  # of the quantiles: a quarter


class _Encoded(QNetwork):
    """Encoder and head of `SetNetwork`, alike for all servers; what a server learns of the others differs."""

    def __init__(self, features: int, hidden: int, anchor: int, outputs: int = 1) -> None:
        super().__init__()
        self.anchor = anchor
        self.encoder_in, self.encoder_out = nn.Linear(features, hidden), nn.Linear(hidden, hidden)
        self.own = nn.Linear(hidden, hidden)
        self.advantage = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.advantage.weight)
        nn.init.zeros_(self.advantage.bias)

    @property
    def device(self) -> torch.device:
        return self.own.weight.device

    def forward(self, obs: Tensor, mask: Tensor) -> Tensor:
        return self.values(obs, mask).mean(dim=-1)

    def values(self, obs: Tensor, mask: Tensor) -> Tensor:
        """Every output on top of the anchor.  # [B, S, outputs]"""
        embedding = functional.relu(self.encoder_out(functional.relu(self.encoder_in(obs))))  # [B, S, H]
        added = self.advantage(functional.relu(self.own(embedding) + self.context(embedding, mask)))
        return torch.stack([anchored(one, obs, mask, self.anchor) for one in added.unbind(-1)], dim=-1)

    def context(self, embedding: Tensor, mask: Tensor) -> Tensor:
        """What of the other servers enters the head of each.  # [B, S, H] -> [B, S, H] or [B, 1, H]"""
        raise NotImplementedError


class OwnNetwork(_Encoded):
    """No context: a server's value depends on its own features alone, which hold some comparisons with the fleet."""

    def context(self, embedding: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros_like(embedding[:, :1])


class AttentionNetwork(_Encoded):
    """In place of the pooled context one head of self-attention among available servers, added to a server's own embedding (Vaswani et
    al. 2017; Lee et al. 2019).
    """

    def __init__(self, features: int, hidden: int, anchor: int) -> None:
        super().__init__(features, hidden, anchor)
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.value, self.attended = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def context(self, embedding: Tensor, mask: Tensor) -> Tensor:
        """Through the layer `own`, so that its sum with the embedding's is that of the residual."""
        seen = (mask | ~mask.any(dim=1, keepdim=True)).unsqueeze(1)  # [B, 1, S]; where none is open, weights of nothing would be no numbers
        query, key, value = self.query(embedding), self.key(embedding), self.value(embedding)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return functional.linear(self.attended(mixed), self.own.weight)


class QuantileNetwork(_Encoded):
    """A deep set whose head gives quantiles of what a choice is better by (Dabney et al. 2018); it decides by the mean of the `worst`
    lowest of them, all by default.
    """

    def __init__(self, features: int, hidden: int, anchor: int, worst: int = QUANTILES) -> None:
        super().__init__(features, hidden, anchor, QUANTILES)
        self.worst = worst
        self.pooled = nn.Linear(2 * hidden, hidden, bias=False)

    def context(self, embedding: Tensor, mask: Tensor) -> Tensor:
        present = mask.t().to(embedding.dtype)  # [S, B]
        pooled = pool(embedding.transpose(0, 1), present, present.sum(0).clamp(min=1.0).reciprocal())
        return self.pooled(pooled).unsqueeze(1)

    def forward(self, obs: Tensor, mask: Tensor) -> Tensor:
        return self.values(obs, mask).sort(dim=-1).values[..., : self.worst].mean(dim=-1)


def quantile_loss(values: Tensor, batch: RolloutBatch, anchor: int) -> Tensor:
    """Quantile Huber loss of values [B, S, K] against the differences between the tried choices' costs, in the scale of the state.

    As `dqn.rollouts.advantage_loss`, both sides are taken from their mean over the tried choices, values from that of all quantiles.
    """
    scale = cost_scale(torch.expm1(batch.obs[..., anchor]), batch.mask)  # [B, 1]
    found = (values - _mean_of_tried(values.mean(dim=-1), batch.tried).unsqueeze(-1)) / scale.unsqueeze(-1)
    wanted = (-batch.cost - _mean_of_tried(-batch.cost, batch.tried)) / scale
    share = (torch.arange(QUANTILES) + 0.5) / QUANTILES
    error = wanted.unsqueeze(-1) - found  # [B, S, K]
    huber = functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=LINEAR_BEYOND)
    loss = ((share - (error < 0).to(error.dtype)).abs() * huber).mean(dim=-1)
    return loss[batch.tried].mean()


def _mean_of_tried(values: Tensor, tried: Tensor) -> Tensor:
    return values.masked_fill(~tried, 0.0).sum(dim=1, keepdim=True) / tried.sum(dim=1, keepdim=True)

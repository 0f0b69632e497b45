"""Learning on top of an estimate: one feature of every choice is log(1 + what it is expected to cost), known without learning.

The network then learns what the estimate lacks, from zero: before the first gradient step the greedy choice is that of the least
expected cost. What it says is multiplied by the scale of the state (1 + the least expected cost), so that one network serves a fleet
whose answers take one unit of time and one whose answers take a hundred. When it decides in earnest it is cautious: its word counts
half, and only choices whose expected cost is near the least are open, so that an error of the network costs a bounded part of
the estimate. (Residual policy learning: Silver et al. 2018; Johannink et al. 2019.)
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trimtab.core.compiled import compiled

F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


class Caution(NamedTuple):
    """How far a greedy choice may leave the estimate."""

    trust: float = 1.0  # share of what the network adds that counts
    factor: float = 1.0  # candidates cost at most factor x the least expected cost + slack
    slack: float = 0.0


def anchored(q: Tensor, obs: Tensor, mask: Tensor, feature: int) -> tuple[Tensor, Tensor]:
    """(Q, scale): Q = scale x q - expected cost, and scale = 1 + the least expected cost of an open choice.

    q, mask [B, S], obs [B, S, F] -> [B, S], [B, 1].
    """
    cost = torch.expm1(obs[..., feature])  # [B, S]
    scale = cost_scale(cost, mask)  # [B, 1]
    return scale * q - cost, scale


def cost_scale(cost: Tensor, mask: Tensor) -> Tensor:
    """1 + the least expected cost of an open choice, 1 where none is open.  # [B, 1]"""
    least = cost.masked_fill(~mask, torch.inf).amin(dim=1, keepdim=True)
    return 1.0 + torch.where(torch.isinf(least), torch.zeros_like(least), least)


def cautious(q: F32, obs: F32, mask: Bool, feature: int, caution: Caution) -> tuple[F32, Bool]:
    """What a greedy choice should be made by: values [B, S], and the candidates [B, S], at least one wherever a choice is open.

    q, mask [B, S], obs [B, S, F]. Of what the network adds to the estimate a share `trust` counts: a choice among noisy values finds the
    ones that are too high, so the best weight is below one. `feature` below 0: values and open choices as they are.
    """
    if feature < 0:
        return q, mask
    values, near = np.empty_like(q), np.empty_like(mask)
    _cautious(q, obs, mask, feature, *caution, values, near)
    return values, near


@compiled
def _cautious(q: F32, obs: F32, mask: Bool, feature: int, trust: float, factor: float, slack: float, values: F32, near: Bool) -> None:
    for b in range(mask.shape[0]):
        least = np.inf
        for s in range(mask.shape[1]):
            if mask[b, s]:
                least = min(least, np.expm1(obs[b, s, feature]))
        for s in range(mask.shape[1]):
            cost = np.expm1(obs[b, s, feature])
            values[b, s] = trust * q[b, s] - (1.0 - trust) * cost
            near[b, s] = mask[b, s] and cost <= least + (factor - 1.0) * abs(least) + slack

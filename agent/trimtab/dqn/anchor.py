"""Learning on top of an estimate: one feature of every choice is log(1 + what it is expected to cost), known without learning.

The network then learns what the estimate lacks, from zero: before the first gradient step the greedy choice is that of the least
expected cost. What it says is multiplied by the scale of the state (1 + the least expected cost), so that one network serves a fleet
whose answers take one unit of time and one whose answers take a hundred. When it decides in earnest it is cautious: its word counts
a fifth, less where there are many candidates; the estimate's own choice has a lead; and only choices whose expected cost is near the
least are open. So an error of the network costs a bounded part of the estimate. (Residual policy learning: Silver et al. 2018;
Johannink et al. 2019.)
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trimtab.dqn.inference import weigh

F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


class Caution(NamedTuple):
    """How far a greedy choice may leave the estimate."""

    trust: float = 1.0  # share of what the network adds that counts among few candidates
    factor: float = 1.0  # candidates cost at most factor x the least expected cost + slack
    slack: float = 0.0
    lead: float = 0.0  # x the scale of the state: what another choice must be better by than the one of least expected cost


def anchored(q: Tensor, obs: Tensor, mask: Tensor, feature: int) -> Tensor:
    """Q = scale x q - expected cost.  # q, mask [B, S], obs [B, S, F] -> [B, S]"""
    cost = torch.expm1(obs[..., feature])  # [B, S]
    return cost_scale(cost, mask) * q - cost


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
    weigh(q, obs, mask, feature, *caution, values, near)
    return values, near

"""The formulas of the learner, as pure functions of tensors.

A DQN variant is another argument or another function here, so that its difference is the paper's idea.
"""

import math

import torch
from torch import Tensor


def greedy(q: Tensor, mask: Tensor) -> Tensor:
    """The available server of largest Q; the lowest index among equals, and 0 where none is available.

    q [B, S] float, mask [B, S] bool (True: available) -> [B] int64.
    """
    return q.masked_fill(~mask, -math.inf).argmax(dim=1)  # [B]


def td_target(
    reward: Tensor,
    discount: Tensor,
    next_q_online: Tensor | None,
    next_q_target: Tensor,
    next_mask: Tensor,
    double: bool,
) -> Tensor:
    """The n-step target y = R + D * Q_target(s', a*), in reward units, [B].

    R [B] is the discounted sum of the window's m rewards (m = n, fewer at the end of an episode), D [B] the discount of the bootstrap:
    gamma^m, or 0 after a true end (Sutton and Barto 2018, eq. 7.1). With `double`, a* maximises `next_q_online` [B, S] (van Hasselt et al.
    2016), otherwise `next_q_target` [B, S] (Mnih et al. 2015), in both cases over the servers that `next_mask` [B, S] allows.
    The rewards inside a window come from the behaviour that was stored; no off-policy correction is made.
    """
    chooser = next_q_online if double and next_q_online is not None else next_q_target
    best = greedy(chooser, next_mask).unsqueeze(1)  # [B, 1]
    return reward + discount * next_q_target.gather(1, best).squeeze(1)  # [B]


def dueling_q(value: Tensor, advantage: Tensor, weight: Tensor) -> Tensor:
    """Q = V + A - mean of A over the available servers (Wang et al. 2016, eq. 9).

    value [B], advantage [S, B], weight [S, B] = 1/available where available and 0 elsewhere -> [S, B]. Servers lead, as in the networks.
    """
    return advantage + (value - (advantage * weight).sum(0))


def heuristic_bonus(q: Tensor, mask: Tensor, heuristic_action: Tensor, margin: float) -> Tensor:
    """H of heuristically accelerated Q-learning (Bianchi, Ribeiro and Costa 2004), [B, S].

    H(s, a) = max_i Q(s, i) - Q(s, a) + eta for the heuristic's action a [B] int64, 0 for all others; the maximum is over available servers.
    The action rule is argmax(Q + xi H): at xi = 1 it follows the heuristic, at 0 the network, and between the heuristic wins where the
    network's lead over it is below eta xi / (1 - xi). Learning targets never see H.
    """
    best = q.masked_fill(~mask, -math.inf).amax(dim=1, keepdim=True)  # [B, 1]
    action = heuristic_action.unsqueeze(1)  # [B, 1]
    lift = best - q.gather(1, action) + margin  # [B, 1]
    return torch.zeros_like(q).scatter_(1, action, lift)  # [B, S]

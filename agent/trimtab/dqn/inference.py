"""The set network's forward pass for few decisions at a time, compiled.

At B = 1 the library's forward pass is some thirty operations of a few microseconds, each of which gives up the interpreter lock;
beside the threads of a live fleet it waits for the lock thirty times. This is one call of about ten microseconds.
The arrays are views of the network's parameters, so they follow every gradient step.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import nn

from trimtab.core.compiled import compiled, compiled_sums

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# Candidates up to which `trust` holds; among n more it is FEW / n of it. The largest of many noisy values is the one with the most noise:
# among a thousand servers the learned part, taken at its word, lost 9 % to the estimate alone.
FEW: Final = 16


class SetWeights(NamedTuple):
    """Parameters of a `SetNetwork`, as numpy views; `value` is empty where the network is not dueling."""

    encoder_in: F32  # [H, F]
    encoder_in_bias: F32  # [H]
    encoder_out: F32  # [H, H]
    encoder_out_bias: F32  # [H]
    own: F32  # [H, H]
    context: F32  # [H or 2H, 2H]
    context_bias: F32  # [H or 2H]
    advantage: F32  # [1, H]
    advantage_bias: F32  # [1]
    value: F32  # [1, H] or [0, H]
    value_bias: F32  # [1] or [0]
    anchor: int  # feature that is learned on top of, -1 none


def views(
    encoder_in: nn.Linear,
    encoder_out: nn.Linear,
    own: nn.Linear,
    context: nn.Linear,
    advantage: nn.Linear,
    value: nn.Linear | None,
    anchor: int,
) -> SetWeights:
    """The layers' parameters as arrays that share their memory."""

    def pair(layer: nn.Linear) -> tuple[F32, F32]:
        return layer.weight.detach().numpy(), layer.bias.detach().numpy()

    none = np.zeros((0, own.out_features), dtype=np.float32), np.zeros(0, dtype=np.float32)
    last = none if value is None else pair(value)
    return SetWeights(*pair(encoder_in), *pair(encoder_out), own.weight.detach().numpy(), *pair(context), *pair(advantage), *last, anchor)


def set_q_values(weights: SetWeights, obs: F32, mask: Bool) -> F32:
    """Q of every choice, as the network's own forward pass up to rounding.  # [B, S] from [B, S, F] and [B, S]"""
    q = np.empty(mask.shape, dtype=np.float32)
    _forward(weights, obs, mask, _scratch(weights, obs), q)
    return q


def set_choice(weights: SetWeights, obs: F32, mask: Bool, caution: tuple[float, float, float, float]) -> tuple[F32, Bool, I64]:
    """Values [B, S], candidates [B, S] and greedy choice [B], see `dqn.anchor.cautious`, of obs [B, S, F] and mask [B, S].

    One call from the observation to the choice: where caches are cold each takes tens of microseconds.
    """
    both, near, chosen = np.empty((2, *mask.shape), np.float32), np.empty(mask.shape, np.bool_), np.empty(len(mask), np.int64)
    _decide(weights, obs, mask, *caution, _scratch(weights, obs), both, near, chosen)
    return both[1], near, chosen


def _scratch(weights: SetWeights, obs: F32) -> F32:
    """Room for what is between the layers: an embedding of every choice, and five more rows of the width."""
    return np.empty((obs.shape[1] + 5) * weights.own.shape[0], np.float32)


def greedy_choice(q: F32, mask: Bool) -> I64:
    """The open choice of highest Q per row, ties to the lowest index: q and mask [B, S] -> [B] int64."""
    chosen = np.empty(len(q), dtype=np.int64)
    _choose(q, mask, chosen)
    return chosen


def epsilon_greedy_choice(q: F32, mask: Bool, epsilon: float, draws: F64) -> I64:
    """With probability epsilon a uniform open choice, else the greedy one: q, mask [B, S], uniform draws [B, 2] -> [B] int64.

    One call, because each of the array operations that it stands for would let go of the interpreter lock.
    """
    chosen = greedy_choice(q, mask)
    _explore(mask, epsilon, draws, chosen)
    return chosen


@compiled
def _explore(mask: Bool, epsilon: float, draws: F64, chosen: I64) -> None:
    for b in range(mask.shape[0]):
        if draws[b, 0] >= epsilon:
            continue
        count = 0
        for s in range(mask.shape[1]):
            count += mask[b, s]
        left = int(draws[b, 1] * count)
        for s in range(mask.shape[1]):
            if mask[b, s]:
                if left == 0:
                    chosen[b] = s
                left -= 1


@compiled
def _choose(q: F32, mask: Bool, chosen: I64) -> None:
    for b in range(q.shape[0]):
        chosen[b] = -1
        for s in range(q.shape[1]):
            if mask[b, s] and (chosen[b] < 0 or q[b, s] > q[b, chosen[b]]):
                chosen[b] = s


@compiled_sums
def _layer(weight: F32, bias: F32, x: F32, out: F32, rectify: bool) -> None:
    for i in range(weight.shape[0]):
        total = bias[i]
        for j in range(weight.shape[1]):
            total += weight[i, j] * x[j]
        out[i] = max(total, np.float32(0.0)) if rectify else total


@compiled_sums
def _pool(embedding: F32, mask: Bool, b: int, pooled: F32) -> int:
    """Mean and maximum over the open choices; how many there are. `embedding` [S x H] has their rows one after the other."""
    hidden = pooled.shape[0] // 2
    count = 0
    for i in range(2 * hidden):
        pooled[i] = 0.0  # embeddings come out of a ReLU, so 0 is a lower bound of every maximum
    for s in range(mask.shape[1]):
        if mask[b, s]:
            count += 1
            for i in range(hidden):
                unit = embedding[s * hidden + i]
                pooled[i] += unit
                pooled[hidden + i] = max(pooled[hidden + i], unit)
    for i in range(hidden):
        pooled[i] /= max(count, 1)
    return count


@compiled_sums
def _head(weights: SetWeights, own: F32, context: F32) -> float:
    """Advantage of one choice."""
    total = weights.advantage_bias[0]
    for i in range(weights.own.shape[0]):
        unit = context[i]
        for j in range(weights.own.shape[1]):
            unit += weights.own[i, j] * own[j]
        total += weights.advantage[0, i] * max(unit, np.float32(0.0))
    return float(total)


@compiled_sums
def _put_on_anchor(obs: F32, mask: Bool, b: int, anchor: int, q: F32) -> None:
    """`dqn.anchor.anchored` for one fleet, in place."""
    least = np.inf
    for s in range(q.shape[1]):
        if mask[b, s]:
            least = min(least, np.expm1(obs[b, s, anchor]))
    scale = 1.0 + (least if least < np.inf else 0.0)
    for s in range(q.shape[1]):
        q[b, s] = scale * q[b, s] - np.expm1(obs[b, s, anchor])


@compiled_sums
def _forward(weights: SetWeights, obs: F32, mask: Bool, scratch: F32, q: F32) -> None:
    hidden = weights.own.shape[0]
    dueling = weights.value.shape[0] > 0
    first, pooled = scratch[:hidden], scratch[hidden : 3 * hidden]
    context, embedding = scratch[3 * hidden : 5 * hidden], scratch[5 * hidden :]
    for b in range(obs.shape[0]):
        for s in range(obs.shape[1]):
            _layer(weights.encoder_in, weights.encoder_in_bias, obs[b, s], first, True)
            _layer(weights.encoder_out, weights.encoder_out_bias, first, embedding[s * hidden : (s + 1) * hidden], True)
        count = _pool(embedding, mask, b, pooled)
        _layer(weights.context, weights.context_bias, pooled, context, False)
        shift = np.float32(0.0)
        for s in range(obs.shape[1]):
            q[b, s] = _head(weights, embedding[s * hidden : (s + 1) * hidden], context)
            if dueling and mask[b, s]:
                shift -= q[b, s] / max(count, 1)
        if dueling:
            shift += weights.value_bias[0]
            for i in range(hidden):
                shift += weights.value[0, i] * max(context[hidden + i], np.float32(0.0))
            for s in range(obs.shape[1]):
                q[b, s] += shift
        if weights.anchor >= 0:
            _put_on_anchor(obs, mask, b, weights.anchor, q)


@compiled
def weigh(
    q: F32, obs: F32, mask: Bool, feature: int, trust: float, factor: float, slack: float, lead: float, values: F32, near: Bool
) -> None:
    """`dqn.anchor.cautious`, in place: here, because a kernel calls only those of its own file."""
    for b in range(mask.shape[0]):
        least, candidates, cheapest = np.inf, 0, 0
        for s in range(mask.shape[1]):
            values[b, s] = np.expm1(obs[b, s, feature])  # the cost, until it is replaced below
            if mask[b, s] and values[b, s] < least:
                least, cheapest = values[b, s], s
        for s in range(mask.shape[1]):
            near[b, s] = mask[b, s] and values[b, s] <= least + (factor - 1.0) * abs(least) + slack
            candidates += near[b, s]
        share = trust * min(1.0, FEW / max(candidates, 1))
        for s in range(mask.shape[1]):
            values[b, s] = share * q[b, s] - (1.0 - share) * values[b, s]
        if candidates > 0:
            values[b, cheapest] += lead * (1.0 + least)


@compiled_sums
def _decide(
    weights: SetWeights,
    obs: F32,
    mask: Bool,
    trust: float,
    factor: float,
    slack: float,
    lead: float,
    scratch: F32,
    both: F32,
    near: Bool,
    chosen: I64,
) -> None:
    """`weights` have an anchor; `both` [2, B, S]: what the network says, and what counts of it."""
    _forward(weights, obs, mask, scratch, both[0])
    weigh(both[0], obs, mask, weights.anchor, trust, factor, slack, lead, both[1], near)
    _choose(both[1], near, chosen)

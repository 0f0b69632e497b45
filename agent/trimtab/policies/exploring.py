"""A network that learns from the traffic it routes: it tries things out, but never so that requests pile up.

Used by the gateway alone, one request at a time. Training in the twin explores without bounds, since nobody waits there.
"""

from pathlib import Path
from typing import Final

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.ledger import service_estimate_s
from trimtab.core.observation import F32, FEATURES
from trimtab.core.request_log import F64, I64
from trimtab.dqn.chance import Uniforms
from trimtab.dqn.checkpoint import load_checkpoint, load_network
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import QNetwork, rehearse
from trimtab.dqn.schedule import linear
from trimtab.policies.base import RoutingView
from trimtab.policies.learned import LearnedPolicy
from trimtab.policies.load import delay_given
from trimtab.policies.pick import Mask

# How much longer than at the best server a request may be expected to take. Twice: experience is needed with servers that look worse, for
# that look may be what is wrong. One mean service time more: where the best server would answer at once, twice as long is still
# next to nothing, and only one server might be left to choose from. A queue that grows at one server soon takes it out of the bound.
BOUND_FACTOR: Final = 2.0


def bounded(delay_s: F64, unit_s: F64, available: Mask) -> Mask:
    """The servers that may be chosen: open ones expected to take at most BOUND_FACTOR x the best one's delay, plus `unit_s`.

    `delay_s` [B, S], `unit_s` [B] the fleet's mean service time, `available` [B, S] with one True a row -> [B, S], one True a row too.
    """
    mask = np.empty(available.shape, dtype=np.bool_)
    for b in range(len(mask)):
        _bound(delay_s, unit_s[b], available, b, mask)
    return mask


def fleet_service_s(view: RoutingView) -> F64:
    """The fleet's mean service time as it is known now, each server weighted by its service rate.  # [B]"""
    service_s, share = service_estimate_s(view.ledger), view.ledger.class_share
    return np.array([_fleet_service_s(service_s, share, view.slots, b) for b in range(len(share))])


class Exploration:
    """How much is tried out, and the chance behind it. One for the life of a gateway, whatever models come and go."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.resume(0)

    def resume(self, decisions: int) -> None:
        """So many were recorded before: the schedules go on there."""
        self.decisions = decisions
        self._chance = Uniforms(np.random.default_rng([self._seed, decisions]))
        self._explored = False

    def choose(self, view: RoutingView, q: F32, candidates: Mask, config: DQNConfig) -> I64:
        """One server per row: `DQNAgent.act` with schedules over the decisions of the log, among `bounded`.  # q, candidates [B, S] -> [B]

        The bonus xi H of heuristically accelerated Q-learning favours the server of the least expected delay. One compiled call from the
        estimates to the choice, because a request waits for this.
        """
        epsilon = linear(config.epsilon_start, config.epsilon_end, config.epsilon_decisions, self.decisions)
        span = config.heuristic_decisions
        xi = linear(config.heuristic_weight, 0.0, span, self.decisions) if span else config.heuristic_weight
        service_s, draws = service_estimate_s(view.ledger), self._chance.take(len(q), 2)
        mask, chosen = np.empty_like(candidates), np.empty(len(q), dtype=np.int64)
        known = delay_given(view, service_s), service_s, view.ledger.class_share, view.slots, view.available
        # As floats: another type of number would be another kernel, compiled while a request waits.
        weights = float(xi), float(config.heuristic_margin), float(epsilon)
        self._explored = _choose(*known, q, candidates, *weights, draws, mask, chosen)
        self.decisions += len(q)
        return chosen

    def passed(self) -> None:
        """A decision was recorded that the network was not asked about: the schedules go on with the log."""
        self.decisions += 1

    def explored(self) -> bool:
        """Was the last choice another than the network's own? Asked once a decision: the answer is forgotten."""
        explored, self._explored = self._explored, False
        return explored


class ExploringPolicy:
    """A network under exploration, among the servers of `bounded`. `greedy` is the same network without; `seen` and `q` are its."""

    def __init__(self, name: str, network: QNetwork, config: DQNConfig, exploration: Exploration) -> None:
        self.name = name
        self.greedy = LearnedPolicy(name, network)
        self._config, self._exploration = config, exploration

    @property
    def seen(self) -> F32:
        return self.greedy.seen

    @property
    def q(self) -> F32:
        return self.greedy.q

    def reset(self, seeds: I64) -> None:
        """Nothing to forget: its chance is that of the exploration, which outlives it."""

    def select(self, view: RoutingView) -> I64:
        self.greedy.select(view)
        return self._exploration.choose(view, self.q, self.greedy.candidates, self._config)


def load_exploring(path: Path, problem: str, servers: int, exploration: Exploration, name: str = "dqn") -> ExploringPolicy:
    """The policy of a checkpoint, for fleets of `servers`. Raises `CheckpointError` where it was made for something else."""
    checkpoint = load_checkpoint(path, problem=problem, observation=FEATURES)
    network = load_network(checkpoint, servers)
    rehearse(network, servers, len(FEATURES))
    return ExploringPolicy(name, network, checkpoint.config, exploration)


@compiled
def _fleet_service_s(service_s: F64, share: F64, slots: I64, b: int) -> float:
    every, rate = 0.0, 0.0
    for s in range(slots.shape[1]):
        mean_s = 0.0
        for k in range(share.shape[1]):
            mean_s += share[b, k] * service_s[b, s, k]
        every += slots[b, s]
        rate += slots[b, s] / max(mean_s, 1e-9)
    return every / rate


@compiled
def _bound(delay_s: F64, unit_s: float, available: Mask, b: int, mask: Mask) -> None:
    best_s = np.inf
    for s in range(mask.shape[1]):
        if available[b, s]:
            best_s = min(best_s, delay_s[b, s])
    for s in range(mask.shape[1]):
        mask[b, s] = available[b, s] and delay_s[b, s] <= BOUND_FACTOR * best_s + unit_s


@compiled
def _keep_common(mask: Mask, candidates: Mask, b: int) -> None:
    """Keep in `mask` what is in `candidates` too; all of it where the two estimates share no server."""
    common = 0
    for s in range(mask.shape[1]):
        common += mask[b, s] and candidates[b, s]
    for s in range(mask.shape[1]):
        mask[b, s] = mask[b, s] and (common == 0 or candidates[b, s])


@compiled
def _first_best(q: F32, mask: Mask, b: int, lifted: int, lift: float) -> int:
    """The open server of the highest Q, where that of `lifted` counts as so much higher; ties to the lowest index."""
    best, top = -1, -np.inf
    for s in range(mask.shape[1]):
        value = q[b, s] + (lift if s == lifted else 0.0)
        if mask[b, s] and (best < 0 or value > top):
            best, top = s, value
    return best


@compiled
def _any_of(mask: Mask, b: int, draw: float) -> int:
    """An open server by a uniform draw."""
    count = 0
    for s in range(mask.shape[1]):
        count += mask[b, s]
    left = int(draw * count)
    for s in range(mask.shape[1]):
        if mask[b, s]:
            if left == 0:
                return s
            left -= 1
    return -1


@compiled
def _choose(
    delay_s: F64,
    service_s: F64,
    share: F64,
    slots: I64,
    available: Mask,
    q: F32,
    candidates: Mask,
    xi: float,
    margin: float,
    epsilon: float,
    draws: F64,
    mask: Mask,
    chosen: I64,
) -> bool:
    """Fill `chosen` [B]; whether any of them is not the network's own choice. H = max q - q(a) + margin for the heuristic's action a."""
    explored = False
    for b in range(chosen.shape[0]):
        _bound(delay_s, _fleet_service_s(service_s, share, slots, b), available, b, mask)
        _keep_common(mask, candidates, b)
        known = -1  # the heuristic's
        for s in range(mask.shape[1]):
            if mask[b, s] and (known < 0 or delay_s[b, s] < delay_s[b, known]):
                known = s
        own = _first_best(q, mask, b, -1, 0.0)
        chosen[b] = _first_best(q, mask, b, known, xi * (q[b, own] - q[b, known] + margin))
        if draws[b, 0] < epsilon:
            chosen[b] = _any_of(mask, b, draws[b, 1])
        explored |= chosen[b] != own
    return explored

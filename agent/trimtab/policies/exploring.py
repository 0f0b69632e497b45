"""A network that learns from the traffic it routes: it tries things out, but never so that requests pile up.

Used by the gateway alone, one request at a time. Training in the twin explores without bounds, since nobody waits there.
"""

from pathlib import Path
from typing import Final

import numpy as np

from trimtab.core.ledger import service_estimate_s
from trimtab.core.observation import F32, FEATURES
from trimtab.core.request_log import F64, I64
from trimtab.dqn.chance import Uniforms
from trimtab.dqn.checkpoint import load_checkpoint, load_network
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.inference import epsilon_greedy_choice, greedy_choice
from trimtab.dqn.network import QNetwork, rehearse
from trimtab.dqn.schedule import linear
from trimtab.policies.base import RoutingView
from trimtab.policies.learned import LearnedPolicy
from trimtab.policies.load import expected_delay
from trimtab.policies.pick import Mask

# How much longer than at the best server a request may be expected to take. Twice: experience is needed with servers that look worse, for
# that look may be what is wrong. One mean service time more: where the best server would answer at once, twice as long is still
# next to nothing, and only one server might be left to choose from. A queue that grows at one server soon takes it out of the bound.
BOUND_FACTOR: Final = 2.0


def bounded(delay_s: F64, unit_s: F64, available: Mask) -> Mask:
    """The servers that may be chosen: open ones expected to take at most BOUND_FACTOR x the best one's delay, plus `unit_s`.

    `delay_s` [B, S], `unit_s` [B] the fleet's mean service time, `available` [B, S] with one True a row -> [B, S], one True a row too.
    """
    best_s = np.where(available, delay_s, np.inf).min(axis=1)
    within = delay_s <= (BOUND_FACTOR * best_s + unit_s)[:, None]
    return np.ascontiguousarray(available & within)


def fleet_service_s(view: RoutingView) -> F64:
    """The fleet's mean service time as it is known now, each server weighted by its service rate.  # [B]"""
    mean_s = np.einsum("bk,bsk->bs", view.ledger.class_share, service_estimate_s(view.ledger))
    return np.asarray(view.slots.sum(axis=1) / (view.slots / np.maximum(mean_s, 1e-9)).sum(axis=1))


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

    def choose(self, q: F32, best_known: I64, mask: Mask, config: DQNConfig) -> I64:
        """One server per row: `DQNAgent.act` with schedules over the decisions of the log.  # q, mask [B, S], `best_known` [B] -> [B]

        `best_known` is the heuristic's server, which the bonus xi H of heuristically accelerated Q-learning favours.
        """
        epsilon = linear(config.epsilon_start, config.epsilon_end, config.epsilon_decisions, self.decisions)
        span = config.heuristic_decisions
        xi = linear(config.heuristic_weight, 0.0, span, self.decisions) if span else config.heuristic_weight
        chosen = epsilon_greedy_choice(
            _lifted(q, best_known, mask, xi, config.heuristic_margin), mask, epsilon, self._chance.take(len(q), 2)
        )
        self.decisions += len(q)
        self._explored = bool((chosen != greedy_choice(q, mask)).any())
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
        delay_s = expected_delay(view)
        mask = bounded(delay_s, fleet_service_s(view), view.available)
        both = mask & self.greedy.candidates
        mask = np.where(both.any(axis=1, keepdims=True), both, mask)  # a fleet where the two estimates share no server: the older one's
        best_known = np.argmin(np.where(mask, delay_s, np.inf), axis=1)
        return self._exploration.choose(self.q, best_known, mask, self._config)


def load_exploring(path: Path, problem: str, servers: int, exploration: Exploration, name: str = "dqn") -> ExploringPolicy:
    """The policy of a checkpoint, for fleets of `servers`. Raises `CheckpointError` where it was made for something else."""
    checkpoint = load_checkpoint(path, problem=problem, observation=FEATURES)
    network = load_network(checkpoint, servers)
    rehearse(network, servers, len(FEATURES))
    return ExploringPolicy(name, network, checkpoint.config, exploration)


def _lifted(q: F32, best_known: I64, mask: Mask, xi: float, margin: float) -> F32:
    """q + xi H, as `dqn.targets.heuristic_bonus`: H = max q - q(a) + margin for the heuristic's action a, 0 for others."""
    rows = np.arange(len(q))
    best = np.where(mask, q, -np.inf).max(axis=1)
    lifted = q.copy()
    lifted[rows, best_known] += xi * (best - q[rows, best_known] + margin)
    return lifted

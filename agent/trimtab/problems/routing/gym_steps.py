"""Routing episodes cut into steps with a scalar reward each, as the Gymnasium API demands, though rewards come late."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from trimtab.core.request_log import F64, I64
from trimtab.core.reward import RewardKind
from trimtab.core.scenario import Scenario
from trimtab.errors import UsageError
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.policies import catalogue
from trimtab.policies.base import RoutingView
from trimtab.problems.base import Credits
from trimtab.problems.routing.env import RoutingEnv
from trimtab.problems.routing.families import draw_named
from trimtab.problems.routing.problem import FAMILY, open_live
from trimtab.problems.routing.scenario_files import load_scenario
from trimtab.problems.routing.world import LiveWorld, TwinWorld, family_twin, fixed_twin

BACKENDS: Final = ("twin", "http")
WARMUP_POLICY: Final = "least-outstanding"  # fills the empty fleet: it needs no knowledge, and no learner's mistakes pile up in it
_SEED: Final = 0  # of all traffic; the episode number alone tells episodes apart


def open_world(scenario: str, backend: str, servers: Sequence[str], reward: RewardKind) -> tuple[TwinWorld | LiveWorld, Scenario]:
    """Where the episodes run, and a scenario with their sizes. Raises `UsageError` for what cannot be combined."""
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}; allowed: {', '.join(BACKENDS)}")
    family = scenario.startswith(FAMILY)
    sizes = draw_named(scenario.removeprefix(FAMILY), 0, 0) if family else load_scenario(scenario)
    if backend == "http":
        return _open_http(scenario, sizes, family, servers, reward), sizes
    world = family_twin(scenario.removeprefix(FAMILY), reward) if family else fixed_twin(sizes, reward)
    return world, sizes


def _open_http(scenario: str, sizes: Scenario, family: bool, servers: Sequence[str], reward: RewardKind) -> LiveWorld:
    if family:
        raise UsageError(f"{scenario!r} draws a fleet an episode, which live servers cannot be; use backend 'twin' or one scenario")
    if reward != "response":
        raise UsageError(f"reward {reward!r} on live servers; allowed: 'response'; use backend 'twin' for the integral")
    return open_live(sizes, tuple(servers))


class StepRewards:
    """B episodes in step, with the rewards of each step.

    On the twin a decision is charged, at its own step, minus the response time that the present fixes; when the request completes,
    the step at hand gets the difference to what really happened (a crash, a freeze, a failure). On live servers nothing is fixed, so
    a step gets the rewards of all that completed since the last one. The last step gets the rest, hence an episode's sum is that of
    `own_response` over all its decisions. (reward "integral": the interval from a decision to the next arrival, its own by definition.)
    """

    def __init__(self, env: RoutingEnv) -> None:
        self._env = env
        self._decisions = env.plan.decisions
        self._decision = 0
        self._charged = np.zeros((env.batch, 0))

    def begin(self, episodes: Sequence[int]) -> RoutingView:
        """The first decision that counts of each episode [B]."""
        policy = catalogue.build(WARMUP_POLICY)
        policy.reset(np.array(episodes, dtype=np.int64))  # so that the number says everything about an episode
        view = self._env.reset(_SEED, episodes)
        while self._env.warming:
            view = self._env.step(policy.select(view)) or view  # never None: decisions follow the warm-up
        self._env.credits()  # an interval that ended in the warm-up is nobody's
        self._decision = 0
        self._charged = np.zeros((len(episodes), self._decisions))  # [B, D]
        self._unit_s = np.array([one.fleet_service_s() for one in self._env.fleet.scenarios])  # [B]
        return view

    def step(self, actions: I64) -> tuple[RoutingView, F64, Credits, bool]:
        """The next view, rewards [B], the rewards that became known with their decisions, and whether this was the last step."""
        view = self._env.step(actions)
        ended = view is None
        if view is None:
            view = self._env.closing()
        rewards = self._charge()
        self._decision += 1
        credits = self._env.credits()
        rewards += self._settled(credits)
        return view, rewards, credits, ended

    def settle(self) -> tuple[F64, Credits]:
        """Wait for the last requests and return their rewards [B]; call after the last step, when its view has been read."""
        self._env.drain()
        credits = self._env.credits()
        return self._settled(credits), credits

    def _charge(self) -> F64:
        fleet = self._env.fleet
        charge = np.zeros(len(self._unit_s))
        if isinstance(fleet, SimulatedFleet) and self._env.plan.reward == "response":
            charge = -fleet.foreseen_latency_s(self._env.plan.warmup + self._decision) / self._unit_s
            self._charged[:, self._decision] = charge
        return charge

    def _settled(self, credits: Credits) -> F64:
        actual = np.where(credits.valid, credits.reward, 0.0)  # what cannot be measured costs nothing, as in the episode's total
        known = actual - self._charged[credits.episode, credits.decision]
        return np.bincount(credits.episode, known, minlength=len(self._unit_s)).astype(np.float64)

"""Where routing episodes run: the twin of a scenario, the twins of a family, or live servers."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from trimtab.core.observation import observation
from trimtab.core.request_log import F64
from trimtab.core.reward import RewardKind
from trimtab.core.scenario import Scenario
from trimtab.core.tally import Tallies
from trimtab.core.traffic import draw_batch
from trimtab.errors import UsageError
from trimtab.fleets.base import Episodes, Fleet
from trimtab.fleets.http import HttpFleet
from trimtab.fleets.local import LocalServers
from trimtab.fleets.proxied import ProxiedFleet
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.policies import catalogue
from trimtab.policies.base import RoutingView
from trimtab.problems.routing.calibration import measure
from trimtab.problems.routing.env import Plan, RoutingEnv
from trimtab.problems.routing.families import draw_for_training, draw_named
from trimtab.problems.routing.proxied import ProxiedEnv
from trimtab.problems.routing.scenario_files import load_trace, save_scenario

TRAINING_WARMUP: Final = 64  # decisions that fill an empty live fleet: about fifteen a server of the default fleet
# In the twin they cost little, and what is known of servers is part of the state: with 64 a network learns to decide among servers that it
# hardly knows, and on random fleets with slow spells it ended behind the estimate that it began with.
TWIN_WARMUP: Final = 600
_CHANCE_KEY: Final = (1,)  # spawn key of what servers draw, apart from traffic


class TwinWorld:
    """Simulated fleets. `draw` gives the scenario of an episode; a fixed scenario is a draw that never changes."""

    backend = "twin"

    def __init__(
        self,
        scenario_id: str,
        draw: Callable[[int, int], Scenario],
        *,
        fixed: bool,
        reward: RewardKind = "response",
        draw_for_training: Callable[[int, int], Scenario] | None = None,
    ) -> None:
        self.scenario_id = scenario_id
        self.note = f"twin of {scenario_id}"
        self._draw = draw
        self._draw_for_training = draw_for_training or draw
        self._fixed = fixed
        self._reward: RewardKind = reward

    def training_env(self, decisions: int, batch: int) -> RoutingEnv:
        return self._env(Plan(TWIN_WARMUP, decisions, closing=True, reward=self._reward), batch, self._draw_for_training)

    def evaluation_env(self, batch: int) -> RoutingEnv:
        first = self._draw(0, 0)
        return self._env(Plan(first.warmup, first.requests, closing=False, reward=self._reward), batch, self._draw)

    def rival_env(self, name: str) -> None:
        """No real proxy stands before simulated servers."""

    def episode_s(self) -> float:
        return 0.0

    def calibrate(self, path: Path) -> "TwinWorld":
        raise UsageError(f"calibration measures live servers, and this is the {self.note}; use --backend hybrid or http")

    def describe(self) -> Mapping[str, Any]:
        return {"backend": self.backend, "scenario": self.scenario_id}

    def close(self) -> None:
        """Nothing to let go of."""

    def _env(self, plan: Plan, batch: int, draw: Callable[[int, int], Scenario]) -> RoutingEnv:
        kept: list[SimulatedFleet] = []  # the fleets of the last reset, of this environment alone

        def build(seed: int, episodes: Sequence[int]) -> tuple[Fleet, Episodes]:
            scenarios = tuple(draw(seed, number) for number in episodes)
            if not self._fixed or not kept or len(kept[0].scenarios) != len(scenarios):
                kept[:] = [SimulatedFleet(scenarios)]
            return kept[0], draw_episodes(scenarios, plan, seed, episodes)

        return RoutingEnv(build, plan, batch)


class LiveWorld:
    """Live servers, one episode at a time."""

    backend = "http"

    def __init__(
        self, scenario: Scenario, urls: Sequence[str], note: str, local: LocalServers | None = None, reward: RewardKind = "response"
    ) -> None:
        self.scenario = scenario
        self.scenario_id = scenario.id
        self.note = note
        self._local = local
        self._reward: RewardKind = reward
        rehearse(scenario)
        self._fleet = HttpFleet(scenario, urls)
        self._proxied: ProxiedFleet | None = None  # of the last rival's episode

    @property
    def fleet(self) -> HttpFleet:
        return self._fleet

    def training_env(self, decisions: int, batch: int) -> RoutingEnv:
        return self._env(Plan(TRAINING_WARMUP, decisions, closing=True, reward=self._reward))

    def evaluation_env(self, batch: int) -> RoutingEnv:
        return self._env(Plan(self.scenario.warmup, self.scenario.requests, closing=False))

    def rival_env(self, name: str) -> RoutingEnv | None:
        if name not in catalogue.PROXY_NAMES:
            return None

        def build(seed: int, episodes: Sequence[int]) -> tuple[Fleet, Episodes]:
            self._close_proxied()  # one at a time: each has as many threads as the direct client
            self._proxied = ProxiedFleet(self.scenario, self._fleet.client.urls, name)
            return self._proxied, draw_episodes([self.scenario], plan, seed, episodes)

        plan = Plan(self.scenario.warmup, self.scenario.requests, closing=False)
        return ProxiedEnv(build, plan, 1)

    def episode_s(self) -> float:
        return (self.scenario.warmup + self.scenario.requests) / self.scenario.rate_rps()

    def calibrate(self, path: Path) -> TwinWorld:
        """Measure the servers (about ten seconds for the default fleet) and return their twin."""
        measured = measure(self.scenario, self._fleet.client)
        path.parent.mkdir(parents=True, exist_ok=True)
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        save_scenario(path, measured, description=f"{self.scenario.id} as measured on live servers at {when}")
        return fixed_twin(measured, self._reward)

    def describe(self) -> Mapping[str, Any]:
        return {"backend": self.backend, "scenario": self.scenario_id, "servers": list(self._fleet.client.urls)}

    def close(self) -> None:
        self._close_proxied()
        self._fleet.close()
        if self._local is not None:
            self._local.stop()

    def _close_proxied(self) -> None:
        if self._proxied is not None:
            self._proxied.close()
            self._proxied = None

    def _env(self, plan: Plan) -> RoutingEnv:
        def build(seed: int, episodes: Sequence[int]) -> tuple[Fleet, Episodes]:
            return self._fleet, draw_episodes([self.scenario], plan, seed, episodes)

        return RoutingEnv(build, plan, 1)


def rehearse(scenario: Scenario) -> None:
    """Run every kernel once on a single fleet: compiling one for twenty seconds while requests are due would make them all late."""
    env = fixed_twin(replace(scenario, warmup=0, requests=8)).evaluation_env(1)
    env.count_into(Tallies(), "rehearsal")
    for name in catalogue.NAMES:
        policy = catalogue.build(name)
        policy.reset(np.zeros(1, dtype=np.int64))
        view: RoutingView | None = env.reset(0, [0])
        while view is not None:
            observation(view)
            view = env.step(policy.select(view))


def fixed_twin(scenario: Scenario, reward: RewardKind = "response") -> TwinWorld:
    """The twin of one scenario."""
    return TwinWorld(scenario.id, lambda _seed, _episode: scenario, fixed=True, reward=reward)


def family_twin(name: str, reward: RewardKind = "response") -> TwinWorld:
    """Twins of a family: every episode has a fleet of its own."""
    draw_named(name, 0, 0)  # an unknown name is an error now
    return TwinWorld(
        f"family:{name}",
        lambda seed, episode: draw_named(name, seed, episode),
        fixed=False,
        reward=reward,
        draw_for_training=lambda seed, episode: draw_for_training(name, seed, episode),
    )


def draw_episodes(scenarios: Sequence[Scenario], plan: Plan, seed: int, episodes: Sequence[int]) -> Episodes:
    """The arrivals of a plan: the scenario's traffic, cut or lengthened to the plan's number of requests."""
    planned = _same(scenarios, lambda one: replace(one, warmup=0, requests=plan.arrivals))
    traces: list[F64 | None] = [load_trace(one) for one in scenarios] if scenarios[0].traffic.kind == "trace" else [None] * len(scenarios)
    drawn = draw_batch(planned, seed, episodes, traces)
    chance = [np.random.SeedSequence([seed, one], spawn_key=_CHANCE_KEY).generate_state(1, np.uint64)[0] for one in episodes]
    return Episodes(drawn.arrival_s, drawn.request_class, drawn.work_s, np.array(chance, dtype=np.uint64))


def _same(scenarios: Sequence[Scenario], change: Callable[[Scenario], Scenario]) -> list[Scenario]:
    """Changed scenarios; one that stands in many places is changed once, which is most of the cost of a batch."""
    changed = {id(one): change(one) for one in {id(one): one for one in scenarios}.values()}
    return [changed[id(one)] for one in scenarios]

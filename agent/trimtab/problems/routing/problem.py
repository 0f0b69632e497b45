"""The routing problem: its scenarios, policies, metrics and worlds."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from trimtab.core.observation import EXPECTED_COST, F32, FEATURES, observation
from trimtab.core.reward import REWARDS, RewardKind
from trimtab.core.scenario import Scenario
from trimtab.errors import FleetError, UsageError
from trimtab.fleets.client import ServerClient, check_url
from trimtab.fleets.local import LocalServers
from trimtab.fleets.proxies import PROXIES, Proxy
from trimtab.policies import catalogue
from trimtab.policies.base import Policy, RoutingView
from trimtab.policies.rivals import Rival
from trimtab.problems.base import RivalProgram, Task, World
from trimtab.problems.routing.families import FAMILIES, draw_named
from trimtab.problems.routing.scenario_files import check_scenario, list_scenarios, load_scenario
from trimtab.problems.routing.world import LiveWorld, family_twin, fixed_twin

FAMILY: Final = "family:"
MEMBERSHIP: Final = {"leave", "join"}  # faults that the balancer hears of, and servers do not
COMPOSE_PORTS: Final = range(8081, 8085)  # where docker-compose.yml publishes the default fleet
COMPOSE_NOTE: Final = f"Compose fleet at localhost:{COMPOSE_PORTS[0]}-{COMPOSE_PORTS[-1]}"


class Routing:
    """Route each HTTP request to one of S unequal servers."""

    id = "routing"
    features = FEATURES
    training_metrics = (
        "gini_coefficient",
        "utilization_std",
        "optimal_decision_rate",
        "mean_latency_ms",
        "p95_latency_ms",
        "p99_latency_ms",
        "error_rate",
    )
    evaluation_metrics = (
        "requests",
        "mean_latency_ms",
        "p50_latency_ms",
        "p95_latency_ms",
        "p99_latency_ms",
        "p999_latency_ms",
        "slo_attainment",
        "error_rate",
        "throughput_rps",
        "gini_coefficient",
        "utilization_std",
        "optimal_decision_rate",
        "schedule_lag_ms",
    )
    rewards: tuple[str, ...] = REWARDS
    backends: tuple[str, ...] = ("hybrid", "twin", "http")
    default_scenario = "compose-default"
    default_policies = (catalogue.LEARNED, *catalogue.NAMES)
    learner_defaults: Mapping[str, Any] = MappingProxyType(
        {
            "anchor": EXPECTED_COST,
            "average": 0.001,
            "learning_rate_updates": 4000,
            "batch": 512,
            "decisions_per_update": 128,
            # It starts from an estimate that is good already: there is little to try out blindly.
            "epsilon_start": 0.1,
            "epsilon_decisions": 300_000,
        }
    )
    # Rollouts are so much less noisy than rewards that fewer and larger gradient steps do, and the network can be trusted more.
    rollout_defaults: Mapping[str, Any] = MappingProxyType(
        {
            "hidden": 32,  # as good as 64 here, and most of the time goes into the copies' decisions
            "rollout_exponent": 1.4,  # at 1 the mean gains a little more, and fleets without moods lose in the tail
            "rollout_capacity": 50_000,
            "batch": 1024,
            "learning_rate": 1e-3,
            "learning_rate_updates": 600,
            "average": 0.01,
            "epsilon_start": 0.05,
            "learn_start": 1024,  # of the live decisions of a hybrid run, which may be few
            "trust": 0.6,
            "lead": 0.06,
        }
    )
    branches = True
    yardsticks = ("sed-online", "least-outstanding")  # the strongest, and the strongest that is blind to classes

    def choices(self, task: Task) -> int:
        return len(self._scenario(task).servers)

    def scenario_ids(self) -> list[tuple[str, str]]:
        families = [(f"{FAMILY}{name}", f"{family.doc}; {FAMILY}{name}:16 has 16 servers") for name, family in FAMILIES.items()]
        return [*list_scenarios(), *families]

    def check_scenario(self, path: str) -> str:
        found = check_scenario(Path(path))
        load, capacity = found.rate_rps() / found.capacity_rps(), found.capacity_rps()
        size = f"{len(found.servers)} servers, {len(found.classes)} classes, {found.warmup} + {found.requests} requests"
        return f"valid: {found.id}, {size}, {found.rate_rps():.4g} requests/s, load {load:.3g} of {capacity:.4g} requests/s"

    def observe(self, view: RoutingView) -> F32:
        return observation(view)

    def build_policy(self, name: str) -> Policy:
        return Rival(name) if name in catalogue.PROXY_NAMES else catalogue.build(name)

    def rivals(self, task: Task) -> list[RivalProgram]:
        return [RivalProgram(one.name, one.summary, self._why_not(one, task)) for one in PROXIES]

    def load_policy(self, model: Path, choices: int) -> Policy:
        # By name: torch takes a second to import, and only learned policies need it.
        learned = importlib.import_module("trimtab.policies.learned")
        return cast(Policy, learned.load_policy(model, self.id, choices))

    def policy_list(self) -> list[tuple[str, str]]:
        rows = [(one.name, f"{one.kind}: {one.summary}") for one in catalogue.CATALOGUE]
        return [(catalogue.LEARNED, f"learned: {catalogue.LEARNED_SUMMARY}"), *rows]

    def open(self, task: Task) -> World:
        reward = reward_kind(task.reward)
        if task.backend == "twin":
            if task.scenario.startswith(FAMILY):
                return family_twin(task.scenario.removeprefix(FAMILY), reward)
            return fixed_twin(load_scenario(task.scenario), reward)
        if task.scenario.startswith(FAMILY):
            raise UsageError(f"{task.scenario!r} draws a fleet an episode, which live servers cannot; use --backend twin or one scenario")
        return open_live(load_scenario(task.scenario), task.servers, reward)

    def _why_not(self, one: Proxy, task: Task) -> str:
        if task.backend != "http":
            return f"a real proxy stands before live servers, and the backend is {task.backend}; use --backend http, or leave it out"
        moving = {fault.kind for fault in self._scenario(task).faults} & MEMBERSHIP
        if moving:
            return f"scenario {task.scenario!r} has servers that {' and '.join(sorted(moving))}, which a proxy is not told; leave it out"
        return one.missing

    def _scenario(self, task: Task) -> Scenario:
        if task.scenario.startswith(FAMILY):
            return draw_named(task.scenario.removeprefix(FAMILY), 0, 0)
        return load_scenario(task.scenario)


def reward_kind(name: str) -> RewardKind:
    """The reward of that name, the default for none. Raises `UsageError`."""
    for kind in REWARDS:
        if name in {kind, ""}:
            return kind
    raise UsageError(f"unknown reward {name!r}; allowed: {', '.join(REWARDS)}; choose one with --reward")


def open_live(scenario: Scenario, urls: tuple[str, ...], reward: RewardKind = "response") -> LiveWorld:
    """The given servers; else those that the scenario names; else the Compose fleet where it answers; else local processes."""
    if urls:
        return LiveWorld(scenario, [check_url(url) for url in urls], f"live servers {', '.join(urls)}", reward=reward)
    named = [one.url for one in scenario.servers if one.url is not None]
    if len(named) == len(scenario.servers):
        return LiveWorld(scenario, named, f"live servers of {scenario.id}: {', '.join(named)}", reward=reward)
    published = compose_fleet(scenario)
    if published is not None:
        return LiveWorld(scenario, published, COMPOSE_NOTE, reward=reward)
    faults = any(one.kind not in MEMBERSHIP for one in scenario.faults)
    local = LocalServers(scenario, faults_enabled=faults)
    local.start()
    try:
        return LiveWorld(scenario, local.urls, f"{len(local.urls)} local server processes", local, reward)
    except BaseException:
        local.stop()  # also on Ctrl-C: no process is left behind
        raise


def compose_fleet(scenario: Scenario) -> tuple[str, ...] | None:
    """The addresses that docker-compose.yml publishes, where servers of this scenario's ids answer on them."""
    if len(scenario.servers) != len(COMPOSE_PORTS):
        return None
    client = ServerClient([f"http://localhost:{port}" for port in COMPOSE_PORTS], connections=1)
    try:
        answering = [state.get("id") for state in client.states()]
    except FleetError:
        return None
    finally:
        client.close()
    return client.urls if answering == list(scenario.server_ids) else None

"""Routed requests a second in the twin, and the cost of one decision as the fleet grows.

    PYTHONPATH=agent python tests/benchmarks/twin.py --seconds 0.2 --rounds 1

Each of two processes routes a batch of fleets of its own, through the environment that evaluation uses.
Compilation and the metrics of finished episodes are not counted. Every policy is shown without and with the drawing of arrivals.
"""

import argparse
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing.synchronize import Barrier

import numpy as np
import torch
from measuring import alternate, median_and_range, number, parser, print_machine, print_table

from trimtab.core.observation import FEATURES
from trimtab.core.scenario import Scenario
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network
from trimtab.experiments.evaluate import evaluate
from trimtab.experiments.loop import play
from trimtab.experiments.seeding import policy_seeds
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.policies import catalogue
from trimtab.policies.base import Policy
from trimtab.policies.learned import LearnedPolicy
from trimtab.problems.routing.env import Plan, RoutingEnv
from trimtab.problems.routing.scenario_files import load_scenario
from trimtab.problems.routing.world import draw_episodes, fixed_twin

BATCHES = (256, 1024)
SIZES = (4, 16, 64, 256, 1000)
NETWORK = "set network"
CLASSICAL = ("least-outstanding", *(name for name in catalogue.of_kind("class-blind", "class-aware") if name != "least-outstanding"))
BY_SIZE = ("least-outstanding", "peak-ewma", "sed-online", NETWORK)


def main() -> None:
    args = _parser().parse_args()
    torch.set_num_threads(1)  # processes are the parallelism; torch's threads would fight them for the cores
    print_machine("twin")
    lanes = Lanes(args.processes)
    for batch in args.batches:
        _print_throughput(lanes, batch, args)
    lanes.pool.shutdown()
    _print_decisions(load_scenario("compose-default"), args)


def _parser() -> argparse.ArgumentParser:
    made = parser("Routed requests a second in the twin, and microseconds a decision by fleet size.")
    made.add_argument("--processes", type=int, default=2, metavar="N", help="batches side by side, one a process (default 2)")
    made.add_argument("--batches", type=int, nargs="+", default=BATCHES, metavar="B", help="fleets in a batch (default 256 1024)")
    made.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="S", help="servers in a fleet (default 4 16 64 256 1000)")
    return made


def _build(name: str, servers: int) -> Policy:
    if name != NETWORK:
        return catalogue.build(name)
    network = build_network(DQNConfig(), len(FEATURES), servers, torch.Generator().manual_seed(0))
    return LearnedPolicy(NETWORK, network)


# Throughput


_ready: list[Barrier] = []  # of a worker process: where all of them wait until everyone has drawn


def _enter(ready: Barrier) -> None:
    torch.set_num_threads(1)
    _ready.append(ready)


def _route(name: str, batch: int, requests: int, place: int) -> tuple[float, float, float]:
    """One process's share: draw `requests` requests of each fleet, wait for the others, route. When it started, began to route, ended."""
    started = time.perf_counter()
    scenarios, plan = [load_scenario("compose-default")] * batch, Plan(warmup=0, decisions=requests, closing=False)
    numbers, policy = range(place * batch, (place + 1) * batch), _build(name, 4)
    drawn = draw_episodes(scenarios, plan, 0, numbers)
    fleet = SimulatedFleet(scenarios)
    env = RoutingEnv(lambda _seed, _episodes: (fleet, drawn), plan, batch)
    policy.reset(policy_seeds(0, numbers))
    _ready[0].wait(60)
    began = time.perf_counter()
    for _ in play(env, policy.select, 0, numbers):
        pass
    env.drain()
    return started, began, time.perf_counter()


class Lanes:
    """Processes that route side by side. `time.perf_counter` is one clock for all processes of a machine."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.count = count
        self.pool = ProcessPoolExecutor(count, context, _enter, (context.Barrier(count),))

    def rates(self, name: str, batch: int, requests: int) -> tuple[float, float]:
        """Requests a second of all lanes together: routing alone, and with the drawing of arrivals."""
        jobs = [self.pool.submit(_route, name, batch, requests, place) for place in range(self.count)]
        spans = [job.result() for job in jobs]
        routed, ended = self.count * batch * requests, max(end for _, _, end in spans)
        return routed / (ended - min(began for _, began, _ in spans)), routed / (ended - min(started for started, _, _ in spans))

    def requests_for(self, seconds: float, name: str, batch: int) -> int:
        """Requests of each fleet that take about `seconds`; also compiles what is not compiled yet. At most the scenario's 2200."""
        self.rates(name, batch, 8)
        rate, _ = self.rates(name, batch, 100)
        return int(min(2200, max(50, seconds * rate / (batch * self.count))))


def _print_throughput(lanes: Lanes, batch: int, args: argparse.Namespace) -> None:
    names = (*CLASSICAL, NETWORK)
    requests = {name: lanes.requests_for(args.seconds, name, batch) for name in names}
    with_drawing: dict[str, list[float]] = {name: [] for name in names}

    def measure(name: str) -> float:
        routing, drawing = lanes.rates(name, batch, requests[name])
        with_drawing[name].append(drawing)
        return routing

    found = alternate({name: lambda name=name: measure(name) for name in names}, args.rounds)  # type: ignore[misc]
    print(f"requests/s, {lanes.count} processes x {batch} fleets of 4 servers, medians of {args.rounds}")
    base = statistics.median(found[names[0]])
    rows = [
        [name, *median_and_range(found[name]), number(statistics.median(found[name]) / base), number(statistics.median(with_drawing[name]))]
        for name in names
    ]
    print_table(["policy", "routing", "range", "ratio", "with drawing"], rows)


# Decisions


def fleet_of(scenario: Scenario, servers: int, decisions: int) -> Scenario:
    """`servers` servers: the scenario's own, again and again under new ids, at the same load."""
    own = scenario.servers
    repeated = tuple(replace(own[i % len(own)], id=f"server-{i + 1}") for i in range(servers))
    return replace(scenario, servers=repeated, warmup=0, requests=decisions)


def _decision_us(scenario: Scenario, name: str, servers: int, batch: int, decisions: int) -> float:
    world = fixed_twin(fleet_of(scenario, servers, decisions))
    rows = next(evaluate(world, [_build(name, servers)], batch, seed=0))
    return float(np.mean([float(row["decision_us"] or 0.0) for row in rows]))


def _print_decisions(scenario: Scenario, args: argparse.Namespace) -> None:
    for batch in (1, 64):
        cells: dict[str, list[str]] = {name: [name] for name in BY_SIZE}
        for size in args.sizes:
            decisions = max(30, min(400, int(400 * args.seconds * 64 / size / batch)))
            variants = {name: lambda name=name: _decision_us(scenario, name, size, batch, decisions) for name in BY_SIZE}  # type: ignore[misc]  # noqa: B023 - called within the loop
            for name, values in alternate(variants, args.rounds).items():
                cells[name].append(number(statistics.median(values)))
        print(f"microseconds a decision, {batch} fleet{'s' * (batch > 1)} at once, by number of servers")
        print_table(["policy", *(str(size) for size in args.sizes)], list(cells.values()))


if __name__ == "__main__":
    main()

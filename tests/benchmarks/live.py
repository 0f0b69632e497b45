"""Decisions a second over real HTTP: a classical policy, a learner, and the bare client beside them.

    PYTHONPATH=agent python tests/benchmarks/live.py --seconds 0.5 --rounds 1

Four local server processes of 16 slots each serve requests of 1 ms of fixed work. Arrivals are offered far above what the machine can
do, and the number of requests in flight is bounded, so completed / elapsed is what the environment can do. The bare client is the same
client stack with as many threads and nothing around it. The bound is the one that suits the bare client best, the same for all three.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from measuring import alternate, median_and_range, number, parser, print_machine, print_table

from trimtab.core.scenario import RequestClass, Scenario, Server, Traffic
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.config import DQNConfig
from trimtab.experiments.loop import play
from trimtab.experiments.train import Stage, Trainer
from trimtab.fleets.client import ServerClient
from trimtab.fleets.http import HttpFleet
from trimtab.fleets.local import LocalServers
from trimtab.policies import catalogue
from trimtab.problems.routing.env import Plan, RoutingEnv
from trimtab.problems.routing.problem import Routing
from trimtab.problems.routing.world import draw_episodes, fixed_twin

SERVERS, SLOTS, WORK_S = 4, 16, 0.001
OFFERED_RPS = 3000.0  # several times what two cores can send and serve
USUAL_RPS = 800.0  # from --seconds to a number of requests
TWIN_EPISODES = 100  # fill the learner's replay, so that the live episodes make gradient steps


def main() -> None:
    args = _parser().parse_args()
    torch.set_num_threads(1)  # as the training command does
    print_machine("HTTP environment")
    scenario = fast_fleet(max(200, int(args.seconds * USUAL_RPS)))
    with LocalServers(scenario) as servers:
        bound = _best_bound(scenario, servers.urls, args)
        _print_three(scenario, servers.urls, bound, args)


def _parser() -> argparse.ArgumentParser:
    made = parser("Decisions a second of the HTTP environment, beside the bare client.")
    made.add_argument("--policy", default="least-outstanding", choices=catalogue.NAMES, metavar="NAME", help="default least-outstanding")
    made.add_argument("--in-flight", type=int, nargs="+", default=(16, 32, 64), metavar="N", help="bounds to try (default 16 32 64)")
    return made


def fast_fleet(requests: int) -> Scenario:
    """Equal servers with slots to spare and 1 ms of work: what is measured is the way there and back."""
    page = RequestClass("page", share=1.0, work_s=WORK_S, distribution="fixed", spread=0.0)
    servers = tuple(Server(f"server-{i + 1}", SLOTS, {"page": 1.0}, queue_limit=256) for i in range(SERVERS))
    return Scenario("fast", (page,), servers, Traffic(rate_rps=OFFERED_RPS), requests=requests)


# The bare client


def bare_client(urls: Sequence[str], threads: int, requests: int) -> float:
    """Requests a second of `threads` threads that send as fast as answers come, servers in turn."""
    client = ServerClient(urls, threads)

    def send(first: int) -> None:
        for i in range(first, requests, threads):
            client.send(i % len(urls), "/job/page", {"X-Work": "1.000000", "X-Request-Id": f"0-{i}"})

    workers = [threading.Thread(target=send, args=(first,)) for first in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed_s = time.perf_counter() - started
    client.close()
    return requests / elapsed_s


def _best_bound(scenario: Scenario, urls: Sequence[str], args: argparse.Namespace) -> int:
    """Threads with which the bare client is fastest."""
    variants = {str(n): lambda n=n: bare_client(urls, n, scenario.requests) for n in args.in_flight}  # type: ignore[misc]
    found = {name: statistics.median(values) for name, values in alternate(variants, args.rounds).items()}
    print("bare client, requests/s by requests in flight:", ", ".join(f"{name}: {number(rate)}" for name, rate in found.items()))
    return int(max(found, key=lambda name: found[name]))


# The environment


class Live:
    """A live world whose fleet has at most `in_flight` requests outstanding; every episode has the scenario's length."""

    backend = "http"

    def __init__(self, scenario: Scenario, urls: Sequence[str], in_flight: int) -> None:
        self.scenario = scenario
        self._fleet = HttpFleet(scenario, urls, concurrency=in_flight)

    def training_env(self, _decisions: int = 0, _batch: int = 1) -> RoutingEnv:
        plan = Plan(warmup=0, decisions=self.scenario.requests, closing=True)
        return RoutingEnv(lambda seed, episodes: (self._fleet, draw_episodes([self.scenario], plan, seed, episodes)), plan, 1)

    def close(self) -> None:
        self._fleet.close()


def decide(live: Live, policy_name: str) -> float:
    """Decisions a second of one episode, from the first dispatch to the last answer."""
    env, policy = live.training_env(), catalogue.build(policy_name)
    policy.reset(np.zeros(1, dtype=np.int64))
    started = time.perf_counter()
    for _ in play(env, policy.select, 0, [0]):
        pass
    env.drain()
    return _checked(env) / (time.perf_counter() - started)


def _checked(env: RoutingEnv) -> int:
    """The number of decisions of an episode; a failed request would count as a fast one."""
    error_rate = env.metrics()[0]["error_rate"]
    if error_rate > 0.0:
        raise SystemExit(f"{error_rate:.1%} of the requests failed: the measurement means nothing")
    return env.plan.decisions


def learning(live: Live, rounds: int) -> Callable[[], float]:
    """A measurement of one training episode: decisions a second with acting, remembering and the gradient steps that follow."""
    problem: Any = Routing()
    trainer = Trainer(problem, DQNAgent(DQNConfig(), len(problem.features), SERVERS, seed=0), seed=0)
    stages: list[Any] = [Stage(fixed_twin(live.scenario), TWIN_EPISODES), Stage(live, TWIN_EPISODES + 1 + rounds)]  # type: ignore[arg-type]
    episodes = trainer.run(stages)
    next(episodes)  # the twin's, and one live episode that compiles what a single fleet needs
    next(episodes)

    def measure() -> float:
        before, started = trainer.agent.updates, time.perf_counter()
        next(episodes)
        elapsed_s = time.perf_counter() - started
        if trainer.agent.updates == before:
            raise SystemExit("no gradient step was made: the measurement means nothing; use more --seconds")
        return live.scenario.requests / elapsed_s

    return measure


def _print_three(scenario: Scenario, urls: Sequence[str], bound: int, args: argparse.Namespace) -> None:
    deciding, training = Live(scenario, urls, bound), Live(replace(scenario, id="fast-training"), urls, bound)
    decide(deciding, args.policy)  # compiles what is not compiled yet
    variants = {
        "bare client": lambda: bare_client(urls, bound, scenario.requests),
        args.policy: lambda: decide(deciding, args.policy),
        "learning": learning(training, args.rounds),
    }
    found = alternate(variants, args.rounds)
    deciding.close()
    training.close()
    base = statistics.median(found["bare client"])
    print(f"decisions/s, {bound} requests in flight, {scenario.requests} requests a round, medians of {args.rounds}")
    rows = [[name, *median_and_range(values), number(statistics.median(values) / base)] for name, values in found.items()]
    print_table(["variant", "decisions/s", "range", "ratio"], rows)


if __name__ == "__main__":
    main()

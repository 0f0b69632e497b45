"""B routing episodes in step: arrivals from traffic, a view from the ledger, a server from the policy, outcomes from the fleet.

This is the pull driver, which owns time. Twin and live fleet run under the same lines.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trimtab.core import ledger
from trimtab.core.branching import rows_of
from trimtab.core.ledger import Ledger, empty_ledger, record_dispatch, record_outcomes
from trimtab.core.metrics import Flags, episode_metrics
from trimtab.core.request_log import F64, FAILED, I64, SERVED, Outcomes, RequestLog, finished_requests
from trimtab.core.reward import RewardKind, in_system_integral, own_response
from trimtab.core.scenario import Scenario
from trimtab.core.tally import Key, Tallies, Tally, tally_decisions, tally_outcomes
from trimtab.core.view import View
from trimtab.errors import UsageError
from trimtab.fleets.base import Episodes, Fleet, Oracle
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.policies.base import Policy, RoutingView
from trimtab.problems.base import Credits, Mask
from trimtab.problems.routing.hearing import Hearing

_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long the episodes are and what is rewarded."""

    warmup: int  # decisions before the first that counts
    decisions: int  # decisions that count
    closing: bool  # one more arrival after the last decision, to bootstrap from
    reward: RewardKind = "response"

    @property
    def arrivals(self) -> int:
        return self.warmup + self.decisions + self.closing


class RoutingEnv:
    """See `problems.base.BatchEnv`. `build` makes the fleet and draws the episodes of a seed and episode numbers."""

    def __init__(self, build: Callable[[int, Sequence[int]], tuple[Fleet, Episodes]], plan: Plan, batch: int) -> None:
        self.plan = plan
        self.batch = batch
        self.realtime = False
        self._build = build
        self._fleet: Fleet
        self._ledger: Ledger
        self._request = 0
        self._new: list[Outcomes] = []
        self._integral: list[F64] = []
        self._counting: tuple[Tallies, str] | None = None
        self._tally: Tally | None = None

    @property
    def warming(self) -> bool:
        return self._request < self.plan.warmup

    @property
    def fleet(self) -> Fleet:
        return self._fleet

    def count_into(self, tallies: Tallies, policy: str) -> None:
        self._counting = (tallies, policy)

    def reset(self, seed: int, episodes: Sequence[int]) -> RoutingView:
        """Empty servers, a new ledger, and the view of the first arrival."""
        self._fleet, drawn = self._build(seed, episodes)
        self.batch, self.realtime = len(episodes), self._fleet.realtime
        self._fleet.reset(drawn)
        scenarios = self._fleet.scenarios
        servers, classes = len(scenarios[0].servers), len(scenarios[0].classes)
        self._slots = np.array([[s.slots for s in one.servers] for one in scenarios], dtype=np.int64)
        self._ledger = empty_ledger(self.batch, servers, classes, self.plan.arrivals, self._slots)
        self._rates = np.array([one.service_rate_rps() for one in scenarios])
        self._unit_s = np.array([one.fleet_service_s() for one in scenarios])
        self._request, self._new, self._integral = 0, [], []
        self._hearing = Hearing(self._fleet, self._slots)
        self._tally = self._present_tally()
        return self._arrive()

    def step(self, actions: I64) -> RoutingView | None:
        """Send the current request of each fleet; the view of the next, None after the last."""
        self._fleet.dispatch(self._request, actions)
        self._hearing.dispatched()
        self._book_decision(actions)
        self._request += 1
        if self._request == self.plan.warmup + self.plan.decisions:
            return None
        return self._arrive()

    def closing(self) -> RoutingView:
        """The view of the arrival after the last decision."""
        return self._arrive()

    def drain(self) -> None:
        """Let everything in flight complete."""
        self._take(self._fleet.wait_until(np.full(self.batch, np.inf)))

    def credits(self) -> Credits:
        """Rewards that became known since the last call, for decisions after the warm-up."""
        if self.plan.reward == "integral":
            return self._integral_credits()
        parts = [self._credit(one) for one in self._new]
        self._new = []
        if not parts:
            return Credits(_NOTHING, _NOTHING, np.zeros(0), np.zeros(0, dtype=np.bool_))
        return parts[0] if len(parts) == 1 else Credits(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def metrics(self) -> list[dict[str, float]]:
        """Every metric of each episode, total and average reward among them. Call after `drain`."""
        best, lag_s = self._fleet.expected_best(), self._fleet.lag_s()
        return [self._episode(b, best[b], lag_s[b]) for b in range(self.batch)]

    def requests(self) -> tuple[RequestLog, Sequence[Scenario], slice]:
        """What became of the requests of these episodes, the scenario of each episode, and which requests count. Call after `drain`."""
        first = self.plan.warmup
        return self._fleet.log, self._fleet.scenarios, slice(first, first + self.plan.decisions)

    @property
    def left(self) -> int:
        return self.plan.arrivals - self._request

    def costs_of_choices(self, tried: Mask, policy: Policy, decisions: int, exponent: float = 1.0) -> F64:
        """See `problems.base.Branching`. The policy starts anew in each copy, with the same chance in all of one episode."""
        costs = np.full(tried.shape, np.nan)
        episode, choice = np.nonzero(tried)
        branch = self.branch(episode, decisions)
        policy.reset(episode)
        view: RoutingView | None = branch.step(choice)
        while view is not None:
            view = branch.step(policy.select(view))
        costs[episode, choice] = branch.cost_since(self._request, exponent)
        return costs

    def branch(self, rows: I64, requests: int) -> "RoutingEnv":
        """Copies of the episodes `rows` [R] at this decision, which go on apart for `requests` requests; the next is the present one.

        Raises UsageError where the servers are real, or where fewer requests are left.
        """
        if not isinstance(self._fleet, SimulatedFleet):
            raise UsageError("live servers cannot be copied, and rollouts need copies; use --backend twin or hybrid, or --learning td")
        last = self._request + requests
        if requests > self.left:
            raise UsageError(f"{requests} requests from number {self._request} on, and the episode has {self.plan.arrivals}")
        other = copy.copy(self)
        other.plan = replace(self.plan, warmup=0, decisions=last, closing=False)
        other.batch = len(rows)
        other._fleet = self._fleet.branch(rows, last)
        other._ledger = rows_of(self._ledger, rows, ledger.PER_REQUEST, last)
        other._now_s, other._unit_s = self._now_s[rows], self._unit_s[rows]
        other._slots, other._rates = self._slots[rows], self._rates[rows]
        other._hearing = Hearing(other._fleet, other._slots)
        other._new, other._integral, other._tally = [], [], None
        return other

    def cost_since(self, request: int, exponent: float = 1.0) -> F64:
        """Sum over this request and all that were sent after it of minus the reward, to a power.  # [B]

        Of a twin: it fixes a request's fate when it is sent, so nothing need be waited for.
        """
        log = self._fleet.log
        sent = slice(request, self._request)
        reward, _ = own_response(log.latency_s[:, sent], log.status[:, sent], self._unit_s[:, None])
        return np.asarray(((-reward) ** exponent).sum(axis=1))

    def close(self) -> None:
        """The fleet belongs to the world that made it."""

    def _arrive(self) -> RoutingView:
        log, n = self._fleet.log, self._request
        scheduled_s = np.ascontiguousarray(log.scheduled_s[:, n])
        if self.plan.reward == "integral" and n > 0:
            self._record_integral(scheduled_s)
        else:
            self._take(self._fleet.wait_until(scheduled_s))
        self._now_s = scheduled_s
        return View(
            now_s=scheduled_s,
            request_class=log.request_class[:, n],
            available=self._fleet.available(),
            slots=self._slots,
            service_rate_rps=self._rates,
            ledger=self._ledger,
            oracle=self._oracle,
            reports=self._hearing.reports,
            probes=self._hearing,
        )

    def _oracle(self) -> Oracle:
        return self._fleet.oracle(self._request)

    def _present_tally(self) -> Tally | None:
        if self._counting is None:
            return None
        (tallies, policy), scenario = self._counting, self._fleet.scenarios[0]
        return tallies.of(Key("http" if self.realtime else "twin", policy, scenario.server_ids, scenario.class_names))

    def _take(self, outcomes: Outcomes) -> None:
        self._book(outcomes)
        self._new.append(outcomes)

    def _book_decision(self, actions: I64) -> None:
        record_dispatch(self._ledger, self._fleet.log, self._request, actions, self._now_s)
        if self._tally is not None:
            tally_decisions(self._tally, self._fleet.log, self._request, actions)

    def _book(self, outcomes: Outcomes) -> None:
        record_outcomes(self._ledger, self._fleet.log, outcomes)
        if self._tally is not None:
            tally_outcomes(self._tally, self._fleet.log, outcomes)

    def _credit(self, outcomes: Outcomes) -> Credits:
        log = self._fleet.log
        fleet, request = finished_requests(log, outcomes)
        counted = (request >= self.plan.warmup) & (request < self.plan.warmup + self.plan.decisions)
        fleet, request = fleet[counted], request[counted]
        reward, valid = own_response(log.latency_s[fleet, request], log.status[fleet, request], self._unit_s[fleet])
        return Credits(fleet, request - self.plan.warmup, reward, valid)

    def _record_integral(self, until_s: F64) -> None:
        """The interval from the last decision to now belongs to that decision."""
        before = self._ledger.outstanding.sum(axis=1).astype(np.float64)
        outcomes = self._fleet.wait_until(until_s)
        fleet, request = finished_requests(self._fleet.log, outcomes)
        spare_s = until_s[fleet] - self._fleet.log.completed_s[fleet, request]
        early = np.bincount(fleet, spare_s, minlength=self.batch).astype(np.float64)
        self._book(outcomes)
        self._integral.append(in_system_integral(before, until_s - self._now_s, early, self._unit_s))

    def _integral_credits(self) -> Credits:
        known, self._integral, self._new = self._integral, [], []
        decision = self._request - self.plan.warmup - len(known) + np.arange(len(known))
        if not known:
            return Credits(_NOTHING, _NOTHING, np.zeros(0), np.zeros(0, dtype=np.bool_))
        fleet = np.tile(np.arange(self.batch), len(known))
        every = np.repeat(decision, self.batch)
        counted = every >= 0
        return Credits(fleet[counted], every[counted], np.concatenate(known)[counted], np.ones(int(counted.sum()), dtype=np.bool_))

    def _episode(self, b: int, best: Flags, lag_s: F64) -> dict[str, float]:
        log, first = self._fleet.log, self.plan.warmup
        last = first + self.plan.decisions
        row = episode_metrics(log, b, self._fleet.scenarios[b], first, last, best, lag_s)
        status = log.status[b, first:last]
        reward, _ = own_response(log.latency_s[b, first:last], status, self._unit_s[b : b + 1])
        total = float(reward[(status == SERVED) | (status == FAILED)].sum())
        probes = self._hearing.probe_rates(b, float(log.scheduled_s[b, last - 1]))
        return row | probes | {"total_reward": total, "average_reward": total / max(1, self.plan.decisions)}

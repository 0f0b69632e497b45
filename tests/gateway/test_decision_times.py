"""How long decisions take: by decider and bound, rehearsals left out, and on the page of every gateway."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from builders import random_view
from gateway.wire import Backend, ask, gateway, live
from grafana.metric_names import table
from programs.test_app import fleet, port, start  # noqa: F401 -- fixtures
from trimtab.gateway.decision_times import DECISION_EDGES_S, DecisionTimes, TimedDecider
from trimtab.gateway.guard import DEADLINE_S, DECIDING, MISSING, Decider, GuardedDecider
from trimtab.policies import catalogue

SERVED = 20


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Inner:
    """Decides as told: the next of `plan`, (server, who, seconds that it takes) or an error to raise."""

    primary, fallback, names, state = "dqn", "sed-online", ("dqn", "sed-online", "canary"), DECIDING

    def __init__(self, clock, *plan):
        self.clock, self.plan = clock, list(plan)
        self.reasons = {"far": 0}
        self.seen, self.rehearsed = [], []

    def decide(self, view):
        self.seen.append(view)
        server, by, takes_s = self.plan.pop(0)
        self.clock.now_s += takes_s
        if by is None:
            raise ArithmeticError
        return server, by

    def rehearse(self, view):
        self.rehearsed.append(view)
        self.clock.now_s += 5.0


def timed(*plan):
    clock = Clock()
    times = DecisionTimes(Inner.names)
    return TimedDecider(Inner(clock, *plan), times, clock), times


def counted(times):
    """Decider -> bound -> how many, those that are not 0."""
    bounds = (*DECISION_EDGES_S, "more")
    return {name: {bound: many for bound, many in zip(bounds, took.counts.tolist(), strict=True) if many} for name, took in times.read()}


def test_a_decision_counts_for_who_made_it_and_is_passed_on():
    decider, times = timed((2, "dqn", 42e-6), (0, "canary", 9e-6), (1, "dqn", 42e-6))
    assert [decider.decide(view) for view in "abc"] == [(2, "dqn"), (0, "canary"), (1, "dqn")]
    assert decider.inner.seen == ["a", "b", "c"]
    assert counted(times) == {"dqn": {5e-5: 2}, "sed-online": {}, "canary": {1e-5: 1}}
    assert {name: took.total_s for name, took in times.read()} == pytest.approx({"dqn": 84e-6, "sed-online": 0.0, "canary": 9e-6})


def test_a_bound_belongs_to_what_lies_below_it():
    times = DecisionTimes(["p2c"])
    for duration_s in (0.0, 1e-5, 1.0001e-5, 0.002, 0.0020001, 0.1, 0.11, 7.0):
        times.took("p2c", duration_s)
    assert counted(times) == {"p2c": {1e-5: 2, 2e-5: 1, 0.002: 1, 0.005: 1, 0.1: 1, "more": 2}}


def test_bounds_ascend_and_one_is_what_the_guard_calls_late():
    assert list(DECISION_EDGES_S) == sorted(set(DECISION_EDGES_S))
    assert DEADLINE_S in DECISION_EDGES_S


def test_a_rehearsal_is_passed_on_and_not_counted():
    decider, times = timed()
    decider.rehearse("view")
    assert decider.inner.rehearsed == ["view"]
    assert counted(times) == {name: {} for name in Inner.names}


def test_a_decision_that_raises_is_not_counted():
    decider, times = timed((0, None, 0.0009), (0, "dqn", 0.0009))
    with pytest.raises(ArithmeticError):
        decider.decide("view")
    decider.decide("view")
    assert counted(times)["dqn"] == {0.001: 1}


def test_a_decider_that_was_not_named_is_an_error_not_a_new_series():
    with pytest.raises(KeyError):
        DecisionTimes(["dqn"]).took("somebody", 0.0)


def test_what_was_read_stays_as_it_was():
    times = DecisionTimes(["p2c"])
    times.took("p2c", 1e-5)
    ((_, before),) = times.read()
    times.took("p2c", 1e-5)
    assert (int(before.counts.sum()), before.total_s) == (1, 1e-5)


def test_it_shows_all_that_a_decider_shows():
    decider, _ = timed()
    shown = {name for name in vars(Decider) if not name.startswith("_")}
    assert shown == {"primary", "fallback", "names", "reasons", "state", "decide", "rehearse"}
    for name in shown - {"decide", "rehearse"}:
        assert getattr(decider, name) == getattr(decider.inner, name)
    decider.inner.reasons["far"] += 1
    assert decider.reasons == {"far": 1}


def test_around_a_guard_the_present_is_shown_and_who_decided_is_counted():
    clock, view = Clock(), random_view(np.random.default_rng(1), 1, 4, 3, load=np.zeros((1, 4), dtype=np.int64))
    guarded = GuardedDecider(None, catalogue.build("sed-online"), clock, name="dqn")
    times = DecisionTimes(guarded.names)
    decider = TimedDecider(guarded, times, clock)
    assert (decider.state, decider.decide(view)[1], decider.reasons["missing"]) == (MISSING, "sed-online", 1)
    guarded.guard.replace(catalogue.build("least-outstanding"))
    assert (decider.state, decider.decide(view)[1], decider.reasons["missing"]) == (DECIDING, "dqn", 1)
    assert counted(times) == {"dqn": {1e-5: 1}, "sed-online": {1e-5: 1}}


@live
async def test_no_gateway_is_built_without_it_and_every_attempt_counts():
    async with Backend() as one, Backend() as other, gateway(one, other) as front:
        for _ in range(3):
            await ask(front, "GET /light")
        one.die()
        assert (await ask(front, "GET /light")).status == 200
        ((name, took),) = front.balancer.counts.decision_times.read()
        assert (name, int(took.counts.sum())) == ("in-order", front.balancer.router.counts.sent)
        assert front.balancer.router.counts.sent == 5
        assert took.total_s > 0.0


def test_the_page_of_a_gateway_shows_it(start):  # noqa: F811 -- the fixture
    front = start("--policy", "sed-online")
    for _ in range(SERVED):
        assert front.get("/job/a").status == 200
    page = {one.name: one for one in text_string_to_metric_families(front.get("/metrics").data.decode())}
    family = page["trimtab_gateway_decision_seconds"]
    assert family.type == "histogram"
    assert {one.labels["decider"] for one in family.samples} == {"sed-online"}
    buckets = {float(one.labels["le"]): one.value for one in family.samples if one.name.endswith("_bucket")}
    assert list(buckets) == [*DECISION_EDGES_S, float("inf")]
    (total_s,) = (one.value for one in family.samples if one.name.endswith("_sum"))
    assert (buckets[float("inf")], total_s > 0.0) == (SERVED, True)  # the rehearsal before is none of them


def test_the_document_says_how_many_bounds():
    assert f"{len(DECISION_EDGES_S)} bounds" in table("Gateway")["trimtab_gateway_decision_seconds"][3]

"""The router's books: they balance after any sequence of events, and agree with those of the environment that trains."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import scenario, server
from tiny_runs import AGENT
from trimtab.core.ledger import FAILURE_SAMPLE_S
from trimtab.core.observation import FEATURES, observation
from trimtab.core.request_log import FAILED, PENDING, SERVED, UNMEASURED
from trimtab.core.scenario import RequestClass
from trimtab.errors import GatewayError, NoServerError, RouterFullError, UsageError
from trimtab.gateway.guard import PlainDecider
from trimtab.gateway.router import LONGEST_GAP, Counts, Router, Ticket, rehearse
from trimtab.policies import catalogue
from trimtab.problems.routing.scenario_files import load_scenario
from trimtab.problems.routing.world import fixed_twin

CLASSES = (RequestClass("a", 0.6, 0.010), RequestClass("b", 0.4, 0.030))
FLEET = scenario(server(2, {"a": 1.0, "b": 0.5}), server(1, {"a": 0.5, "b": 2.0}), server(4, {"a": 0.5, "b": 0.5}), classes=CLASSES)
EVERYBODY = np.ones(3, dtype=bool)


def router(policy="sed-online", capacity=8, fleet=FLEET, seed=0):
    return Router(fleet, PlainDecider(catalogue.build(policy), seed), capacity)


def ledger_of(one, now_s=0.0):
    return one.view(0, now_s, EVERYBODY).ledger


# One request


def test_a_request_is_booked_when_it_goes_and_when_it_ends():
    one = router()
    ticket = one.route(1, 50.0, np.array([False, True, False]))
    assert (ticket.server, ticket.kind, ticket.sent_s, ticket.decided_by) == (1, 1, 50.0, "sed-online")
    assert one.in_flight.tolist() == [0, 1, 0]
    assert one.counts == Counts(sent=1, served=0, failed=0, unmeasured=0, in_flight=1)
    one.finish(ticket, SERVED, 50.2, service_s=0.15, queue_s=0.04)
    ledger = ledger_of(one)
    assert one.counts == Counts(1, 1, 0, 0, 0)
    assert one.in_flight.tolist() == [0, 0, 0]
    assert ledger.samples[0].tolist() == [[0, 0], [0, 1], [0, 0]]
    assert ledger.service_s[0, 1, 1] == 0.15
    assert ledger.latency_peak_s[0, 1] == pytest.approx(0.2)
    assert ledger.last_completion_s[0, 1] == pytest.approx(0.2)


def test_a_failure_is_two_slow_seconds_and_a_client_that_left_is_no_news():
    one, only = router(), np.array([True, False, False])
    one.finish(one.route(0, 0.0, only), UNMEASURED, 3.0, service_s=0.5)
    assert ledger_of(one).samples.sum() == 0
    one.finish(one.route(0, 3.0, only), FAILED, 3.001)
    assert ledger_of(one).service_s[0, 0, 0] == FAILURE_SAMPLE_S
    assert ledger_of(one).error_rate[0, 0] > 0
    assert one.counts == Counts(2, 0, 1, 1, 0)


def test_a_retry_is_a_failure_and_a_new_attempt_elsewhere():
    one, mask = router(), EVERYBODY.copy()
    servers = []
    for attempt in range(3):
        ticket = one.route(0, attempt * 0.1, mask)
        servers.append(ticket.server)
        one.finish(ticket, FAILED, attempt * 0.1 + 0.05)
        mask[ticket.server] = False
    assert sorted(servers) == [0, 1, 2]
    with pytest.raises(NoServerError, match="none of 3 servers"):
        one.route(0, 1.0, mask)
    assert one.counts == Counts(3, 0, 3, 0, 0)


@pytest.mark.parametrize("service_s", [-1.0, np.nan, np.inf, 0.5])
def test_a_service_time_that_cannot_be_is_as_good_as_none(service_s):
    one = router()
    one.finish(one.route(0, 0.0, EVERYBODY), SERVED, 0.1, service_s=service_s)
    ledger = ledger_of(one)
    assert (ledger.samples.sum(), ledger.service_s.sum()) == (1, pytest.approx(0.1)), "it is estimated from the latency"
    assert np.isfinite(observation(one.view(0, 0.2, EVERYBODY))).all()


def test_time_starts_with_the_first_request_and_a_pause_is_no_sample_of_the_traffic():
    uptime_s, one = 1e6, router()
    for n in range(200):
        one.finish(one.route(0, uptime_s + n * 0.01, EVERYBODY), SERVED, uptime_s + n * 0.01 + 0.005, 0.005)
    assert ledger_of(one).gap_s[0] == pytest.approx(0.01)
    load = observation(one.view(0, uptime_s + 2.0, EVERYBODY))[0, 0, FEATURES.index("load")]
    after_s = uptime_s + 8 * 3600
    one.route(0, after_s, EVERYBODY)
    later = observation(one.view(0, after_s, EVERYBODY))[0, 0, FEATURES.index("load")]
    assert load / later == pytest.approx(1 + 0.02 * (LONGEST_GAP - 1), rel=1e-4)
    assert ledger_of(one, after_s).last_arrival_s[0] == pytest.approx(8 * 3600)


# What is refused


def test_a_ticket_ends_once_and_belongs_to_its_router():
    one, other = router(), router()
    first, foreign = one.route(0, 0.0, EVERYBODY), other.route(0, 0.0, EVERYBODY)
    one.finish(first, SERVED, 0.1)
    again = one.route(0, 0.0, EVERYBODY)
    assert again.slot == first.slot
    strange = [first, foreign, Ticket(*again), again._replace(slot=-1), again._replace(slot=8)]
    for ticket in strange:
        with pytest.raises(GatewayError, match="is not in flight"):
            one.finish(ticket, SERVED, 0.2)
    for status in (PENDING, 4, None):
        with pytest.raises(GatewayError, match="status is"):
            one.finish(again, status, 0.2)
    assert one.counts == Counts(2, 1, 0, 0, 1)
    assert one.in_flight.sum() == 1


@pytest.mark.parametrize("kind", [-1, 2])
def test_a_class_that_is_none_is_refused_before_compiled_code_sees_it(kind):
    one = router()
    with pytest.raises(GatewayError, match="allowed: 0 to 1"):
        one.route(kind, 0.0, EVERYBODY)
    assert one.counts.sent == 0


@pytest.mark.parametrize("server", [-1, 1, 3])
def test_a_decider_without_a_guard_cannot_corrupt_the_books(server):
    class Wild(PlainDecider):
        def decide(self, view):
            return server, "wild"

    one = Router(FLEET, Wild(catalogue.build("random")), 8)
    with pytest.raises(GatewayError, match=f"wild chose server {server}"):
        one.route(0, 0.0, np.array([True, False, True]))
    assert one.counts == Counts(0, 0, 0, 0, 0)


def test_a_capacity_of_none_is_refused():
    with pytest.raises(GatewayError, match="capacity is 0"):
        router(capacity=0)


# Any sequence of events

ROUTE = st.tuples(st.just("route"), st.integers(0, 1), st.integers(0, 7))
FINISH = st.tuples(st.just("finish"), st.sampled_from([SERVED, FAILED, UNMEASURED]), st.integers(0, 100))
STALE = st.tuples(st.just("stale"), st.just(SERVED), st.integers(0, 100))


def assert_balanced(one, tickets, ended, now_s):
    counts, ledger = one.counts, one.view(0, now_s, EVERYBODY).ledger
    by_status = [sum(status == ended_as for ended_as in ended) for status in (SERVED, FAILED, UNMEASURED)]
    assert counts == Counts(len(tickets) + len(ended), *by_status, len(tickets))
    assert counts.sent == counts.served + counts.failed + counts.unmeasured + counts.in_flight
    wanted = np.zeros((3, 2), dtype=np.int64)
    for ticket in tickets:
        wanted[ticket.server, ticket.kind] += 1
    assert np.array_equal(ledger.in_flight[0], wanted)
    assert np.array_equal(ledger.outstanding[0], wanted.sum(axis=1))
    assert np.array_equal(one.in_flight, wanted.sum(axis=1))
    slots = [ticket.slot for ticket in tickets]
    assert len(set(slots)) == len(slots)
    assert set(slots) <= set(range(one.capacity))
    for where in range(3):  # the chain of requests in flight is the tickets, oldest first
        assert chain(ledger, where) == [ticket.slot for ticket in tickets if ticket.server == where]


def chain(ledger, where):
    slots, slot = [], int(ledger.oldest[0, where])
    while slot >= 0:
        slots.append(slot)
        slot = int(ledger.newer[0, slot])
    assert int(ledger.youngest[0, where]) == (slots[-1] if slots else -1)
    return slots


def expected_error(one, tickets, mask):
    if len(tickets) == one.capacity:
        return RouterFullError
    return None if mask.any() else NoServerError


@given(
    st.sampled_from(["sed-online", "random", "round-robin", "peak-ewma"]),
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 5), st.one_of(ROUTE, ROUTE, FINISH, STALE)), max_size=60),
)
@settings(max_examples=300, deadline=None)
def test_the_books_balance_after_any_sequence_of_events(policy, capacity, events):
    one = router(policy, capacity)
    now_s, tickets, ended, gone = 1000.0, [], [], []
    for pause_s, (what, first, second) in events:
        now_s += pause_s
        if what == "route":
            mask = np.array([bool(second & 1), bool(second & 2), bool(second & 4)])
            if error := expected_error(one, tickets, mask):
                with pytest.raises(error):
                    one.route(first, now_s, mask)
            else:
                tickets.append(one.route(first, now_s, mask))
                assert mask[tickets[-1].server]
        elif what == "finish" and tickets:
            gone.append(tickets.pop(second % len(tickets)))
            one.finish(gone[-1], first, now_s, service_s=(now_s - gone[-1].sent_s) / 2)
            ended.append(first)
        elif what == "stale" and gone:
            with pytest.raises(GatewayError):
                one.finish(gone[second % len(gone)], first, now_s)
        assert_balanced(one, tickets, ended, now_s)


def test_slots_are_reused_for_ever():
    one, tickets = router(capacity=3), []
    for n in range(5000):
        if len(tickets) == 3:
            one.finish(tickets.pop(n % 3), SERVED, n * 0.01, service_s=0.005)
        tickets.append(one.route(n % 2, n * 0.01, EVERYBODY))
    assert one.counts == Counts(5000, 4997, 0, 0, 3)
    assert_balanced(one, tickets, [SERVED] * 4997, 50.0)


class Heard:
    """An observer that keeps what was in flight when it was told of each decision."""

    def __init__(self):
        self.decisions = []

    def rehearse(self, view):
        pass

    def decided(self, ticket, view):
        self.decisions.append((ticket.slot, float(view.now_s[0]), view.in_flight[0].tolist()))

    def ended(self, *_):
        pass


@pytest.mark.parametrize(
    "look",
    [
        lambda one, ticket: one.settle(),
        lambda one, ticket: one.in_flight,
        lambda one, ticket: ledger_of(one, 2.0),
        lambda one, ticket: one.forget(2),
        lambda one, ticket: one.route(0, 2.0, EVERYBODY),
        lambda one, ticket: one.finish(ticket, SERVED, 1.1),
    ],
    ids=["settle", "in_flight", "view", "forget", "route", "finish"],
)
def test_a_decision_is_booked_by_the_time_that_anybody_looks(look):
    heard = Heard()
    one = Router(FLEET, PlainDecider(catalogue.build("sed-online"), 0), 8, heard)
    ticket = one.route(1, 1.0, EVERYBODY)
    assert (heard.decisions, one.busy, one.counts.sent) == ([], 1, 1)
    look(one, ticket)
    seen = (ticket.slot, 0.0, [0, 0, 0])  # by the decider
    assert heard.decisions == [seen]
    one.settle()
    assert heard.decisions.count(seen) == 1


# The same as in training


class Beside:
    """An episode in the twin, and a router that is told of the same events; what each chose and was shown."""

    def __init__(self, name, scenario_id, seed=3):
        world = load_scenario(scenario_id)
        env, policy = fixed_twin(world).evaluation_env(1), catalogue.build(name)
        policy.reset(np.array([seed]))
        self.router = Router(world, PlainDecider(catalogue.build(name), seed))
        self.tickets, self.chosen, self.shown, self.told = [], [], [], 0
        view = env.reset(0, [0])
        while view is not None:
            self.tell(env.fleet.log)
            moment = (int(view.request_class[0]), float(view.now_s[0]), view.available[0])
            self.shown.append((observation(view)[0], observation(self.router.view(*moment))[0]))
            action = policy.select(view)
            self.chosen.append(int(action[0]))
            self.tickets.append(self.router.route(*moment))
            self.ledger, view = view.ledger, env.step(action)

    def tell(self, log):
        for request in log.order[0, self.told : log.completed[0]]:
            status, now_s, service_s = (column[0, request].item() for column in (log.status, log.completed_s, log.service_s))
            self.router.finish(self.tickets[request], status, now_s, service_s)
        self.told = int(log.completed[0])


@pytest.mark.parametrize("scenario_id", ["compose-default", "leave-join", "black-hole", "crash-restart"])
@pytest.mark.parametrize("name", ["sed-online", "p2c", "weighted-round-robin"])
def test_the_router_chooses_as_the_environment_does(name, scenario_id):
    both = Beside(name, scenario_id)
    assert len(both.chosen) > 1000
    assert len(set(both.chosen)) > 1
    assert [ticket.server for ticket in both.tickets] == both.chosen
    assert max(ticket.slot for ticket in both.tickets) < 200  # a slot served many requests
    in_use = both.router.view(0, both.tickets[-1].sent_s, both.router.in_flight >= 0).ledger
    for column in ("in_flight", "outstanding", "samples", "service_s", "ratio_fast", "ratio_slow", "error_rate", "class_share"):
        assert np.array_equal(getattr(both.ledger, column), getattr(in_use, column)), column


def test_what_a_network_is_shown_is_what_training_showed():
    shown = Beside("sed-online", "compose-default").shown[500:]
    assert len({rows.tobytes() for rows, _ in shown}) == len(shown) > 1000
    # The very first gap differs, from time 0 to the first arrival, and one beyond LONGEST_GAP now and then; both are soon forgotten.
    assert max(float(np.abs(rows - others).max()) for rows, others in shown) < 0.01


# Rehearsal

AFTER_A_REHEARSAL = """
import time
import numpy as np
import torch
from trimtab.core import ledger, observation
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network
from trimtab.gateway import guard
from trimtab.gateway.router import Router, rehearse
from trimtab.policies import catalogue, load, pick
from trimtab.policies.learned import LearnedPolicy
from trimtab.problems.routing.scenario_files import load_scenario

def kernels():
    modules = (ledger, observation, guard, load, pick)
    return {name: len(one.signatures) for module in modules for name, one in vars(module).items() if hasattr(one, "signatures")}

fleet = load_scenario("compose-default")
network = build_network(DQNConfig(hidden=16), len(observation.FEATURES), 4, torch.Generator().manual_seed(0))
decider = guard.GuardedDecider(LearnedPolicy("dqn", network), catalogue.build("sed-online"), time.monotonic, rest_s=0.0)
before = kernels()
rehearse(fleet, decider)
after = kernels()
router, masks = Router(fleet, decider), np.array([[n >> s & 1 for s in range(4)] for n in range(1, 16)], dtype=bool)
for turn in range(60):
    ticket = router.route(turn % 3, turn * 0.01, masks[turn % 15])
    router.finish(ticket, (SERVED, FAILED, UNMEASURED)[turn % 3], turn * 0.01 + 0.005, 0.004)
print(sum(before.values()), sum(after.values()) > 5, kernels() == after)
"""


def test_after_a_rehearsal_no_request_waits_for_a_compiler():
    done = subprocess.run([sys.executable, "-c", AFTER_A_REHEARSAL], cwd=AGENT, capture_output=True, text=True, timeout=250, check=True)
    assert done.stdout.split() == ["0", "True", "True"]


def test_a_rehearsal_leaves_the_decider_as_it_was():
    decider = PlainDecider(catalogue.build("p2c"), 4)
    rehearse(FLEET, decider)
    one, other = Router(FLEET, decider), router("p2c", 4096, seed=4)
    assert [one.route(0, n, EVERYBODY).server for n in range(50)] == [other.route(0, n, EVERYBODY).server for n in range(50)]


def test_a_rehearsal_finds_out_that_an_oracle_cannot_run_here():
    with pytest.raises(UsageError, match="oracle"):
        rehearse(FLEET, PlainDecider(catalogue.build("oracle-sed")))

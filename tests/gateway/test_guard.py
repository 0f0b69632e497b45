"""The guard: whatever a policy does, the request is routed to an open server, and the reason is counted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from builders import random_view
from trimtab.core.observation import FEATURES, observation
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network
from trimtab.gateway.guard import DECIDING, MOST_IN_FLIGHT_PER_SLOT, REASONS, RESTING, GuardedDecider, PlainDecider, far
from trimtab.policies import catalogue
from trimtab.policies.learned import LearnedPolicy

SERVERS = 4


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Primary:
    """Answers with `answer` (a callable one is called) after `takes_s` on the test's clock."""

    name = "primary"

    def __init__(self, clock, answer=None, takes_s=0.0):
        self.clock, self.answer, self.takes_s = clock, answer, takes_s
        self.asked = 0

    def reset(self, seeds):
        assert seeds.tolist() == [7]

    def select(self, view):
        self.asked += 1
        self.clock.now_s += self.takes_s
        return self.answer() if callable(self.answer) else self.answer


class LastOpen:
    """A fallback whose choice nobody can take for another's."""

    name = "fallback"

    def reset(self, seeds):
        assert seeds.tolist() == [7]

    def select(self, view):
        return np.array([np.flatnonzero(view.available[0])[-1]])


def view_of(mask=(True, True, False, True), in_flight=(0, 1, 2, 3)):
    view = random_view(np.random.default_rng(0), 1, SERVERS, 3, load=in_flight)
    view.available[0] = mask
    view.ledger.oldest[0] = np.where(np.array(in_flight) > 0, np.arange(SERVERS), -1)
    return view


def guarded(answer=None, takes_s=0.0, **rest):
    clock = Clock()
    primary = Primary(clock, answer, takes_s)
    return GuardedDecider(primary, LastOpen(), clock, seed=7, **rest), primary, clock


def counted(decider):
    return {reason: count for reason, count in decider.reasons.items() if count}


def failing():
    raise ValueError("no idea")


def network(change=None):
    net = build_network(DQNConfig(hidden=16), len(FEATURES), SERVERS, torch.Generator().manual_seed(0))
    if change is not None:
        with torch.no_grad():
            change(net)
    return LearnedPolicy("dqn", net)


def test_a_good_decision_is_the_primarys():
    decider, _, _ = guarded(np.array([1]))
    assert decider.decide(view_of()) == (1, "primary")
    assert (counted(decider), decider.state, decider.primary, decider.fallback) == ({}, DECIDING, "primary", "fallback")
    assert tuple(decider.reasons) == REASONS


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (failing, "error"),
        ([[0], [1, 2]], "error"),
        (np.array([2]), "invalid"),
        (np.array([4]), "invalid"),
        (np.array([-1]), "invalid"),
        (np.array([0, 1]), "invalid"),
        (np.array([], dtype=np.int64), "invalid"),
        (np.array([np.nan]), "invalid"),
        (np.array([1.0]), "invalid"),
        (np.array([True]), "invalid"),
        (np.array(["1"]), "invalid"),
        (None, "invalid"),
    ],
)
def test_a_decision_that_is_none_is_made_by_the_fallback(answer, reason):
    decider, _, _ = guarded(answer)
    for count in (1, 2):
        assert decider.decide(view_of()) == (3, "fallback")
        assert counted(decider) == {reason: count}


def test_someone_who_ends_the_program_is_not_held_back():
    def ended():
        raise KeyboardInterrupt

    decider, _, _ = guarded(ended)
    with pytest.raises(KeyboardInterrupt):
        decider.decide(view_of())


# Deadlines


def test_a_late_decision_is_used_and_counted():
    decider, _, _ = guarded(np.array([1]), takes_s=0.003)
    assert decider.decide(view_of()) == (1, "primary")
    assert (counted(decider), decider.state) == ({"slow": 1}, DECIDING)


def test_several_late_ones_in_a_row_give_the_primary_a_rest():
    decider, primary, clock = guarded(np.array([1]), takes_s=0.003, trip_after=3, rest_s=10.0)
    assert [decider.decide(view_of())[1] for _ in range(3)] == ["primary"] * 3
    assert decider.state == RESTING
    assert decider.decide(view_of()) == (3, "fallback")
    assert primary.asked == 3
    assert counted(decider) == {"slow": 3, "resting": 1}
    clock.now_s += 10.0
    assert decider.state == DECIDING
    assert decider.decide(view_of()) == (1, "primary")


def test_after_a_rest_one_late_decision_is_enough_and_one_in_time_clears_the_count():
    decider, primary, clock = guarded(np.array([1]), takes_s=0.003, trip_after=3, rest_s=10.0)
    for _ in range(3):
        decider.decide(view_of())
    clock.now_s += 10.0
    decider.decide(view_of())
    assert decider.state == RESTING
    clock.now_s += 10.0
    primary.takes_s = 0.001
    decider.decide(view_of())
    primary.takes_s = 0.003
    decider.decide(view_of())
    decider.decide(view_of())
    assert decider.state == DECIDING
    decider.decide(view_of())
    assert decider.state == RESTING


def test_late_ones_that_are_not_in_a_row_are_only_counted():
    decider, primary, _ = guarded(np.array([1]))
    for turn in range(20):
        primary.takes_s = 0.003 if turn % 3 else 0.001
        assert decider.decide(view_of()) == (1, "primary")
    assert (counted(decider), decider.state) == ({"slow": 13}, DECIDING)


def test_a_primary_that_is_late_with_nothing_rests_too():
    decider, primary, _ = guarded(failing, takes_s=0.003, trip_after=3)
    assert [decider.decide(view_of())[1] for _ in range(5)] == ["fallback"] * 5
    assert counted(decider) == {"error": 3, "resting": 2}
    assert primary.asked == 3


# What a learned policy shows


def test_a_sound_network_decides():
    decider = GuardedDecider(network(), LastOpen(), Clock(), seed=7)
    server, by = decider.decide(view_of())
    assert by == "dqn"
    assert view_of().available[0, server]
    assert counted(decider) == {}


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_network_without_finite_values_is_not_believed(broken):
    decider = GuardedDecider(network(lambda net: net.advantage.bias.fill_(broken)), LastOpen(), Clock(), seed=7)
    assert decider.decide(view_of()) == (3, "fallback")
    assert counted(decider) == {"invalid": 1}


def test_a_queue_beyond_training_is_the_fallbacks():
    decider = GuardedDecider(network(), LastOpen(), Clock(), seed=7)
    assert decider.decide(view_of(in_flight=(0, 1, 2, 500))) == (3, "fallback")
    assert counted(decider) == {"far": 1}


def test_a_ledger_with_a_number_that_is_none_is_far_and_not_the_networks_fault():
    view = view_of()
    view.ledger.error_rate[0, 0] = np.nan
    decider = GuardedDecider(network(), LastOpen(), Clock(), seed=7)
    assert decider.decide(view) == (3, "fallback")
    assert counted(decider) == {"far": 1}


def test_a_server_that_is_out_may_be_as_strange_as_it_likes():
    view = view_of(in_flight=(0, 1, 500, 3))
    view.ledger.error_rate[0, 2] = np.nan
    decider = GuardedDecider(network(), LastOpen(), Clock(), seed=7)
    assert decider.decide(view)[1] == "dqn"
    assert counted(decider) == {}


@given(st.integers(1, 16), st.integers(0, 400))
def test_far_begins_at_so_many_requests_a_slot(slots, in_flight):
    view = view_of(mask=(True,) * SERVERS, in_flight=(0, in_flight, 0, 0))
    view = replace(view, slots=np.full((1, SERVERS), slots))
    rows, everybody = observation(view)[0], np.ones(SERVERS, dtype=bool)
    assert far(rows, everybody) == (in_flight > MOST_IN_FLIGHT_PER_SLOT * slots)
    assert not far(rows, np.array([True, False, True, True]))


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_any_feature_that_is_no_number_is_far(feature, value):
    rows = observation(view_of())[0]
    assert not far(rows, np.ones(SERVERS, dtype=bool))
    rows[1, FEATURES.index(feature)] = value
    assert far(rows, np.ones(SERVERS, dtype=bool))
    assert not far(rows, np.array([True, False, True, True]))


# Rehearsal and classical policies


def test_a_rehearsal_asks_everybody_and_counts_nothing():
    decider, primary, _ = guarded(np.array([2]), takes_s=1.0)
    for _ in range(5):
        decider.rehearse(view_of())
    assert primary.asked == 5
    assert (counted(decider), decider.state) == ({}, DECIDING)


@pytest.mark.parametrize("name", ["sed-online", "round-robin", "p2c"])
def test_a_plain_decider_is_its_policy_and_rehearsals_leave_no_trace(name):
    policy, view = catalogue.build(name), view_of(in_flight=(1, 1, 1, 1))
    policy.reset(np.array([5]))
    wanted = [(int(policy.select(view)[0]), name) for _ in range(20)]
    decider = PlainDecider(catalogue.build(name), seed=5)
    decider.rehearse(view)
    assert [decider.decide(view) for _ in range(20)] == wanted
    assert (decider.primary, decider.fallback, dict(decider.reasons), decider.state) == (name, None, {}, DECIDING)

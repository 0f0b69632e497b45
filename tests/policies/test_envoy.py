"""Envoy's LEAST_REQUEST by hand: two draws with replacement, and the earliest-deadline-first schedule."""

import numpy as np
from scipy import stats

from builders import fleet_alone, random_view
from policies.one_fleet import REJECTED_BELOW, assert_uniform, choices, state
from trimtab.policies import catalogue

WEIGHTED = "envoy-weighted-least-request"


def test_two_draws_may_fall_on_the_same_server():
    """With replacement the busier of two is seen alone in one case of four; two distinct draws would never take it."""
    chosen = choices("envoy-least-request", state([3, 2]), 4000)
    assert stats.binomtest(chosen.count(0), 4000, 0.25).pvalue > REJECTED_BELOW


def test_ties_go_to_the_first_draw_hence_uniformly():
    assert_uniform(choices("envoy-least-request", state([1, 1, 1, 1]), 4000), 4)


def test_idle_servers_take_turns_by_weight_and_equal_deadlines_by_entry():
    # Deadlines .5 and 1; server 0 is put back at 1 behind server 1, then 1.5, then 2 behind server 1's second turn.
    assert choices(WEIGHTED, state([0, 0], rates=[2.0, 1.0]), 8) == [0, 1, 0, 0, 1, 0, 0, 1]


def test_requests_in_flight_divide_the_weight():
    # Deadlines (3 + 1) / 2 = 2 and 1; server 1 goes on at 2 behind server 0, which goes on at 4.
    assert choices(WEIGHTED, state([3, 0], rates=[2.0, 1.0]), 5) == [1, 0, 1, 1, 0]


def test_a_promised_turn_is_kept_when_the_server_has_become_busy():
    policy, view = catalogue.build(WEIGHTED), state([0, 0], rates=[2.0, 1.0])
    policy.reset(np.array([0]))
    assert policy.select(view)[0] == 0
    view.ledger.outstanding[0] = [0, 9]
    assert [int(policy.select(view)[0]) for _ in range(22)] == [1, *[0] * 20, 1]  # at 1 as promised, then at 1 + 10 / 1


def test_a_change_of_members_starts_the_schedule_anew():
    policy = catalogue.build(WEIGHTED)
    policy.reset(np.array([0]))
    rates = [4.0, 2.0, 1.0]
    everybody, without = state([0] * 3, rates=rates), state([0] * 3, rates=rates, available=[False, True, True])
    first = [int(policy.select(everybody)[0]) for _ in range(7)]
    assert np.bincount(first).tolist() == [4, 2, 1]
    assert [int(policy.select(without)[0]) for _ in range(3)] == [1, 2, 1]
    assert [int(policy.select(everybody)[0]) for _ in range(7)] == first


def test_equal_weights_are_served_by_two_draws():
    assert choices(WEIGHTED, state([3, 2, 2]), 60, seed=4) == choices("envoy-least-request", state([3, 2, 2]), 60, seed=4)
    # Only members count: the third server's weight differs and it is away.
    away = state([3, 2, 2], rates=[1.0, 1.0, 5.0], available=[True, True, False])
    assert choices(WEIGHTED, away, 60, seed=4) == choices("envoy-least-request", away, 60, seed=4)


def test_a_fleet_of_equal_weights_among_others_keeps_its_own_chance():
    view = random_view(np.random.default_rng(2), 6, 4, 1)
    view.service_rate_rps[::2] = 5.0
    together, alone = catalogue.build(WEIGHTED), catalogue.build(WEIGHTED)
    together.reset(np.arange(6))
    chosen = np.array([together.select(view) for _ in range(30)])
    for b in range(6):
        alone.reset(np.arange(b, b + 1))
        assert [int(alone.select(fleet_alone(view, b))[0]) for _ in range(30)] == chosen[:, b].tolist()

"""Exploring never goes beyond its bounds, fades as the log grows, and is greedy in the end."""

import numpy as np
import pytest
import torch

from builders import random_view
from trimtab.core.observation import FEATURES, observation
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.inference import greedy_choice
from trimtab.dqn.network import build_network, q_values
from trimtab.policies.exploring import Exploration, ExploringPolicy, bounded, fleet_service_s
from trimtab.policies.load import expected_delay

NO_CHANCE = {"epsilon_start": 0.0, "epsilon_end": 0.0}
NO_HEURISTIC = {"heuristic_weight": 0.0}


def view_of(seed, servers=4):
    return random_view(np.random.default_rng(seed), 1, servers, 3)


def policy(config, *, decisions=0, seed=0):
    network = build_network(config, len(FEATURES), 4, torch.Generator().manual_seed(seed)).requires_grad_(False)
    exploration = Exploration(seed)
    exploration.resume(decisions)
    return ExploringPolicy("dqn", network, config, exploration), network, exploration


@pytest.mark.parametrize(
    ("delay_s", "unit_s", "available", "wanted"),
    [
        ([0.1, 0.29, 0.31, 0.5], 0.1, [1, 1, 1, 1], [1, 1, 0, 0]),  # 2 x 0.1 + 0.1 = 0.3
        ([0.1, 0.3, 0.5, 0.5], 0.1, [0, 1, 1, 1], [0, 1, 1, 1]),  # the best one is not open: 2 x 0.3 + 0.1 = 0.7
        ([0.1, 0.3, 0.5, 0.8], 0.1, [0, 1, 1, 1], [0, 1, 1, 0]),
        ([0.0, 0.1, 0.11, 9.0], 0.1, [1, 1, 1, 1], [1, 1, 0, 0]),  # an idle fleet: one mean service time
        ([5.0, 9.0, 12.0, 10.0], 0.1, [1, 1, 1, 1], [1, 1, 0, 1]),  # an overloaded one: twice
        ([1e6, 0.2, 0.2, 0.2], 0.1, [1, 0, 0, 0], [1, 0, 0, 0]),  # one server is always left
    ],
)
def test_bounds_as_computed_by_hand(delay_s, unit_s, available, wanted):
    mask = bounded(np.array([delay_s]), np.array([unit_s]), np.array([available], dtype=bool))
    assert mask.tolist() == [[bool(one) for one in wanted]]


def test_rows_are_bounded_by_themselves():
    mask = bounded(np.array([[1.0, 3.5], [1.0, 3.5]]), np.array([1.0, 2.0]), np.ones((2, 2), dtype=bool))
    assert mask.tolist() == [[True, False], [True, True]]


def test_the_fleets_service_time_weighs_servers_by_their_rate():
    view = view_of(1)
    view.ledger.samples[:] = 5
    view.ledger.class_share[:] = [[0.5, 0.5, 0.0]]
    view.ledger.service_s[0] = [[0.1, 0.3, 9.0], [0.2, 0.6, 9.0], [0.1, 0.1, 9.0], [1.0, 1.0, 9.0]]
    view.slots[:] = [[1, 2, 1, 1]]
    means = [0.2, 0.4, 0.1, 1.0]
    assert fleet_service_s(view)[0] == pytest.approx(5 / (1 / means[0] + 2 / means[1] + 1 / means[2] + 1 / means[3]))


@pytest.mark.parametrize("changes", [{}, NO_HEURISTIC, {"epsilon_start": 1.0, **NO_HEURISTIC}])
def test_nothing_beyond_the_bounds_is_ever_chosen(changes):
    deciding, _, _ = policy(DQNConfig(hidden=8, **changes))
    outside = 0
    for seed in range(300):
        view = view_of(seed)
        allowed = bounded(expected_delay(view), fleet_service_s(view), view.available)[0]
        outside += int((view.available[0] & ~allowed).any())
        assert allowed[deciding.select(view)[0]]
    assert outside > 50, "the bounds had something to exclude"


def test_at_first_the_heuristic_decides_and_in_the_end_the_network():
    config = DQNConfig(hidden=8, **NO_CHANCE, heuristic_decisions=1000)
    heuristic, _, _ = policy(config)
    own, network, _ = policy(config, decisions=1000)
    differs = 0
    for seed in range(100):
        view = view_of(seed)
        delay_s, mask = expected_delay(view), bounded(expected_delay(view), fleet_service_s(view), view.available)
        best = int(np.argmin(np.where(mask, delay_s, np.inf)[0]))
        greedy = int(greedy_choice(q_values(network, observation(view), np.ascontiguousarray(view.available)).numpy(), mask)[0])
        assert heuristic.select(view)[0] == best
        assert own.select(view)[0] == greedy
        differs += best != greedy
    assert differs > 10


def test_chance_fades_with_the_decisions_of_the_log():
    config = DQNConfig(hidden=8, epsilon_start=1.0, epsilon_end=0.0, epsilon_decisions=1000, **NO_HEURISTIC)

    def explored(decisions):
        deciding, _, exploration = policy(config, decisions=decisions)
        count = 0
        for seed in range(60):
            deciding.select(view_of(seed))
            count += exploration.explored()
        return count

    assert explored(0) > explored(900) >= explored(1000) == 0


def test_the_mark_is_for_one_decision():
    deciding, _, exploration = policy(DQNConfig(hidden=8, epsilon_start=1.0, epsilon_end=1.0, **NO_HEURISTIC))
    marks = []
    for seed in range(50):
        deciding.select(view_of(seed))
        marks.append(exploration.explored())
        assert not exploration.explored()
    assert set(marks) == {True, False}


def test_it_shows_what_it_saw_and_its_own_values():
    config = DQNConfig(hidden=8)
    deciding, network, _ = policy(config)
    view = view_of(3)
    deciding.select(view)
    assert np.array_equal(deciding.seen, observation(view))
    assert np.array_equal(deciding.q, q_values(network, observation(view), view.available.copy()).numpy())


def test_a_restart_draws_other_numbers_and_goes_on_with_the_schedule():
    config = DQNConfig(hidden=8, epsilon_start=1.0, epsilon_end=1.0)
    runs = []
    for decisions in (0, 0, 40):
        deciding, _, exploration = policy(config, decisions=decisions)
        runs.append([int(deciding.select(view_of(seed))[0]) for seed in range(80)])
        assert exploration.decisions == decisions + 80
    assert runs[0] == runs[1] != runs[2]

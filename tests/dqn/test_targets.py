"""The formulas, against numbers worked out on paper."""

import torch
from torch import tensor
from torch.testing import assert_close

from trimtab.dqn.targets import dueling_q, greedy, heuristic_bonus, td_target

ALL = tensor([[True, True, True]])


def test_greedy_takes_the_lowest_index_among_equals():
    q = tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    assert greedy(q, torch.ones(2, 3, dtype=torch.bool)).tolist() == [1, 0]


def test_greedy_never_takes_an_unavailable_server():
    assert greedy(tensor([[9.0, -5.0, -4.0]]), tensor([[False, True, True]])).tolist() == [2]


def test_plain_target_takes_the_target_networks_maximum():
    y = td_target(tensor([1.0]), tensor([0.5]), None, tensor([[2.0, 8.0, 4.0]]), ALL, double=False)
    assert_close(y, tensor([5.0]))  # 1 + 0.5 * 8


def test_double_target_values_the_online_choice_by_the_target_network():
    y = td_target(tensor([1.0]), tensor([0.5]), tensor([[0.0, 1.0, 3.0]]), tensor([[2.0, 8.0, 4.0]]), ALL, double=True)
    assert_close(y, tensor([3.0]))  # 1 + 0.5 * 4


def test_target_bootstraps_from_available_servers_only():
    y = td_target(tensor([1.0]), tensor([0.5]), None, tensor([[2.0, 8.0, 4.0]]), tensor([[True, False, True]]), double=False)
    assert_close(y, tensor([3.0]))  # 1 + 0.5 * 4


def test_target_stays_finite_where_no_server_is_left():
    y = td_target(tensor([1.0]), tensor([0.5]), None, tensor([[2.0, 8.0, 4.0]]), ~ALL, double=False)
    assert torch.isfinite(y).all()


def test_a_true_end_has_no_bootstrap():
    y = td_target(tensor([-7.0]), tensor([0.0]), None, tensor([[2.0, 8.0, 4.0]]), ALL, double=False)
    assert_close(y, tensor([-7.0]))


def test_dueling_subtracts_the_mean_over_available_servers():
    advantage = tensor([[1.0], [3.0], [100.0]])  # [S, B]
    weight = tensor([[0.5], [0.5], [0.0]])
    assert_close(dueling_q(tensor([10.0]), advantage, weight)[:2], tensor([[9.0], [11.0]]))


def test_heuristic_bonus_lifts_its_action_to_the_best_plus_margin():
    q = tensor([[1.0, 4.0, 2.0]])
    assert_close(heuristic_bonus(q, ALL, tensor([0]), 0.5), tensor([[3.5, 0.0, 0.0]]))
    assert_close(heuristic_bonus(q, tensor([[True, False, True]]), tensor([0]), 0.5), tensor([[1.5, 0.0, 0.0]]))


def test_heuristic_wins_where_the_networks_lead_is_small_for_its_weight():
    margin, weight = 0.5, 0.5  # the limit: eta xi / (1 - xi) = 0.5
    q = tensor([[1.0, 1.4, 0.0], [1.0, 1.6, 0.0]])
    bonus = heuristic_bonus(q, ALL.expand(2, 3), tensor([0, 0]), margin)
    assert greedy(q + weight * bonus, ALL.expand(2, 3)).tolist() == [0, 1]

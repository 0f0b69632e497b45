"""The static split: its linear programme against hand-solved ones, and the choices that follow."""

import numpy as np
import pytest

from policies.one_fleet import choices, state
from trimtab.errors import UsageError
from trimtab.policies import catalogue
from trimtab.policies.class_split import split

ONE_EACH = np.array([1, 1])


def test_each_class_gets_the_server_that_is_good_at_it():
    part = split(np.array([[1.0, 3.0], [3.0, 1.0]]), ONE_EACH, np.array([0.5, 0.5]))
    assert part == pytest.approx(np.diag([0.5, 0.5]))


def test_one_class_is_shared_in_proportion_to_speed_and_slots():
    assert split(np.array([[0.01], [0.02]]), ONE_EACH, np.array([1.0])).ravel() == pytest.approx([2 / 3, 1 / 3])
    assert split(np.array([[1.0], [1.0]]), np.array([3, 1]), np.array([1.0])).ravel() == pytest.approx([3 / 4, 1 / 4])


def test_a_common_class_overflows_to_the_other_server():
    # x of class a moves to server 2: .8 - x = 2 x + .2, so x = .2 and both are .6 busy.
    part = split(np.array([[1.0, 2.0], [2.0, 1.0]]), ONE_EACH, np.array([0.8, 0.2]))
    assert part == pytest.approx(np.array([[0.6, 0.0], [0.2, 0.2]]))


def test_the_unit_of_time_does_not_matter():
    means, shares = np.random.default_rng(5).lognormal(0, 1, (5, 3)), np.array([0.6, 0.3, 0.1])
    assert split(means * 1e-4, np.ones(5), shares) == pytest.approx(split(means, np.ones(5), shares), abs=1e-6)


def test_the_same_numbers_give_the_same_split_to_the_last_bit():
    means, shares = np.random.default_rng(5).lognormal(-4, 1, (9, 4)), np.array([0.4, 0.3, 0.2, 0.1])
    posed = (means, np.arange(1, 10), shares)
    assert np.array_equal(split(*posed), split(*posed))


def test_numbers_without_a_split_are_an_error():
    with pytest.raises((UsageError, ValueError)):
        split(np.array([[np.nan], [1.0]]), ONE_EACH, np.array([1.0]))


def asked(view, name="class-split"):
    return choices(name, view)[0]


def test_a_class_stays_with_its_servers_however_long_their_queues():
    view = state([[90, 0], [0, 0]], classes=2, service=[[1.0, 900.0], [900.0, 1.0]])
    assert asked(view) == 0
    view.request_class[0] = 1
    assert asked(view) == 1


def test_within_the_split_the_fewest_of_its_own_for_its_part_are_next():
    service = [1.0, 2.0]  # parts 2/3 and 1/3
    assert asked(state([0, 0], service=service)) == 0  # 1.5 against 3
    assert asked(state([2, 0], service=service)) == 1  # 4.5 against 3
    assert asked(state([2, 1], service=service)) == 0  # 4.5 against 6


def test_who_is_left_is_split_anew():
    view = state([[0, 0], [0, 0]], classes=2, service=[[1.0, 9.0], [9.0, 1.0]], available=[False, True])
    assert asked(view) == 1


def test_the_true_means_are_the_oracles_alone():
    view = state([[0, 0], [0, 0]], classes=2, service=[[1.0, 9.0], [9.0, 1.0]])
    view.oracle().mean_service_s[0] = [[9.0, 1.0], [1.0, 9.0]]
    assert (asked(view), asked(view, "oracle-class-split")) == (0, 1)


def test_the_split_is_solved_when_the_count_has_doubled(monkeypatch):
    solved = []
    monkeypatch.setattr("trimtab.policies.class_split.split", lambda *given: solved.append(given) or split(*given))
    policy, view = catalogue.build("class-split"), state([[0, 0], [0, 0]], classes=2, service=[[1.0, 3.0], [3.0, 1.0]])
    policy.reset(np.array([0]))
    for _ in range(60):
        policy.select(view)
    assert [round(1 / (1 - given[2][0])) for given in solved] == [3, 6, 12, 24, 48]  # counted requests, one of class b assumed

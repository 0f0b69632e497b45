"""Prequal's rules by hand."""

import numpy as np
import pytest

from builders import GivenAnswers
from policies.one_fleet import assert_uniform, state
from trimtab.core.reports import empty_probe_log
from trimtab.errors import UsageError
from trimtab.policies import catalogue
from trimtab.policies.prequal import (
    AGE_S,
    POOL,
    PROBES,
    REMEMBERED,
    Prequal,
    _absorb,
    _best,
    _clean,
    _empty_pool,
    _hot_limit,
    _oldest,
    _remove,
    _use,
    _worst,
    reuse_budget,
)

NOBODY = np.zeros((1, 64), dtype=np.bool_)
EVERYBODY = np.ones((1, 64), dtype=np.bool_)


def answers(rows):
    """(server, in flight, latency, when) of one fleet."""
    log = empty_probe_log(1, max(1, len(rows)))
    for place, row in enumerate(rows):
        log.server[0, place], log.in_flight[0, place], log.latency_s[0, place], log.answered_s[0, place] = row
    return log, np.array([0]), np.array([len(rows)])


def pooled(rows, budget=np.inf):
    pool = _empty_pool(1)
    _absorb(pool, *answers(rows), budget)
    return pool


def servers_in(pool):
    return sorted(int(one) for one in pool.server[0] if one >= 0)


def test_the_newest_answer_of_a_server_replaces_its_earlier_one():
    pool = pooled([(3, 1, 0.1, 0.0), (4, 2, 0.2, 0.1), (3, 7, 0.7, 0.2)])
    assert servers_in(pool) == [3, 4]
    assert pool.in_flight[0, 0] == 7
    assert pool.since_s[0, 0] == 0.2


def test_a_full_pool_loses_its_oldest():
    pool = pooled([(s, 1, 0.1, 0.1 * s) for s in range(POOL + 2)])
    assert servers_in(pool) == list(range(2, POOL + 2))


def test_probes_over_a_second_old_and_those_of_members_that_left_are_dropped():
    pool = pooled([(0, 1, 0.1, 0.0), (1, 1, 0.1, 0.5), (2, 1, 0.1, 0.9)])
    here = EVERYBODY.copy()
    here[0, 2] = False
    assert _clean(pool, 0, 0.0 + AGE_S, EVERYBODY) == 3
    assert _clean(pool, 0, 0.01 + AGE_S, here) == 1
    assert servers_in(pool) == [1]


def test_the_hot_limit_is_the_quantile_of_what_any_server_answered_of_late():
    assert _hot_limit(_empty_pool(1), 0) == np.inf
    pool = pooled([(0, inside, 0.1, 0.0) for inside in range(100)])  # all of one server: the pool holds one of them
    assert _hot_limit(pool, 0) == 83  # 84 of 100 are 0 to 83
    _absorb(pool, *answers([(1, 5, 0.1, 0.0)] * REMEMBERED), np.inf)
    assert _hot_limit(pool, 0) == 5, "a hundred older ones are forgotten"


def test_of_cold_servers_the_least_latency_of_hot_ones_the_fewest_in_flight():
    pool = pooled([(0, 9, 0.01, 0.0), (1, 3, 0.05, 0.0), (2, 2, 0.09, 0.0), (3, 8, 0.02, 0.0)])

    def best(limit, shunned=NOBODY):
        return int(pool.server[0, _best(pool, 0, limit, shunned)])

    assert best(5.0) == 1  # 0 and 3 are hot, fast as they are
    assert best(8.0) == 3  # more than the limit is hot, as many is not
    assert best(1.0) == 2  # all hot
    shunned = NOBODY.copy()
    shunned[0, [1, 2]] = True
    assert best(5.0, shunned) == 3  # hot, but not failing: the fewer in flight of 0 and 3
    shunned[0, :4] = True
    assert best(5.0, shunned) == 1


def test_the_chosen_probe_counts_one_more_and_is_used_as_often_as_its_budget_allows():
    pool = pooled([(0, 1, 0.1, 0.0), (1, 4, 0.2, 0.0)], budget=2.0)
    assert _use(pool, 0, 0) == 0
    assert pool.in_flight[0].tolist()[:2] == [2, 4]
    assert _use(pool, 0, 0) == 0
    assert servers_in(pool) == [1]


def test_a_budget_that_is_no_whole_number_is_one_on_average():
    pool = pooled([(s, 1, 0.1, 0.0) for s in range(10)], budget=1.3)
    uses = pool.uses[0, :10]
    assert set(uses) == {1.0, 2.0}
    assert uses.sum() == 13


def test_the_budget_grows_as_new_probes_get_fewer():
    assert reuse_budget(100) == pytest.approx(2 / (0.84 * 3 - 1))
    assert reuse_budget(1000) == pytest.approx(2 / (0.984 * 3 - 1))
    assert reuse_budget(POOL) == np.inf
    assert reuse_budget(5) == np.inf
    assert reuse_budget(100, probes=10.0) == 1.0


def test_the_oldest_and_the_worst_leave_in_turn():
    pool = pooled([(0, 1, 0.50, 0.2), (1, 9, 0.01, 0.3), (2, 1, 0.10, 0.1), (3, 1, 0.90, 0.4)])
    assert pool.server[0, _oldest(pool, 0)] == 2
    assert pool.server[0, _worst(pool, 0, 5.0)] == 1  # the hot one
    assert pool.server[0, _worst(pool, 0, 9.0)] == 3  # none is hot: the slowest
    left = []
    for _ in range(4):
        _remove(pool, 0, 5.0)
        left.append(servers_in(pool))
    assert left == [[0, 1, 3], [0, 3], [3], []]
    _remove(pool, 0, 5.0)
    assert servers_in(pool) == []


def asked(view, rows=(), rounds=1, seed=0):
    """Choices of a fresh policy which hears `rows` before its first one, and what it asks."""
    policy = Prequal("prequal")
    policy.reset(np.array([seed]))
    given = GivenAnswers(*answers(list(rows)))
    object.__setattr__(view, "probes", given)
    chosen = []
    for _ in range(rounds):
        chosen.append(int(policy.select(view)[0]))
        given.start = given.stop
    return chosen, [one[0].tolist() for one in given.asked]


def test_fewer_than_two_pooled_probes_mean_anywhere():
    view = state([0, 0, 0, 0], now_s=1.0)
    assert_uniform([asked(view, [(2, 0, 0.01, 1.0)], seed=seed)[0][0] for seed in range(2000)], 4)
    assert asked(view, [(2, 0, 0.02, 1.0), (3, 0, 0.01, 1.0)])[0] == [3]


def test_three_different_servers_are_probed_each_as_often():
    _, targets = asked(state([0] * 5), rounds=3000)
    assert all(len(set(three)) == PROBES and min(three) >= 0 for three in targets)
    assert_uniform(np.ravel(targets), 5)
    few = asked(state([0] * 4, available=[True, False, True, False]))[1]
    assert sorted(few[0]) == [-1, 0, 2]


def test_a_server_that_fails_fast_is_shunned_and_tried_again():
    rows = [(0, 0, 0.001, 9.9), (1, 3, 0.08, 9.9)]
    view = state([0, 0], now_s=10.0)
    assert asked(view, rows)[0] == [0]
    view.ledger.error_rate[0], view.ledger.last_completion_s[0] = [0.9, 0.0], 10.0
    assert asked(view, rows)[0] == [1]
    view.ledger.last_completion_s[0] = 10.0 - 16.0  # .9 x e^-1.6 = .18
    assert asked(view, rows)[0] == [0]


def test_it_is_refused_where_nobody_can_probe():
    view = state([0, 0])
    object.__setattr__(view, "probes", None)
    policy = catalogue.build("prequal")
    policy.reset(np.array([0]))
    with pytest.raises(UsageError, match="nobody can probe"):
        policy.select(view)


def test_the_catalogue_says_who_probes():
    assert [one.name for one in catalogue.CATALOGUE if one.probes] == ["prequal"]


def test_the_kernels_are_their_python():
    rows = [(s % 7, s % 4, 0.01 * s, 0.1 * s) for s in range(20)]
    fast, plain = pooled(rows, 1.3), _empty_pool(1)
    _absorb.py_func(plain, *answers(rows), 1.3)
    for name, column in fast._asdict().items():
        assert np.array_equal(getattr(plain, name), column), name
    assert _best.py_func(plain, 0, 2.0, NOBODY) == _best(fast, 0, 2.0, NOBODY)
    assert _worst.py_func(plain, 0, 2.0) == _worst(fast, 0, 2.0)
    assert _hot_limit.py_func(plain, 0) == _hot_limit(fast, 0)

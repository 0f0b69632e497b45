"""Intervals against hand-computed values, closed forms and their own promise: coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.experiments.statistics import (
    Interval,
    bootstrap_interval,
    paired_difference,
    rank_correlation,
    verdict,
)


def test_interval_of_a_mean_is_near_the_normal_one_for_many_samples():
    values = np.random.default_rng(7).normal(10, 2, 400)
    interval = bootstrap_interval(values)
    half_width = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.05)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.05)


def test_interval_of_skewed_values_leans_to_the_long_side():
    interval = bootstrap_interval(np.random.default_rng(3).lognormal(0, 1.2, 40))
    assert interval.high - interval.estimate > interval.estimate - interval.low


def test_equal_values_give_a_degenerate_interval():
    assert bootstrap_interval([0.1] * 7) == Interval(pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))
    assert bootstrap_interval([0.0] * 7) == Interval(0.0, 0.0, 0.0)


def test_one_value_has_no_bounds_and_none_no_estimate():
    alone = bootstrap_interval([4.0])
    assert alone.estimate == 4.0
    assert not alone.bounded
    assert math.isnan(bootstrap_interval([]).estimate)


def test_blank_values_are_left_out():
    assert bootstrap_interval([1.0, np.nan, 3.0, 2.0]) == bootstrap_interval([1.0, 3.0, 2.0])


def test_same_seed_same_interval():
    values = np.random.default_rng(1).exponential(5, 12)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.0, 1e6, allow_subnormal=False), min_size=2, max_size=20))
def test_bounds_enclose_the_estimate_and_stay_inside_the_data(values):
    interval = bootstrap_interval(values, resamples=200)
    slack = 1e-9 * max(values)
    if interval.bounded:
        assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack


def test_paired_difference_is_the_ratio_of_means_in_percent():
    a, b = np.array([9.0, 11.0, 13.0, 15.0]), np.array([10.0, 12.0, 20.0, 18.0])
    assert paired_difference(a, b).estimate == pytest.approx((48 / 60 - 1) * 100)


def test_pairing_removes_the_luck_that_both_shared():
    shared = np.random.default_rng(5).lognormal(0, 1.0, 20)
    better = paired_difference(shared * 0.97, shared * (1 + 0.01 * np.random.default_rng(6).normal(size=20)))
    assert verdict(better) == "better"
    assert better.high - better.low < 3


def test_an_exact_multiple_has_no_spread():
    b = np.array([1.0, 2.0, 7.0, 3.0])
    difference = paired_difference(1.1 * b, b)
    assert (difference.low, difference.estimate, difference.high) == pytest.approx((10, 10, 10))


def test_two_swapped_policies_swap_the_verdict():
    rng = np.random.default_rng(8)
    a = rng.normal(10, 1, 30)
    b = rng.normal(12, 1, 30)
    assert verdict(paired_difference(a, b)) == "better"
    assert verdict(paired_difference(b, a)) == "worse"
    assert verdict(paired_difference(a, rng.permutation(a))) == "no difference"


def test_one_pair_carries_no_verdict():
    difference = paired_difference([1.0], [5.0])
    assert difference.estimate == pytest.approx(-80)
    assert not difference.bounded
    assert verdict(difference) == "no difference"


def test_few_pairs_use_students_t_on_the_error_of_the_ratio():
    a, b = np.array([9.0, 11.0, 13.0]), np.array([10.0, 10.0, 10.0])
    # ratio 1.1; residuals (-2, 0, 2) / 10; standard error 0.2 / sqrt(3); t(0.975, 2) = 4.30265
    half_width = 100 * 4.30265 * 0.2 / math.sqrt(3)
    difference = paired_difference(a, b)
    assert (difference.low, difference.high) == pytest.approx((10 - half_width, 10 + half_width), rel=1e-5)


def test_nine_equal_pairs_and_one_other_carry_no_bounds():
    assert not paired_difference([*[1.0] * 9, 3.0], [1.0] * 10).bounded


@pytest.mark.parametrize("episodes", [3, 5, 10, 30])
def test_paired_difference_covers_the_truth(episodes):
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(200):
        shared = rng.lognormal(0, 0.3, episodes)
        interval = paired_difference(shared * rng.lognormal(0, 0.2, episodes), shared * rng.lognormal(0, 0.2, episodes), resamples=500)
        covered += interval.low <= 0 <= interval.high
    assert covered >= 180, "a nominal 95 % interval must cover at least 90 %"


def test_pairs_with_a_blank_are_left_out_and_lengths_must_agree():
    assert paired_difference([1, np.nan, 3, 4, 5], [2, 2, 2, np.nan, 3]).estimate == pytest.approx((9 / 7 - 1) * 100)
    assert math.isnan(paired_difference([1, 2], [0, 0]).estimate)
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        paired_difference([1, 2], [1, 2, 3])


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(-2, -1, "better"), (1, 2, "worse"), (-1, 1, "no difference"), (0, 1, "no difference"), (math.nan, math.nan, "no difference")],
)
def test_verdict_needs_an_interval_without_zero(low, high, word):
    assert verdict(Interval((low + high) / 2, low, high)) == word


def test_rank_correlation_against_a_hand_computed_one():
    # d = (1, 1, 0, 0), rho = 1 - 6 * 2 / (4 * 15) = 0.8
    assert rank_correlation([1, 2, 3, 4], [20, 10, 30, 40]) == pytest.approx(0.8)
    assert rank_correlation([1, 2, 3], [9, 5, 1]) == pytest.approx(-1)
    assert math.isnan(rank_correlation([1, 1], [1, 2]))
    assert math.isnan(rank_correlation([1, np.nan], [1, 2]))

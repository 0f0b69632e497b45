"""Intervals against hand-computed values, closed forms and their own promise: coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trimtab.experiments.statistics import (
    Difference,
    Interval,
    bootstrap_interval,
    corrected_verdicts,
    holm,
    paired_difference,
    paired_test,
    rank_correlation,
    resample_counts,
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


def test_bca_bounds_are_those_of_scipy():
    values = np.random.default_rng(9).lognormal(0, 1, 20)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)).confidence_interval
    ours, width = bootstrap_interval(values, resamples=20_000), theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_a_resample_draws_as_many_episodes_as_there_are():
    counts = resample_counts(7, 3000, 1)
    assert (counts.sum(axis=1) == 7).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.1)
    with pytest.raises(ValueError, match="read-only"):
        counts[0, 0] = 5.0


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


def _percentile(a, b):
    counts = resample_counts(a.size, 1000, 0)
    low, high = np.quantile((counts @ a) / (counts @ b), [0.025, 0.975])
    return Interval(math.nan, 100 * (low - 1), 100 * (high - 1))


def test_at_twenty_episodes_the_studentised_interval_keeps_its_promise_and_the_percentile_form_does_not():
    rng = np.random.default_rng(20)
    covered = {"studentised": 0, "percentile": 0}
    for _ in range(600):
        b = rng.lognormal(0, 0.3, 20)
        a = b * rng.lognormal(-0.125, 0.5, 20)  # mean 1: there is no difference
        for name, interval in (("studentised", paired_difference(a, b, resamples=1000)), ("percentile", _percentile(a, b))):
            covered[name] += interval.low <= 0 <= interval.high
    assert 0.92 <= covered["studentised"] / 600 <= 0.98
    assert covered["percentile"] / 600 < 0.92


@pytest.mark.parametrize("episodes", [5, 20])
def test_the_p_value_is_as_rare_as_it_says(episodes):
    rng = np.random.default_rng(12)
    found = [paired_test(*rng.lognormal(0, 0.3, (2, episodes)), resamples=500).p_value for _ in range(400)]
    assert stats.binomtest(int(np.sum(np.array(found) <= 0.05)), 400, 0.05).pvalue > 0.001
    assert stats.binomtest(int(np.sum(np.array(found) <= 0.5)), 400, 0.5).pvalue > 0.001


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1, 0.15, 0.3])
def test_interval_and_p_value_agree(shift):
    rng = np.random.default_rng(13)
    b = rng.lognormal(0, 0.3, 20)
    test = paired_test(b * rng.lognormal(shift, 0.2, 20), b)
    if not 0.04 < test.p_value < 0.08:  # near the edge the p-value is the stricter one, being the larger of two
        assert (verdict(test.interval) == "no difference") == (test.p_value > 0.05)


def test_one_outlier_of_the_reference_does_not_hide_that_everything_else_is_far_off():
    b = np.append(np.random.default_rng(3).normal(50, 5, 49), 300.0)
    test = paired_test(np.full(50, 4500.0) + b / 10, b)
    assert test.interval.low > 0
    assert test.p_value < 0.001


def test_the_p_value_of_few_pairs_is_students():
    a, b = np.array([9.0, 11.0, 13.0]), np.array([10.0, 10.0, 10.0])
    assert paired_test(a, b).p_value == pytest.approx(2 * stats.t.sf(0.1 / (0.2 / math.sqrt(3)), 2))


def test_p_values_without_spread():
    b = np.array([1.0, 2.0, 7.0, 3.0])
    assert (paired_test(1.1 * b, b).p_value, paired_test(b, b).p_value) == (0.0, 1.0)
    assert math.isnan(paired_test([1.0], [2.0]).p_value)


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04 times 4 3 2 1 is .02 .03 .06 .04, and an adjusted value is no smaller than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, math.nan, 0.9]) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)
    assert holm([]).size == 0


def test_many_comparisons_need_more_than_one_does():
    clear, weak = Difference(Interval(-9, -12, -6), 0.0002), Difference(Interval(-2, -4, -0.1), 0.04)
    assert corrected_verdicts([clear]) == ["better"]
    assert corrected_verdicts([weak]) == ["better"]
    assert corrected_verdicts([weak, clear, weak]) == ["no difference", "better", "no difference"]
    unknown = Difference(Interval(-5, math.nan, math.nan), math.nan)
    assert corrected_verdicts([unknown, clear]) == ["no difference", "better"]


def test_a_family_names_a_winner_by_mistake_in_one_case_of_twenty():
    rng = np.random.default_rng(14)
    families = 0
    for _ in range(150):
        reference = rng.lognormal(0, 0.3, 20)
        others = [paired_test(reference * rng.lognormal(0, 0.3, 20), reference * 1.046, resamples=2000) for _ in range(8)]
        families += corrected_verdicts(others) != ["no difference"] * 8
    assert families <= 15, "the 99 % bound of 5 % of 150 is 14; eight uncorrected ones would name one in every third family"


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

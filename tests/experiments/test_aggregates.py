"""Interquartile mean and probability of improvement against hand-computed values, and their intervals."""

import numpy as np
import pytest
from scipy import stats

from trimtab.experiments.aggregates import (
    interquartile_mean,
    interquartile_mean_interval,
    probability_of_improvement,
    probability_of_improvement_interval,
)


def test_the_middle_half_of_all_runs_of_all_tasks():
    assert interquartile_mean([[1, 5], [2, 6], [3, 7], [4, 1000]]) == pytest.approx((3 + 4 + 5 + 6) / 4)


def test_probability_of_improvement_by_hand():
    # Task 1: of four pairs, 1 < 2, 1 < 3 and 2 < 3 win, 2 = 2 is half: 3.5 / 4. Task 2: never.
    assert probability_of_improvement([[1, 9], [2, 9]], [[2, 1], [3, 1]]) == pytest.approx(3.5 / 8)
    assert probability_of_improvement([[1], [2]], [[1], [2]]) == pytest.approx(0.5)


def test_probability_of_improvement_is_the_mann_whitney_statistic():
    a, b = np.random.default_rng(2).lognormal(0, 1, (2, 15, 1))
    assert probability_of_improvement(a, b) == pytest.approx(1 - stats.mannwhitneyu(a[:, 0], b[:, 0]).statistic / 15**2)


def test_both_sides_together_are_certain():
    a, b = np.random.default_rng(3).lognormal(0, 1, (2, 9, 4))
    assert probability_of_improvement(a, b) + probability_of_improvement(b, a) == pytest.approx(1)


def test_intervals_hold_the_estimate_and_repeat_under_their_seed():
    a, b = np.random.default_rng(4).lognormal(0, 0.5, (2, 20, 5))
    b *= 1.5
    for one in (interquartile_mean_interval(a, resamples=1000), probability_of_improvement_interval(a, b, resamples=1000)):
        assert one.low < one.estimate < one.high
    assert probability_of_improvement_interval(a, b, resamples=1000).low > 0.5
    assert interquartile_mean_interval(a, resamples=500, seed=1) == interquartile_mean_interval(a, resamples=500, seed=1)
    assert interquartile_mean_interval(a, resamples=500, seed=1) != interquartile_mean_interval(a, resamples=500, seed=2)


def test_runs_are_resampled_within_their_task():
    """Tasks that differ a thousandfold and hardly vary inside: across tasks the interval would span them."""
    values = np.array([1.0, 10.0, 100.0, 1000.0]) * np.random.default_rng(5).normal(1, 0.01, (10, 4))
    interval = interquartile_mean_interval(values, resamples=500)
    assert interval.high - interval.low < 0.05 * interval.estimate


def test_the_interval_of_the_improvement_covers_one_half_where_sides_are_equal():
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(200):
        a, b = rng.lognormal(0, 1, (2, 20, 3))
        interval = probability_of_improvement_interval(a, b, resamples=400)
        hits += interval.low <= 0.5 <= interval.high
    assert hits >= 180


def test_one_run_has_no_interval_and_blanks_are_refused():
    assert not interquartile_mean_interval([[1.0, 2.0]]).bounded
    assert not probability_of_improvement_interval([[1.0]], [[2.0]]).bounded
    with pytest.raises(ValueError, match="leave out the tasks with blanks"):
        interquartile_mean([[1.0, np.nan]])
    with pytest.raises(ValueError, match="2 tasks against 1"):
        probability_of_improvement([[1.0, 2.0]], [[1.0]])

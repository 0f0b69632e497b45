"""The sentinel by hand, and against streams of which it is known whether the groups differ."""

import numpy as np
import pytest

from trimtab.gateway import sentinel
from trimtab.gateway.sentinel import CONTROL, FEWEST_REQUESTS, LEARNED, STANDARD_ERRORS, WORST_RATIO, Gap, Sentinel, compare

CONTROL_SHARE = 0.1
# Share and mean latency of each class under `sed-online` on the default fleet, and their coefficient of variation, rounded.
CLASSES = ((0.6, 0.010), (0.3, 0.030), (0.1, 0.064))
VARIATION = 0.6


def sums_of(learned, control):
    """From latencies by class, one list each."""
    return np.array([[[sum(x**power for x in one) for one in group] for group in (learned, control)] for power in (0, 1, 2)], dtype=float)


# By hand


def test_means_are_weighed_by_the_classes_of_both_groups_together():
    gap = compare(sums_of([[0.1, 0.3], [1.0, 1.0, 1.0, 3.0]], [[0.1, 0.1], [1.0, 3.0]]), 30.0)
    # class shares 4/10 and 6/10; learned means 0.2 and 1.5, control means 0.1 and 2
    assert gap.learned_s == pytest.approx(0.4 * 0.2 + 0.6 * 1.5)
    assert gap.control_s == pytest.approx(0.4 * 0.1 + 0.6 * 2.0)
    # squared deviations within groups: 0.02 + 0 over 2 degrees of freedom, and 3 + 2 over 4
    variance = 0.4**2 * 0.01 * (1 / 2 + 1 / 2) + 0.6**2 * 1.25 * (1 / 4 + 1 / 2)
    assert gap.error_s == pytest.approx(variance**0.5)
    assert (gap.learned, gap.control, gap.window_s) == (6, 4, 30.0)


def test_the_mix_of_a_group_does_not_matter():
    short, long = [0.01, 0.02, 0.03], [1.0, 1.1, 1.2]
    gap = compare(sums_of([short * 50, long], [short, long * 50]), 30.0)
    assert gap.learned_s == pytest.approx(gap.control_s)


def test_a_class_that_one_group_lacks_is_left_out():
    gap = compare(sums_of([[0.1, 0.1], [9.0, 9.0], []], [[0.1, 0.1], [], []]), 30.0)
    assert (gap.learned_s, gap.control_s) == (pytest.approx(0.1), pytest.approx(0.1))
    assert (gap.learned, gap.control) == (2, 2)


@pytest.mark.parametrize("groups", [([[]], [[]]), ([[0.1]], [[]]), ([[0.1]], [[0.1]]), ([[], [0.1] * 9], [[0.1] * 9, []])])
def test_nothing_to_compare_is_no_gap(groups):
    assert compare(sums_of(*groups), 30.0) is None


def gap(learned_s, control_s, error_s, control=FEWEST_REQUESTS, learned=1000):
    return Gap(learned_s, control_s, error_s, learned, control, 30.0)


@pytest.mark.parametrize(
    ("one", "behind"),
    [
        (gap(0.112, 0.100, 0.001), True),
        (gap(0.109, 0.100, 0.001), False),  # certain, yet less than 10 %
        (gap(0.130, 0.100, 0.0076), False),  # 30 %, yet less than 4 errors
        (gap(0.130, 0.100, 0.0074), True),
        (gap(0.130, 0.100, 0.001, control=FEWEST_REQUESTS - 1), False),
        (gap(0.130, 0.100, 0.001, learned=FEWEST_REQUESTS - 1), False),
        (gap(0.070, 0.100, 0.001), False),  # ahead
    ],
)
def test_behind_is_more_than_a_tenth_and_more_than_chance(one, behind):
    assert (WORST_RATIO, STANDARD_ERRORS) == (0.10, 4.0)
    assert one.is_behind is behind


def test_it_is_told_with_its_figures():
    said = Gap(0.0541, 0.0410, 0.001, 1240, 131, 29.99).told("sed-online")
    assert said == "learned 54.1 ms against 41.0 ms of sed-online over 30 s, 1,240 and 131 requests"


def test_what_is_older_than_a_window_is_out_of_it():
    one = Sentinel(1, 100.0)
    for n in range(10):
        one.ended(LEARNED, 0, 0.3, 100.0 + 0.1 * n)
        one.ended(CONTROL, 0, 0.1, 100.0 + 0.1 * n)
    short, long = one.read(101.0)
    assert [gap[:2] for gap in (short, long)] == [pytest.approx((0.3, 0.1))] * 2
    assert short.window_s == pytest.approx(1.0)
    short, long = one.read(135.0)
    assert short is None
    assert long.learned == 10
    one.clear(135.0)
    assert one.read(135.0) == (None, None)


def test_it_is_due_once_a_second():
    one = Sentinel(1, 100.0)
    assert [now_s for now_s in np.arange(100.0, 103.0, 0.25) if one.is_due(now_s)] == [101.0, 102.0]


# Against simulated streams


def moments(rng, seconds, rate_rps, ratio=1.0, failing=0.0, variation=VARIATION):
    """Sums of each second [3, seconds, 2, K]: Poisson arrivals, lognormal latencies, the learned group's `ratio` times as long."""
    sums, spread = np.zeros((3, seconds, 2, len(CLASSES))), np.log1p(variation**2)
    for kind, (share, mean_s) in enumerate(CLASSES):
        for group, (part, factor) in enumerate(((1.0 - CONTROL_SHARE, ratio), (CONTROL_SHARE, 1.0))):
            counts = rng.poisson(rate_rps * share * part, seconds)
            took_s = factor * mean_s * rng.lognormal(-spread / 2, spread**0.5, counts.sum())
            took_s = np.where(rng.random(took_s.size) < failing, 40 * 0.02, took_s)  # as a failure is counted
            second = np.repeat(np.arange(seconds), counts)
            for power in range(3):
                sums[power, :, group, kind] = np.bincount(second, took_s**power, seconds)
    return sums


def first_alarm_s(sums):
    """When a sentinel that looks once a second first says that the learned group is behind; None: never."""
    before = np.concatenate([np.zeros((3, 1, *sums.shape[2:])), sums.cumsum(axis=1)], axis=1)
    for second in range(1, sums.shape[1] + 1):
        for window_s in sentinel.WINDOWS_S:
            found = compare(before[:, second] - before[:, max(0, second - int(window_s))], window_s)
            if found is not None and found.is_behind:
                return second
    return None


@pytest.mark.parametrize(
    ("rate_rps", "failing", "variation"), [(20.0, 0.0, VARIATION), (100.0, 0.0, VARIATION), (100.0, 0.01, VARIATION), (100.0, 0.0, 1.5)]
)
def test_groups_that_do_not_differ_are_left_alone_for_hours(rate_rps, failing, variation):
    rng = np.random.default_rng(1)
    hours = [first_alarm_s(moments(rng, 3600, rate_rps, failing=failing, variation=variation)) for _ in range(3)]
    assert hours == [None] * 3


def test_with_variances_of_their_own_they_would_not_be():
    """Why the variance is pooled: the same comparison, as Welch would, at the same number of standard errors."""
    rng = np.random.default_rng(1)
    count, total, square = np.add.reduceat(moments(rng, 3600 * 12, 20.0, variation=1.5), np.arange(0, 3600 * 12, 30), axis=1)
    seen = (count > 1).all(axis=1, keepdims=True)
    mean_s, share = total / np.maximum(count, 1), count.sum(axis=1, keepdims=True) * seen
    share /= share.sum(axis=2, keepdims=True)
    variance = np.maximum(square - count * mean_s**2, 0.0) / np.maximum(count - 1, 1)
    error_s = np.sqrt((share**2 * variance / np.maximum(count, 1)).sum(axis=(1, 2)))
    more_s = ((mean_s[:, LEARNED] - mean_s[:, CONTROL]) * share[:, 0]).sum(axis=1)
    assert (more_s > STANDARD_ERRORS * error_s).sum() >= 1, "in 1440 windows that do not even overlap"


def test_thirty_per_cent_is_seen_within_thirty_seconds():
    rng = np.random.default_rng(2)
    seen_s = [first_alarm_s(moments(rng, 120, 100.0, ratio=1.3)) for _ in range(40)]
    assert all(second is not None for second in seen_s)
    assert np.mean(np.array(seen_s) <= 30) >= 0.8


def test_fifteen_per_cent_is_seen_within_minutes():
    rng = np.random.default_rng(3)
    seen_s = [first_alarm_s(moments(rng, 600, 100.0, ratio=1.15)) for _ in range(20)]
    assert np.mean([second is not None for second in seen_s]) >= 0.9


def test_failures_alone_are_enough():
    rng = np.random.default_rng(4)
    healthy, failing = moments(rng, 60, 100.0), moments(rng, 60, 100.0, failing=0.1)
    failing[:, :, CONTROL] = healthy[:, :, CONTROL]
    assert first_alarm_s(failing) <= 30

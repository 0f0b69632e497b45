"""Estimates with intervals, from one number per episode. Pure functions on arrays.

An episode is the unit of chance: requests inside one share a queue, so they are not independent samples, episodes are.

Sources: B. Efron, "Better bootstrap confidence intervals", JASA 82 (1987), for BCa; B. Efron and R. Tibshirani, "An Introduction
to the Bootstrap" (1993), chapters 12 and 16, for the studentised one and its test; S. Holm, "A simple sequentially rejective
multiple test procedure", Scandinavian Journal of Statistics 6 (1979), for many comparisons; R. Agarwal et al., "Deep reinforcement
learning at the edge of the statistical precipice", NeurIPS 2021 (rliable), for the aggregates over many fleets.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

F64 = npt.NDArray[np.float64]
Verdict = Literal["better", "worse", "no difference"]

# Spread below this share of the largest value is rounding, not variation; a bootstrap of it would return noise as an interval.
ROUNDING = 1e-12
# Below this many pairs a studentised bootstrap has so few distinct resamples that single ones set its bounds (at five pairs they were
# seen at -130 %); Student's t on the same standard error covered 91 to 96 % from three pairs on, BCa 70 % at three and 81 % at five.
FEW_PAIRS = 10
RESAMPLES = 10_000  # the smallest p-value is 2 / 10,001, which leaves Holm's correction room for 250 comparisons
FLAT = 1e-12  # of the variance: a resample below it consists of equal pairs


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence bounds; a bound is NaN where the data cannot carry one."""

    estimate: float
    low: float
    high: float

    @property
    def bounded(self) -> bool:
        """Whether both bounds are known."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def scaled(self, factor: float) -> "Interval":
        """The same interval in another unit (`factor` > 0), such as percent instead of a share."""
        return Interval(self.estimate * factor, self.low * factor, self.high * factor)


UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, slots=True)
class Difference:
    """One policy against another: the interval of the difference, and the p-value of "there is none" (NaN where no bounds are known)."""

    interval: Interval
    p_value: float


def bootstrap_interval(values: npt.ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean of `values  # [N]` with its BCa bootstrap interval (Efron 1987). NaN values are left out, as episodes without a measurement.

    Equal values give the interval of width zero; fewer than two give NaN bounds. Below ten episodes BCa is too narrow (a nominal
    95 % covers about 80 % at N = 5), so it describes one policy; comparisons use `paired_difference`.
    """
    sample = _measured(values)
    if sample.size == 0:
        return UNKNOWN
    mean = float(sample.mean())
    if sample.size < 2:
        return Interval(mean, float("nan"), float("nan"))
    scale = float(np.abs(sample).max())
    if np.ptp(sample) <= ROUNDING * scale:
        return Interval(mean, mean, mean)
    low, high = _bca_bounds(sample / scale, level, resamples, seed)
    return Interval(mean, low * scale, high * scale)


def paired_difference(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Relative difference of the means, (mean a / mean b - 1) * 100 percent, over paired episodes `a, b  # [N]`.

    Resamples episodes, not values, so the luck that both shared cancels. The interval is studentised: bootstrap-t, and Student's t
    below ten pairs, as in a live run of five. NaN pairs are left out; fewer than two pairs, or a mean of `b` that is not positive,
    give no bounds. Raises ValueError where the lengths differ.
    """
    return paired_test(a, b, level, resamples, seed).interval


def paired_test(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """The interval of `paired_difference` and the two-sided p-value of equal means, from the same resamples.

    The p-value is that of the mean of a - b: where one outlier makes the ratio uncertain at a large value, such as 60 times give or
    take 40, the error of the ratio would say that equal means are well possible, and the data say nothing of the kind.
    """
    first, second = _pairs(a, b)
    if first.size == 0 or second.mean() <= 0:
        return Difference(UNKNOWN, float("nan"))
    ratio, error = (float(part) for part in _ratio_and_error(first, second))
    estimate = (ratio - 1) * 100
    if first.size < 2:
        return Difference(Interval(estimate, float("nan"), float("nan")), float("nan"))
    if error <= ROUNDING * abs(ratio):
        return Difference(Interval(estimate, estimate, estimate), float(abs(ratio - 1) <= ROUNDING))
    if first.size < FEW_PAIRS:
        high = float(stats.t.ppf((1 + level) / 2, first.size - 1))
        low = -high
    else:
        spread = _studentised(first, second, ratio, resamples, seed)
        low, high = (float(one) for one in np.quantile(spread, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf"))
    interval = _bounds_or_nan(estimate, estimate - 100 * error * high, estimate - 100 * error * low)
    return Difference(interval, _p_value(first - second, resamples, seed) if interval.bounded else float("nan"))


def verdict(interval: Interval) -> Verdict:
    """What a difference allows to be said where lower is better: only an interval that excludes zero earns a word."""
    if interval.high < 0:
        return "better"
    if interval.low > 0:
        return "worse"
    return "no difference"


def corrected_verdicts(differences: Sequence[Difference], level: float = 0.95) -> list[Verdict]:
    """The words that a family of comparisons allows together: a winner is named by mistake in at most `1 - level` of families.

    A word needs an interval that excludes zero and a p-value that survives Holm's correction over the family.
    """
    adjusted = holm([one.p_value for one in differences])
    words = (verdict(one.interval) for one in differences)
    return [word if p <= 1 - level else "no difference" for word, p in zip(words, adjusted, strict=True)]


def holm(p_values: npt.ArrayLike) -> F64:
    """p-values `# [M]` adjusted for their number by Holm's step-down method; NaN values count for nothing and stay NaN."""
    given = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(given.shape, np.nan)
    known = np.flatnonzero(np.isfinite(given))
    order = known[np.argsort(given[known], kind="stable")]
    steps = given[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def rank_correlation(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Spearman's rank correlation of `x, y  # [N]`; NaN for fewer than two pairs or where one side is constant."""
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    both = np.isfinite(first) & np.isfinite(second)
    first, second = first[both], second[both]
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1])


def _measured(values: npt.ArrayLike) -> F64:
    sample = np.asarray(values, dtype=np.float64)
    return sample[np.isfinite(sample)]


def _pairs(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[F64, F64]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired values have shapes {first.shape} and {second.shape}; each episode needs one of both")
    both = np.isfinite(first) & np.isfinite(second)
    return first[both], second[both]


@functools.lru_cache(maxsize=64)
def resample_counts(size: int, resamples: int, *seed: int) -> F64:
    """How often each of `size` episodes is in each resample: sums over resamples are then one matrix product.  # [R, N], read-only

    Kept, because every policy of a table shares them; at twenty episodes and 10,000 resamples one takes 1.6 MB.
    """
    draws = np.random.default_rng(seed).integers(size, size=(resamples, size)) + size * np.arange(resamples)[:, None]
    counts = np.bincount(draws.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float64)
    counts.flags.writeable = False
    return counts


def _bca_bounds(sample: F64, level: float, resamples: int, seed: int) -> tuple[float, float]:
    """BCa bounds of the mean. `sample` is scaled to order one: BCa cubes deviations, which would under- or overflow otherwise.

    SciPy's `bootstrap` gives the same bounds (a test) and takes ten times as long, for want of the resamples that are kept here.
    """
    means = resample_counts(sample.size, resamples, seed) @ sample / sample.size
    mean = float(sample.mean())
    below = ((means < mean).mean() + (means <= mean).mean()) / 2
    bias = stats.norm.ppf(below)
    deviation = sample - mean  # the jackknife's means deviate by -1 / (n - 1) of it
    skew = (deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5)
    edges = bias + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    shares = stats.norm.cdf(bias + edges / (1 - skew * edges))
    if not np.isfinite(shares).all():
        return float("nan"), float("nan")
    low, high = np.quantile(means, shares)
    return float(low), float(high)


def _bounds_or_nan(estimate: float, low: float, high: float) -> Interval:
    if np.isfinite(low) and np.isfinite(high):
        return Interval(estimate, low, high)
    return Interval(estimate, float("nan"), float("nan"))


def _ratio_and_error(a: F64, b: F64) -> tuple[F64, F64]:
    """Ratio of means and its standard error by the delta method, over the last axis: `a, b  # [..., N]` -> `# [...]`."""
    n = a.shape[-1]
    mean_b = b.mean(axis=-1)
    ratio = a.mean(axis=-1) / mean_b
    if n < 2:
        return ratio, np.full_like(ratio, np.nan)
    residual = (a - ratio[..., None] * b) / mean_b[..., None]
    return ratio, residual.std(axis=-1, ddof=1) / np.sqrt(n)


def _studentised(a: F64, b: F64, ratio: float, resamples: int, seed: int) -> F64:
    """(ratio* - ratio) / error* over resampled episodes; infinite for a resample without spread.  # [R]

    Everything follows from sums over the resample, so it is one matrix product; the residuals are those from the full sample's
    ratio, because sums of squares of the values themselves would lose the small differences between policies to rounding.
    """
    counts, n = resample_counts(a.size, resamples, seed), a.size
    residual = a - ratio * b
    sums = counts @ np.stack([residual, b, residual**2, residual * b, b**2], axis=1)  # [R, 5]
    shift = sums[:, 0] / sums[:, 1]  # ratio* - ratio
    squares = sums[:, 2] - 2 * shift * sums[:, 3] + shift**2 * sums[:, 4]
    # A resample without spread has no error of its own (nine equal pairs and one other): counting it as infinite withholds
    # the bounds, dropping it would let the equal ones alone decide.
    flat = squares <= FLAT * (residual**2).sum()
    errors = np.sqrt(np.where(flat, 1.0, squares) / (n - 1) / n) / (sums[:, 1] / n)
    return np.where(flat, np.copysign(np.inf, shift), shift / errors)


def _p_value(difference: F64, resamples: int, seed: int) -> float:
    """Two-sided p-value of a mean difference of zero, studentised as the interval is; `difference  # [N]`.

    The larger of Student's and the studentised bootstrap's: the first is too small for skewed differences, the second for symmetric
    ones with heavy tails, such as a policy against itself (at twenty episodes of `affinity-100`, 60 winners of 800 instead of 40). The
    bootstrap's is twice the share of resampled statistics as far out as the observed one, never zero.
    """
    deviation = difference - difference.mean()
    error = difference.std(ddof=1) / np.sqrt(difference.size)
    if error <= ROUNDING * np.abs(difference).max():
        return float(not difference.any())
    t = float(difference.mean() / error)
    student = 2 * float(stats.t.sf(abs(t), difference.size - 1))
    if difference.size < FEW_PAIRS:
        return student
    spread = _studentised(deviation, np.ones_like(deviation), 0.0, resamples, seed)
    beyond = min(int((spread >= t).sum()), int((spread <= t).sum()))
    return min(1.0, max(student, 2 * (beyond + 1) / (spread.size + 1)))

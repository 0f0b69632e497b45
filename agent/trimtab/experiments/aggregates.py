"""One number over many fleets or scenarios, with its interval: rliable's definitions, for costs (lower is better).

R. Agarwal, M. Schwarzer, P. S. Castro, A. Courville and M. Bellemare, "Deep reinforcement learning at the edge of the statistical
precipice", NeurIPS 2021. `scores` are [N, M]: N runs (episodes, seeds) of each of M tasks (fleets, scenarios). Give them in units
that tasks share, such as the latency divided by a yardstick's on the same task: a mean over milliseconds is the slowest task's alone.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import stats

from trimtab.experiments.statistics import F64, RESAMPLES, Interval, resample_counts

CHUNK = 500  # resamples at a time: all at once would take 1.6 GB for 20 runs of 1000 fleets


def interquartile_mean(scores: npt.ArrayLike) -> float:
    """Mean of the middle half of all runs of all tasks: `scores  # [N, M]`. Less moved by outliers than the mean of all."""
    return float(stats.trim_mean(_complete(scores), 0.25, axis=None))


def interquartile_mean_interval(scores: npt.ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The interquartile mean with rliable's percentile interval of the stratified bootstrap: runs are resampled within each task."""
    values = _complete(scores)
    estimate = interquartile_mean(values)
    if values.shape[0] < 2:
        return Interval(estimate, float("nan"), float("nan"))
    parts = _stratified(values, resamples, np.random.default_rng(seed))
    drawn = [stats.trim_mean(part.reshape(len(part), -1), 0.25, axis=1) for part in parts]
    return _percentiles(estimate, np.concatenate(drawn), level)


def probability_of_improvement(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Probability that a run of `a  # [N, M]` costs less than a run of `b  # [L, M]` on a random task; ties count half.

    Per task it is the Mann-Whitney statistic over N L, then the mean over tasks. 0.5 is no difference. Raises ValueError where the
    tasks differ in number.
    """
    return float(_wins(a, b).mean())


def probability_of_improvement_interval(
    a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The probability of improvement with rliable's interval: both sides are resampled within each task, independently."""
    wins = _wins(a, b)
    tasks, first, second = wins.shape
    if min(first, second) < 2:
        return Interval(float(wins.mean()), float("nan"), float("nan"))
    drawn = np.zeros(resamples)
    for number, task in enumerate(wins):
        mine, theirs = resample_counts(first, resamples, seed, number, 0), resample_counts(second, resamples, seed, number, 1)
        drawn += (mine @ task * theirs).sum(axis=1) / (first * second * tasks)
    return _percentiles(float(wins.mean()), drawn, level)


def _wins(a: npt.ArrayLike, b: npt.ArrayLike) -> F64:
    """1 where a run of a costs less than a run of b, 1/2 where as much.  # [M, N, L]"""
    mine, theirs = _complete(a), _complete(b)
    if mine.shape[1] != theirs.shape[1]:
        raise ValueError(f"{mine.shape[1]} tasks against {theirs.shape[1]}; both sides need the same ones")
    left, right = mine.T[:, :, None], theirs.T[:, None, :]
    return np.asarray((left < right) + (left == right) / 2)


def _complete(scores: npt.ArrayLike) -> F64:
    """`scores` as [N, M]. A task with a blank would be weighed by luck, so it is refused."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"scores of shape {values.shape} are not a full table [runs, tasks]; leave out the tasks with blanks")
    return values


def _stratified(values: F64, resamples: int, rng: np.random.Generator) -> Iterator[F64]:
    """Resamples of the runs within each task, some at a time.  # [R, N, M]"""
    runs, tasks = values.shape
    for first in range(0, resamples, CHUNK):
        count = min(CHUNK, resamples - first)
        yield values[rng.integers(runs, size=(count, runs, tasks)), np.arange(tasks)]


def _percentiles(estimate: float, drawn: F64, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))

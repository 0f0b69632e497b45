"""Does a model that learns do worse than the heuristic? Two groups of the same traffic, told apart by chance alone, and when to call them
different. Pure; time is an argument.

The comparison is that of a randomised experiment, adjusted for the classes (post-stratification: Miratrix, Sekhon and Yu 2013, J. R.
Statist. Soc. B 75, 369-396): the mean of each group in each class, weighed by the share that the class has of both groups together, so that
it does not matter which group happened to get the longer requests. Requests of one moment queue at the same servers, but who is in which
group is independent of that: what they share cancels out of the difference.

The variance is pooled within classes, as of two groups that do not differ (Student's two-sample test). Welch's variances of their own
would not do: latencies are skewed, and a small control group without any of the rare long requests has a low mean and a low variance at
the same time. With them groups that do not differ are called different every hour; see `tests/gateway/test_sentinel.py`.
"""

from typing import Final, NamedTuple

import numpy as np

from trimtab.core.request_log import F64
from trimtab.gateway.window import SLOTS, Ring

LEARNED, CONTROL = 0, 1
WINDOWS_S: Final = (30.0, 300.0)  # the short one sees what hurts much soon, the long one what hurts a little all the time
LOOK_S: Final = 1.0  # between two looks
FEWEST_REQUESTS: Final = 50
WORST_RATIO: Final = 0.10
# Both windows are looked at once a second, 3,600 times an hour: an interval of 99 % would exclude equality by chance within minutes. With
# this many standard errors (99.99 % for a single look) groups that do not differ are called different in less than 2 % of hours.
STANDARD_ERRORS: Final = 4.0


class Gap(NamedTuple):
    """Two groups compared: seconds a request, each class weighed by its share of the traffic."""

    learned_s: float
    control_s: float
    error_s: float  # standard error of the difference, if there were none
    learned: int  # requests
    control: int
    window_s: float  # that they ended in

    @property
    def is_enough(self) -> bool:
        """Whether each group has FEWEST_REQUESTS."""
        return min(self.learned, self.control) >= FEWEST_REQUESTS

    @property
    def is_behind(self) -> bool:
        """More than WORST_RATIO slower than the control group, and by more than STANDARD_ERRORS."""
        more_s = self.learned_s - self.control_s
        return self.is_enough and more_s > WORST_RATIO * self.control_s and more_s > STANDARD_ERRORS * self.error_s

    def told(self, heuristic: str) -> str:
        """In a line; `heuristic` decided about the control group."""
        of_each = f"{self.learned:,} and {self.control:,} requests"
        means = f"learned {1e3 * self.learned_s:.1f} ms against {1e3 * self.control_s:.1f} ms of {heuristic}"
        return f"{means} over {self.window_s:.0f} s, {of_each}"


def compare(sums: F64, window_s: float) -> Gap | None:
    """The groups by their sums [3, LEARNED or CONTROL, K]: requests, seconds, squared seconds. None where there is nothing to compare.

    Classes that one group has no request of, or both only one, are left out: nothing is known of them.
    """
    count, total, square = sums[:, :, (sums[0] > 0).all(axis=0) & (sums[0].sum(axis=0) > 2)]
    if count.size == 0:
        return None
    mean_s = total / count
    share = count.sum(axis=0) / count.sum()
    scatter = np.maximum(square - count * mean_s**2, 0.0).sum(axis=0)  # below 0 by rounding alone
    variance = scatter / (count.sum(axis=0) - 2.0)
    error_s = float(np.sqrt((share**2 * variance * (1.0 / count).sum(axis=0)).sum()))
    learned_s, control_s = (mean_s * share).sum(axis=1).tolist()
    learned, control = count.sum(axis=1).astype(int).tolist()
    return Gap(learned_s, control_s, error_s, learned, control, window_s)


class Sentinel:
    """The requests of both groups that ended lately, and whether the learned one is behind. K `classes`; it opens at `now_s`."""

    def __init__(self, classes: int, now_s: float) -> None:
        self._sums: tuple[F64, ...] = tuple(np.zeros((SLOTS, 3, 2, classes)) for _ in WINDOWS_S)
        self.clear(now_s)

    def clear(self, now_s: float) -> None:
        """Forget everything."""
        for sums in self._sums:
            sums[:] = 0.0
        self._rings = tuple(Ring(now_s, sums, slot_s=window_s / SLOTS) for sums, window_s in zip(self._sums, WINDOWS_S, strict=True))
        self._next_look_s = now_s + LOOK_S

    def ended(self, group: int, kind: int, cost_s: float, now_s: float) -> None:
        """A request of class `kind` took `cost_s`, or counts as that where it failed."""
        for sums, ring in zip(self._sums, self._rings, strict=True):
            place = sums[ring.slot(now_s), :, group, kind]
            place[0] += 1.0
            place[1] += cost_s
            place[2] += cost_s * cost_s

    def is_due(self, now_s: float) -> bool:
        """Once every LOOK_S."""
        due = now_s >= self._next_look_s
        if due:
            self._next_look_s = now_s + LOOK_S
        return due

    def read(self, now_s: float) -> tuple[Gap | None, ...]:
        """The gap over each of WINDOWS_S, or over the time since it was cleared."""
        gaps = []
        for sums, ring, window_s in zip(self._sums, self._rings, WINDOWS_S, strict=True):
            ring.slot(now_s)
            gaps.append(compare(sums.sum(axis=0), min(window_s, ring.covered_s(now_s))))
        return tuple(gaps)

"""What the columns of the results files are called in front of people, in which unit, and how a number of each is written."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from trimtab.experiments.statistics import Interval

NOT_MEASURED = "n/a"
KEYS = ("scenario", "backend", "policy", "episode", "seed")


@dataclass(frozen=True, slots=True)
class Metric:
    """One column: its title, its unit, and the factor from the file's unit to the shown one (a share is shown in percent)."""

    column: str
    title: str
    unit: str = ""
    factor: float = 1.0

    @property
    def heading(self) -> str:
        """Title with unit, as axes and table heads show it."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


MEAN_LATENCY = Metric("mean_latency_ms", "mean latency", "ms")
P50_LATENCY = Metric("p50_latency_ms", "p50 latency", "ms")
P95_LATENCY = Metric("p95_latency_ms", "p95 latency", "ms")
P99_LATENCY = Metric("p99_latency_ms", "p99 latency", "ms")
ERROR_RATE = Metric("error_rate", "error rate", "%", 100)
SLO_ATTAINMENT = Metric("slo_attainment", "within SLO", "%", 100)
GINI = Metric("gini_coefficient", "Gini of utilisation")
OPTIMAL_RATE = Metric("optimal_decision_rate", "optimal decisions", "%", 100)
TOTAL_REWARD = Metric("total_reward", "total reward")
DECISION_TIME = Metric("decision_us", "decision time", "µs")

EVALUATION_TABLE = (MEAN_LATENCY, P50_LATENCY, P95_LATENCY, P99_LATENCY, ERROR_RATE, SLO_ATTAINMENT, GINI, OPTIMAL_RATE)
# Known columns that the table leaves to the CSV: they describe the run rather than rank policies.
UNTABLED = (*KEYS, "requests", "p999_latency_ms", "throughput_rps", "utilization_std", "total_reward", "decision_us", "schedule_lag_ms")


def episodes(counts: Iterable[int]) -> str:
    """`50 episodes`, or `3 to 5 episodes` where policies differ."""
    found = sorted(set(counts))
    spread = str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
    return f"{spread} episode" + ("" if found == [1] else "s")


def number(value: float, decimals: int) -> str:
    """`value` with that many decimals, or n/a where it was not measured."""
    return f"{value:.{decimals}f}" if math.isfinite(value) else NOT_MEASURED


def decimals_for(*values: float) -> int:
    """Decimals that give the largest of `values` three significant digits (at most six decimals)."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0:
        return 0
    return min(6, max(0, 2 - math.floor(math.log10(largest))))


def estimate(interval: Interval) -> str:
    """The estimate alone, with the digits that `with_bounds` would show."""
    return number(interval.estimate, decimals_for(interval.estimate, interval.low, interval.high))


def with_bounds(interval: Interval) -> str:
    """`12.3 [11.8, 12.9]`; `12.3 [n/a]` where no bounds are known; `n/a` where nothing was measured."""
    if not math.isfinite(interval.estimate):
        return NOT_MEASURED
    if not interval.bounded:
        return f"{estimate(interval)} [{NOT_MEASURED}]"
    digits = decimals_for(interval.estimate, interval.low, interval.high)
    return f"{number(interval.estimate, digits)} [{number(interval.low, digits)}, {number(interval.high, digits)}]"


def ratio(interval: Interval) -> str:
    """A relative difference in percent as the ratio that it comes from: -8.1 % is `0.919 [0.910, 0.928]`.

    A bound below zero is written as 0: a wide interval may reach there, costs cannot.
    """
    one = Interval(*(1 + value / 100 for value in (interval.estimate, interval.low, interval.high)))
    if not one.bounded:
        return with_bounds(one)
    digits = 3 if one.high < 2 else decimals_for(one.high)
    return f"{number(one.estimate, digits)} [{number(max(0.0, one.low), digits)}, {number(one.high, digits)}]"


def said(word: str) -> str:
    """A verdict of `experiments.statistics` as people read it: that nothing was shown does not mean that there is nothing."""
    return "not shown" if word == "no difference" else word


def signed_percent(interval: Interval, least: float = -math.inf) -> str:
    """A difference as `-8.1 % [-9.0, -7.2]`, with one decimal below 100 and none above; bounds below `least` are written as that."""
    if not math.isfinite(interval.estimate):
        return NOT_MEASURED
    if interval.bounded:
        interval = Interval(interval.estimate, max(least, interval.low), interval.high)
    digits = 1 if max(abs(value) for value in (interval.estimate, interval.low, interval.high) if math.isfinite(value)) < 100 else 0
    bounds = f"{interval.low:+.{digits}f}, {interval.high:+.{digits}f}" if interval.bounded else NOT_MEASURED
    return f"{interval.estimate:+.{digits}f} % [{bounds}]"

"""Numbers of the report: policies summarised and compared over their common episodes, and the twin held against the live fleet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from trimtab.errors import ResultsError
from trimtab.experiments.statistics import (
    UNKNOWN,
    Difference,
    Interval,
    bootstrap_interval,
    corrected_verdicts,
    paired_difference,
    paired_test,
    rank_correlation,
)
from trimtab.report.columns import EVALUATION_TABLE, MEAN_LATENCY, P50_LATENCY, P99_LATENCY, TOTAL_REWARD, UNTABLED, Metric, episodes

TWIN = "twin"
REFERENCES = ("dqn", "sed-online")
GAP_METRICS = (MEAN_LATENCY, P50_LATENCY, P99_LATENCY)
EPISODE = ["episode", "seed"]
_NOTHING = (UNKNOWN, "")


@dataclass(frozen=True)
class EvaluationRow:
    """One policy: an interval per metric over its episodes, and its paired difference in score from the reference policy."""

    policy: str
    episodes: int
    cells: dict[str, Interval]  # by column, in the metric's shown unit
    difference: Interval  # percent of the reference's score; UNKNOWN without a reference
    verdict: str  # better | worse | no difference | reference, or empty where the data carry no interval
    tail_difference: Interval = UNKNOWN  # the same of the p99 latency, where it was measured
    tail_verdict: str = ""


@dataclass(frozen=True)
class EvaluationTable:
    """One scenario on one backend, policies sorted best score first."""

    scenario: str
    backend: str
    reference: str | None
    score: Metric  # what sorts the rows and what the difference is about
    metrics: tuple[Metric, ...]
    rows: tuple[EvaluationRow, ...]

    @property
    def subject(self) -> str:
        """What titles and captions call this table."""
        return f"{self.scenario} on {self.backend}"

    @property
    def episodes(self) -> str:
        """`50 episodes`, or `3 to 5 episodes` where policies differ."""
        return episodes(row.episodes for row in self.rows)


@dataclass(frozen=True)
class TwinGap:
    """One policy in both worlds: means in ms and the twin's error, (twin / live - 1) in percent."""

    policy: str
    episodes: int  # the shared ones; 0 where none is shared and all episodes of each side were taken
    twin: dict[str, float]
    live: dict[str, float]
    errors: dict[str, Interval]


@dataclass(frozen=True)
class TwinComparison:
    """One scenario on the twin and on a live backend."""

    scenario: str
    live_backend: str
    metrics: tuple[Metric, ...]
    rows: tuple[TwinGap, ...]
    rank_correlation: float  # Spearman, of the policies by mean latency


def evaluation_tables(frame: pd.DataFrame, reference: str | None = None) -> list[EvaluationTable]:
    """A table per scenario and backend, in file order.

    `reference` is the policy to compare with; by default `dqn`, else `sed-online`, else none. Raises ResultsError for a reference
    that no row names.
    """
    if reference is not None and reference not in set(frame["policy"]):
        raise ResultsError(f"no rows of policy {reference!r} to compare with; the file has {', '.join(sorted(set(frame['policy'])))}")
    groups = frame.groupby(["scenario", "backend"], sort=False)
    return [_table(str(scenario), str(backend), group, reference) for (scenario, backend), group in groups]


def twin_against_live(frame: pd.DataFrame) -> list[TwinComparison]:
    """Every scenario that ran on the twin and on another backend, with the policies that did; empty where there is none."""
    comparisons = []
    for scenario, group in frame.groupby("scenario", sort=False):
        twin = group[group["backend"] == TWIN]
        for backend in group.loc[group["backend"] != TWIN, "backend"].unique():
            live = group[group["backend"] == backend]
            policies = [policy for policy in live["policy"].unique() if policy in set(twin["policy"])]
            if policies:
                comparisons.append(_twin_comparison(str(scenario), str(backend), policies, twin, live))
    return comparisons


def shown_metrics(frame: pd.DataFrame) -> tuple[Metric, ...]:
    """The table's metrics that hold a number, then the columns that only this problem knows, under their own names.

    The first is the score: mean latency, or the total reward where a problem has no latency.
    """
    measured = [column for column in frame.columns if pd.api.types.is_numeric_dtype(frame[column]) and frame[column].notna().any()]
    known = [metric for metric in EVALUATION_TABLE if metric.column in measured]
    tabled = {metric.column for metric in EVALUATION_TABLE}
    own = [Metric(column, column.replace("_", " ")) for column in measured if column not in tabled and column not in UNTABLED]
    return (*known, *own) if MEAN_LATENCY in known else (TOTAL_REWARD, *known, *own)


def _table(scenario: str, backend: str, frame: pd.DataFrame, reference: str | None) -> EvaluationTable:
    metrics = shown_metrics(frame)
    score = metrics[0]
    present = frame["policy"].unique()
    chosen = reference if reference in present else next((name for name in REFERENCES if name in present), None)
    costs = _costs(frame, score)
    tails = frame.pivot(index=EPISODE, columns="policy", values=P99_LATENCY.column) if P99_LATENCY in metrics else None
    compared = [_compared(values, chosen) for values in (costs, tails)]
    rows = [
        _row(str(policy), group, metrics, [one.get(str(policy), _NOTHING) for one in compared])
        for policy, group in frame.groupby("policy", sort=False)
    ]
    # Unmeasured scores go last: NaN compares false with everything and would leave the order to chance.
    rows.sort(key=lambda row: (math.isnan(mean := float(costs[row.policy].mean())), mean))
    return EvaluationTable(scenario, backend, chosen, score, metrics, tuple(rows))


def _costs(frame: pd.DataFrame, score: Metric) -> pd.DataFrame:
    """What is compared, lower is better: latency, or minus the reward where a problem has no latency.  # [episodes, policies]"""
    sign = -1.0 if score == TOTAL_REWARD else 1.0
    return sign * frame.pivot(index=EPISODE, columns="policy", values=score.column)


def _row(policy: str, frame: pd.DataFrame, metrics: Sequence[Metric], compared: Sequence[tuple[Interval, str]]) -> EvaluationRow:
    """`compared`: difference and word of the score, then of the tail."""
    cells = {metric.column: bootstrap_interval(frame[metric.column].to_numpy()).scaled(metric.factor) for metric in metrics}
    (difference, word), (tail, tail_word) = compared
    return EvaluationRow(policy, len(frame), cells, difference, word, tail, tail_word)


def _compared(values: pd.DataFrame | None, reference: str | None) -> dict[str, tuple[Interval, str]]:
    """Difference from the reference and the word that all of a column's comparisons together allow; `values`  # [episodes, policies]"""
    if values is None or reference is None:
        return {}
    tests = {
        str(policy): paired_test(values[policy].to_numpy(), values[reference].to_numpy())
        for policy in values.columns
        if policy != reference
    }
    words = corrected_verdicts(list(tests.values()))
    found = {policy: (test.interval, _word(test, word)) for (policy, test), word in zip(tests.items(), words, strict=True)}
    return {**found, reference: (UNKNOWN, "reference")}


def _word(test: Difference, word: str) -> str:
    return word if test.interval.bounded else ""


def _twin_comparison(scenario: str, backend: str, policies: Sequence[str], twin: pd.DataFrame, live: pd.DataFrame) -> TwinComparison:
    metrics = tuple(metric for metric in GAP_METRICS if metric.column in live.columns)
    rows = [_twin_gap(policy, twin[twin["policy"] == policy], live[live["policy"] == policy], metrics) for policy in policies]
    correlation = float("nan")
    if MEAN_LATENCY in metrics:
        rows.sort(key=lambda row: row.live[MEAN_LATENCY.column])
        correlation = rank_correlation([row.twin[MEAN_LATENCY.column] for row in rows], [row.live[MEAN_LATENCY.column] for row in rows])
    return TwinComparison(scenario, backend, metrics, tuple(rows), correlation)


def _twin_gap(policy: str, twin: pd.DataFrame, live: pd.DataFrame, metrics: Sequence[Metric]) -> TwinGap:
    shared = len(twin.merge(live, on=EPISODE))
    pairs = {metric.column: _both_worlds(twin, live, metric.column) for metric in metrics}
    errors = {column: _error(a, b, paired=shared > 0) for column, (a, b) in pairs.items()}
    means = [{column: float(pair[side].mean()) for column, pair in pairs.items()} for side in (0, 1)]
    return TwinGap(policy, shared, means[0], means[1], errors)


def _both_worlds(twin: pd.DataFrame, live: pd.DataFrame, column: str) -> tuple[pd.Series, pd.Series]:
    """One column over the episodes that both worlds ran, which had the same arrivals and work; all episodes where none is shared."""
    both = twin.merge(live, on=EPISODE, suffixes=("_twin", "_live"))
    if both.empty:
        return twin[column].dropna(), live[column].dropna()
    measured = both.dropna(subset=[f"{column}_twin", f"{column}_live"])
    return measured[f"{column}_twin"], measured[f"{column}_live"]


def _error(twin: pd.Series, live: pd.Series, paired: bool) -> Interval:
    if paired:
        return paired_difference(twin.to_numpy(), live.to_numpy())
    if twin.empty or live.empty:
        return UNKNOWN
    return Interval(float(twin.mean() / live.mean() - 1) * 100, float("nan"), float("nan"))

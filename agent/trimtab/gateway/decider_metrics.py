"""Metrics about who decides: outcomes, latencies and rewards by decider, model files, shadow, canary and learning."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from trimtab.core.tally import LATENCY_EDGES_S
from trimtab.gateway.scores import OUTCOMES, Scores
from trimtab.telemetry.counts import buckets


class FileGauges(NamedTuple):
    """One model file."""

    loads: int
    refusals: int
    age_s: float | None  # since the model in use was loaded; None: there is none yet


class ShadowGauges(NamedTuple):
    """What a shadow thinks of the routing."""

    results: Mapping[str, int]  # by candidates.RESULTS, since the start
    agreement: float | None  # of the last ten seconds, as the gains
    gains_s: Mapping[str, float]  # by "q" and "delay"; those that are known


class LearningGauges(NamedTuple):
    """A model that learns, beside its control group."""

    behind: int  # times that it fell behind
    share: float  # of requests that it decides about; 0 while it rests
    stopped: bool
    means_s: Mapping[str, float]  # by group, of the last 30 s; empty where there is nothing to compare


class OnTrial(NamedTuple):
    """The present of models and of those on trial; what there is none of is None or left out."""

    files: Mapping[str, FileGauges]  # by role
    doubts: Mapping[str, Mapping[str, int]]  # role of a candidate -> reason -> decisions
    shadow: ShadowGauges | None
    canary_share: float | None  # in force: 0 once it has stopped
    canary_stopped: bool
    learning: LearningGauges | None = None


class DeciderCollector(Collector):
    """`present` is called on the thread that reads the page, so it must ask the event loop's."""

    def __init__(self, scores: Scores, present: Callable[[], OnTrial]) -> None:
        self._scores, self._present = scores, present

    def describe(self) -> list[Metric]:
        """Nothing, so that registering reads no gauges."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families that have a series."""
        yield self._outcomes()
        yield self._latency()
        cost = CounterMetricFamily("trimtab_gateway_decider_cost", "Minus the reward, in mean service times.", labels=("decider",))
        for name, value in zip(self._scores.deciders, self._scores.totals.cost.tolist(), strict=True):
            cost.add_metric((name,), value)
        yield cost
        now = self._present()
        if now.files:
            yield from _files(now.files)
        if now.doubts:
            yield _doubts(now.doubts)
        if now.shadow is not None:
            yield from _shadow(now.shadow)
        if now.canary_share is not None:
            share = "Share of requests that the canary decides about; 0 once stopped."
            yield GaugeMetricFamily("trimtab_gateway_canary_share_ratio", share, value=now.canary_share)
            yield GaugeMetricFamily("trimtab_gateway_canary_stopped", "1 once it failed too often.", value=now.canary_stopped)
        if now.learning is not None:
            yield from _learning(now.learning)

    def _outcomes(self) -> Metric:
        family = CounterMetricFamily("trimtab_gateway_decider_outcomes", "How what each decider sent ended.", labels=("decider", "outcome"))
        for name, row in zip(self._scores.deciders, self._scores.totals.outcomes.tolist(), strict=True):
            for outcome, count in zip(OUTCOMES, row, strict=True):
                family.add_metric((name, outcome), count)
        return family

    def _latency(self) -> Metric:
        text = "Decision to end of answer, served, by who decided."
        family = HistogramMetricFamily("trimtab_gateway_decider_latency_seconds", text, labels=("decider",))
        totals = self._scores.totals
        for name, counts, total in zip(self._scores.deciders, totals.latencies, totals.latency_s, strict=True):
            family.add_metric((name,), buckets(LATENCY_EDGES_S, counts), float(total))
        return family


def _files(files: Mapping[str, FileGauges]) -> Iterator[Metric]:
    loads = CounterMetricFamily("trimtab_gateway_model_loads", "Model files put in place or refused.", labels=("role", "result"))
    age = GaugeMetricFamily("trimtab_gateway_model_age_seconds", "Since the model in use was loaded.", labels=("role",))
    for role, file in files.items():
        loads.add_metric((role, "loaded"), file.loads)
        loads.add_metric((role, "refused"), file.refusals)
        if file.age_s is not None:
            age.add_metric((role,), file.age_s)
    yield loads
    yield age


def _doubts(doubts: Mapping[str, Mapping[str, int]]) -> Metric:
    family = CounterMetricFamily(
        "trimtab_gateway_candidate_doubts", "What the guard counted against a candidate.", labels=("role", "reason")
    )
    for role, reasons in doubts.items():
        for reason, count in reasons.items():
            family.add_metric((role, reason), count)
    return family


def _learning(learning: LearningGauges) -> Iterator[Metric]:
    text = "Times that a model which learns fell behind its control group."
    yield CounterMetricFamily("trimtab_gateway_learning_behind", text, value=learning.behind)
    text = "Share of requests that a model which learns decides about; 0 while it rests."
    yield GaugeMetricFamily("trimtab_gateway_learning_share_ratio", text, value=learning.share)
    yield GaugeMetricFamily("trimtab_gateway_learning_stopped", "1 once it fell behind too often.", value=learning.stopped)
    text = "Mean of the last 30 s, weighed by class; failures count as in training."
    family = GaugeMetricFamily("trimtab_gateway_learning_latency_seconds", text, labels=("group",))
    for group, mean_s in learning.means_s.items():
        family.add_metric((group,), mean_s)
    yield family


def _shadow(shadow: ShadowGauges) -> Iterator[Metric]:
    results = CounterMetricFamily("trimtab_gateway_shadow_decisions", "Decisions of the shadow beside what was routed.", labels=("result",))
    for result, count in shadow.results.items():
        results.add_metric((result,), count)
    yield results
    if shadow.agreement is not None:
        text = "Of the shadow's decisions of the last ten seconds, those that agree."
        yield GaugeMetricFamily("trimtab_gateway_shadow_agreement_ratio", text, value=shadow.agreement)
    gains = GaugeMetricFamily("trimtab_gateway_shadow_gain_seconds", "Mean latency that the shadow says it would save.", labels=("by",))
    for by, gain_s in shadow.gains_s.items():
        gains.add_metric((by,), gain_s)
    yield gains

"""The gauges of training and of evaluation. They hold what was last measured; a number that was not measured is left out."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from trimtab.telemetry.names import measured

Row = Mapping[str, str | int | float | None]


class Learner(Protocol):
    """What is asked of the learning agent when the page is read."""

    @property
    def updates(self) -> int: ...

    @property
    def epsilon(self) -> float: ...

    @property
    def replay_fill(self) -> float: ...


class TrainingPage(Collector):
    """One training run: batches of rows in, gauges out."""

    def __init__(
        self, learner: Learner, columns: Sequence[str], planned: int, about: Mapping[str, str], clock: Callable[[], float]
    ) -> None:
        self._learner = learner
        self._columns = ("average_reward", "total_reward", *columns)
        self._about = dict(about)
        self._clock = clock  # seconds since 1970, as Prometheus counts time
        self._values: dict[str, float] = {"episodes_planned": planned, "last_batch_timestamp_seconds": clock()}
        self._yardsticks: dict[str, float] = {}

    def add(self, rows: Sequence[Row]) -> None:
        """The rows of one batch of episodes; gauges show the batch's means."""
        last, values = rows[-1], _means(rows, self._columns)
        for name in ("episode", "phase", "loss", "q_mean"):
            cell = last.get(name)
            if isinstance(cell, int | float):  # a loss that is not a number is shown as that: an alert waits for it
                values[name] = float(cell)
        self._values = {**self._values, **values, "last_batch_timestamp_seconds": self._clock()}

    def yardstick(self, policy: str, mean_latency_ms: float) -> None:
        """A classical policy's latency on the same kind of episode."""
        if math.isfinite(mean_latency_ms):
            self._yardsticks = {**self._yardsticks, policy: mean_latency_ms / 1e3}

    def diverged(self) -> None:
        """Learning broke down: the loss is not a number any more."""
        self._values = {**self._values, "loss": math.nan}

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        """Every number known at this moment."""
        yield InfoMetricFamily("trimtab_training", "What is trained, and where.", value=self._about)
        now = {**self._values, "epsilon": self._learner.epsilon, "replay_fill_ratio": self._learner.replay_fill}
        for name, value in now.items():
            yield GaugeMetricFamily(f"trimtab_training_{name}", _HELP.get(name, "Mean over the last batch of episodes."), value=value)
        yield CounterMetricFamily("trimtab_training_gradient_steps", "Gradient steps made.", value=self._learner.updates)
        reference = GaugeMetricFamily("trimtab_training_reference_latency_seconds", _REFERENCE, labels=["policy"])
        for policy, latency_s in self._yardsticks.items():
            reference.add_metric([policy], latency_s)
        yield reference


class EvaluationPage(Collector):
    """Latest means of every scenario and policy."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = (*columns, "total_reward", "decision_us")
        self._values: dict[tuple[str, str, str], dict[str, float]] = {}
        self._episodes: dict[tuple[str, str, str], int] = {}

    def add(self, rows: Sequence[Row]) -> None:
        """Rows of one policy: gauges show their means, the counter how many there have been."""
        key = (str(rows[-1]["scenario"]), str(rows[-1]["backend"]), str(rows[-1]["policy"]))
        self._values = {**self._values, key: _means(rows, self._columns)}
        self._episodes = {**self._episodes, key: self._episodes.get(key, 0) + len(rows)}

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        """One series for each scenario, backend and policy seen."""
        labels = ["scenario", "backend", "policy"]
        counter = CounterMetricFamily("trimtab_evaluation_episodes", "Episodes evaluated.", labels=labels)
        for key, count in self._episodes.items():
            counter.add_metric(key, count)
        yield counter
        values = self._values
        for name in sorted({name for one in values.values() for name in one}):
            gauge = GaugeMetricFamily(f"trimtab_evaluation_{name}", "Mean over the episodes of the policy's last turn.", labels=labels)
            for key, one in values.items():
                if name in one:
                    gauge.add_metric(key, one[name])
            yield gauge


def _means(rows: Sequence[Row], columns: tuple[str, ...]) -> dict[str, float]:
    """Mean of each metric over the rows in which it was measured."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in measured(row, columns).items():
            found.setdefault(name, []).append(value)
    return {name: math.fsum(sample) / len(sample) for name, sample in found.items()}


_REFERENCE = "Mean latency of a classical policy on the same kind of episode as is being trained on."
_HELP = {
    "episode": "Episodes trained.",
    "episodes_planned": "Episodes at the end of the run.",
    "phase": "Of the curriculum, 1 to 3; 4 is fine-tuning on live servers.",
    "epsilon": "Share of random decisions.",
    "loss": "Mean over the last batch's gradient steps; NaN where learning broke down.",
    "q_mean": "Mean Q value over the last batch's gradient steps.",
    "replay_fill_ratio": "Part of the memory that is filled: of rollouts, or of rewards once any are learned from.",
    "last_batch_timestamp_seconds": "When the last batch of episodes ended, in seconds since 1970.",
}

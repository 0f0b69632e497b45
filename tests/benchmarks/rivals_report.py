"""What rivals.py found, as one table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from measuring import number
from rivals_training import DECISIONS, OURS, SECONDS

from trimtab.experiments.statistics import Difference, Interval, bootstrap_interval, corrected_verdicts, paired_difference, paired_test
from trimtab.report.columns import ERROR_RATE, MEAN_LATENCY, P99_LATENCY, Metric, signed_percent, with_bounds
from trimtab.report.tables import Grid

METRICS = (MEAN_LATENCY, P99_LATENCY)
UNTRAINED = ""  # the stop of policies that are not trained
NOTHING = "-"
Key = tuple[str, str]  # policy and stop

COSTS = ("read at", "training, s", "decisions", "gradient steps", "gradient steps per decision", "decisions/s")
HEAD = (
    "policy",
    *COSTS,
    *(metric.heading for metric in METRICS),
    "failed",
    *(f"{metric.title} vs {OURS}" for metric in METRICS),
    "mean latency, seed by seed",
)
NOTES = (
    "Training is read at equal wall-clock and at an equal number of decisions; imports, compilation and a first, unmeasured training of "
    "each learner are outside the clock. Costs are means over training seeds. Where a learner did not make the decisions in the time "
    "allowed, it is read there, with the share that it made.",
    "Latencies are those of served requests: where some failed they flatter, and a p99 is n/a where too few were served. Each is an "
    "episode's mean over the training seeds, then the mean over held-out episodes with its 95 % BCa bootstrap interval, which speaks of "
    "these trained models.",
    "Differences: paired by episode, 95 % studentised bootstrap intervals (Student's t below ten episodes), negative is faster than "
    f"{OURS} at the same stop; better or worse where the interval excludes zero, after Holm's correction for the column. Seed by seed: "
    "the difference in mean latency of each training seed, least to most.",
)


def comparison(scenario: str, trainings: Sequence[dict[str, Any]], evaluations: Sequence[dict[str, Any]]) -> Grid:
    """The table: a row for each learner and stop, then the policies that are not trained."""
    costs, frame = pd.DataFrame(trainings), pd.DataFrame(evaluations)
    keys: list[Key] = list(dict.fromkeys(zip(frame["policy"], frame["stop"], strict=True)))
    keys.sort(key=lambda key: (key[1] == UNTRAINED, key[1] == DECISIONS))
    against = zip(*(_differences(frame, keys, metric) for metric in METRICS), strict=True)
    body = [
        (key[0], *_cost_cells(costs, key), *_latency_cells(frame, key), *differences, _seed_by_seed(frame, key))
        for key, differences in zip(keys, against, strict=True)
    ]
    seeds, episodes = frame["training_seed"].nunique(), frame["episode"].nunique()
    return Grid(f"{scenario}: {seeds} training seeds, {episodes} held-out episodes", HEAD, tuple(body), NOTES)


def _latency_cells(frame: pd.DataFrame, key: Key) -> tuple[str, ...]:
    latencies = [with_bounds(bootstrap_interval(_episodes(frame, key, metric))) for metric in METRICS]
    return (*latencies, f"{_episodes(frame, key, ERROR_RATE).mean():.2%}")


def _episodes(frame: pd.DataFrame, key: Key, metric: Metric) -> np.ndarray:
    """Each episode's value, the mean over training seeds.  # [N]"""
    rows = frame[(frame["policy"] == key[0]) & (frame["stop"] == key[1])]
    return rows.groupby("episode")[metric.column].mean().to_numpy()


def _reference(frame: pd.DataFrame, key: Key) -> Key:
    """Ours at the same stop. Without a reading of its own at a number of decisions, that number is what it made in the time."""
    own = frame[frame["policy"] == OURS]["stop"]
    return (OURS, key[1] if key[1] in set(own) else SECONDS)


def _differences(frame: pd.DataFrame, keys: Sequence[Key], metric: Metric) -> list[str]:
    others = [key for key in keys if key[0] != OURS]
    found = [paired_test(_episodes(frame, key, metric), _episodes(frame, _reference(frame, key), metric)) for key in others]
    texts = dict(zip(others, zip(found, corrected_verdicts(found), strict=True), strict=True))
    return [_difference_text(*texts[key]) if key in texts else "reference" for key in keys]


def _difference_text(difference: Difference, word: str) -> str:
    return f"{signed_percent(difference.interval)} {word}" if difference.interval.bounded else signed_percent(difference.interval)


def _cost_cells(costs: pd.DataFrame, key: Key) -> tuple[str, ...]:
    rows = costs[(costs["policy"] == key[0]) & (costs["stop"] == key[1])]
    if rows.empty:
        return (NOTHING,) * 6
    training_s, decisions, steps = (float(rows[name].mean()) for name in ("training_s", "decisions", "gradient_steps"))
    cost = (number(training_s), f"{decisions:,.0f}", f"{steps:,.0f}", f"{steps / decisions:.2g}", f"{decisions / training_s:,.0f}")
    return (_stop_text(rows), *cost)


def _stop_text(rows: pd.DataFrame) -> str:
    wanted = float(rows["wanted"].mean())
    if rows["stop"].iloc[0] == SECONDS:
        return f"{wanted:g} s"
    made = float((rows["decisions"] / rows["wanted"]).mean())
    return f"{wanted:,.0f} decisions" if made >= 1 else f"{made:.1%} of {wanted:,.0f} decisions"


def _seed_by_seed(frame: pd.DataFrame, key: Key) -> str:
    if key[0] == OURS or key[1] == UNTRAINED:
        return NOTHING
    found = [_difference_of(frame[frame["training_seed"] == seed], key) for seed in _seeds(frame, key)]
    return f"{min(found):+.1f} ... {max(found):+.1f} %"


def _seeds(frame: pd.DataFrame, key: Key) -> list[Any]:
    return sorted(frame[(frame["policy"] == key[0]) & (frame["stop"] == key[1])]["training_seed"].unique())


def _difference_of(frame: pd.DataFrame, key: Key) -> float:
    reference = _reference(frame, key)
    difference: Interval = paired_difference(_episodes(frame, key, MEAN_LATENCY), _episodes(frame, reference, MEAN_LATENCY))
    return difference.estimate

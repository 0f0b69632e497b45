"""What ablation.py found: a table of differences, and learning curves with bands over training seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from ablation_training import Plan
from ablation_variants import Variant, defaults_of
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from scipy import stats

from trimtab.experiments.statistics import F64, Interval, paired_difference
from trimtab.report.columns import signed_percent
from trimtab.report.drawing import BLACK, BLUE, GREEN, GUIDE, PURPLE, VERMILLION, new_figure, plain, png, set_title, soften
from trimtab.report.tables import Grid

REFERENCES = ("sed-online", "sed-moods")  # the first is what everything is compared with
SHOWN = (("mean_latency_ms", "mean latency"), ("p99_latency_ms", "p99"))
NOTHING = "-"
TOGETHER = 5  # curves in one panel; more get a panel each, beside the defaults
LEVEL = 0.95
NEAR = 20.0  # percent up to which the axis is linear, where curves go beyond
STYLES = ((BLUE, "-", "o"), (VERMILLION, "--", "s"), (GREEN, "-.", "^"), (PURPLE, ":", "D"), (BLACK, "-", "v"))
Frames = Mapping[str, pd.DataFrame]

HEAD = (
    "variant",
    "change",
    "seeds",
    *(f"{title} vs {REFERENCES[0]}, over seeds" for _, title in SHOWN),
    *(f"{title} vs {REFERENCES[0]}, over fleets" for _, title in SHOWN),
    "mean latency vs defaults, by seed",
    "training, s",
    "training, CPU s",
    "decisions",
    "gradient steps",
)


def comparison(plan: Plan, variants: Sequence[Variant], seeds: Sequence[str], frames: Frames) -> Grid:
    """The table: a row for each variant with a finished training, then the policies that are not trained."""
    fleets, results = finished(frames["fleets"], frames["results"], "fleet"), frames["results"]
    usual = defaults_of(variants)
    body = [_variant_row(one, usual, seeds, fleets, results) for one in variants if _seeds(results, one.name, seeds)]
    body += [_reference_row(name, fleets) for name in REFERENCES if (fleets["variant"] == name).any()]
    return Grid(f"{plan.scenario}: {plan.episodes} training episodes, {plan.fleets} held-out fleets", HEAD, tuple(body), _notes(plan))


def _notes(plan: Plan) -> tuple[str, ...]:
    reference = REFERENCES[0]
    return (
        f"Everybody plays the same held-out fleets (seed {plan.seed}), greedily; negative is faster than {reference}. A difference is that "
        "of the mean over fleets. Over seeds: mean over trainings with Student's 95 % interval, which speaks of the luck of training on "
        "these fleets. Over fleets: each fleet's mean over trainings, paired by fleet, studentised 95 % bootstrap interval, which speaks "
        "of other fleets of the family for these trained models.",
        "By seed: each training against the defaults of the same seed, Student's 95 % interval; the column is not corrected for the number "
        "of its rows. Training seconds are wall-clock on whatever else the machine did; CPU seconds are those of the training process.",
    )


def finished(rows: pd.DataFrame, results: pd.DataFrame, each: str) -> pd.DataFrame:
    """Rows of finished trainings: one that was killed while it was written is done again, and left some behind."""
    known = rows.merge(results[["variant", "seed"]].drop_duplicates(), on=["variant", "seed"])
    return known.drop_duplicates(["variant", "seed", each], keep="last")


def _variant_row(one: Variant, usual: str, seeds: Sequence[str], fleets: pd.DataFrame, results: pd.DataFrame) -> tuple[str, ...]:
    have = _seeds(results, one.name, seeds)
    costs = results[(results["variant"] == one.name) & results["seed"].isin(have)].drop_duplicates("seed", keep="last")
    spent = [f"{float(costs[name].mean()):,.0f}" for name in ("training_s", "training_cpu_s", "decisions", "gradient_steps")]
    over_seeds = [signed_percent(student([_percent(fleets, one.name, seed, metric) for seed in have])) for metric, _ in SHOWN]
    over_fleets = [signed_percent(_over_fleets(fleets, one.name, have, metric)) for metric, _ in SHOWN]
    against = _against(usual, fleets, one.name, have)
    return (one.name, one.described, str(len(have)), *over_seeds, *over_fleets, against, *spent)


def _reference_row(name: str, fleets: pd.DataFrame) -> tuple[str, ...]:
    own = name == REFERENCES[0]
    over_fleets = ["reference" if own else signed_percent(_over_fleets(fleets, name, [""], metric)) for metric, _ in SHOWN]
    return (name, "untrained", NOTHING, NOTHING, NOTHING, *over_fleets, *(NOTHING,) * 5)


def _seeds(results: pd.DataFrame, name: str, wanted: Sequence[str]) -> list[str]:
    own = set(results[results["variant"] == name]["seed"])
    return [seed for seed in wanted if seed in own]


def values(fleets: pd.DataFrame, name: str, seed: str, metric: str) -> F64:
    """One number a fleet.  # [N]"""
    rows = fleets[(fleets["variant"] == name) & (fleets["seed"] == seed)]
    return rows.sort_values("fleet")[metric].to_numpy(dtype=np.float64)


def _percent(fleets: pd.DataFrame, name: str, seed: str, metric: str) -> float:
    own, reference = values(fleets, name, seed, metric), values(fleets, REFERENCES[0], "", metric)
    return percent(float(own.mean()), float(reference.mean()))


def percent(value: float, reference: float) -> float:
    """Relative difference in percent."""
    return (value / reference - 1.0) * 100.0


def _over_fleets(fleets: pd.DataFrame, name: str, seeds: Sequence[str], metric: str) -> Interval:
    own = np.mean([values(fleets, name, seed, metric) for seed in seeds], axis=0)
    return paired_difference(own, values(fleets, REFERENCES[0], "", metric))


def _against(usual: str, fleets: pd.DataFrame, name: str, seeds: Sequence[str]) -> str:
    metric = SHOWN[0][0]
    both = [seed for seed in seeds if values(fleets, usual, seed, metric).size]
    if name == usual or not both:
        return NOTHING
    pairs = [(values(fleets, name, seed, metric).mean(), values(fleets, usual, seed, metric).mean()) for seed in both]
    return signed_percent(student([percent(float(own), float(default)) for own, default in pairs]))


def student(numbers: Sequence[float]) -> Interval:
    """The mean with Student's interval; without bounds for fewer than two numbers."""
    sample = np.asarray(numbers, dtype=np.float64)
    mean = float(sample.mean())
    if sample.size < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf((1 + LEVEL) / 2, sample.size - 1) * sample.std(ddof=1) / np.sqrt(sample.size))
    return Interval(mean, mean - half, mean + half)


def curve_figure(suite: str, plan: Plan, variants: Sequence[Variant], seeds: Sequence[str], frames: Frames) -> bytes:
    """Mean latency against sed-online over decisions, as PNG: all in one panel, or a panel for each beside the defaults."""
    curves = {one.name: _curve(frames, plan, one.name, seeds) for one in variants if _seeds(frames["results"], one.name, seeds)}
    usual = defaults_of(variants)
    panels = [list(curves)] if len(curves) <= TOGETHER else [[usual, name] for name in curves if name != usual]
    columns = min(4, max(1, len(panels)))
    rows = -(-max(1, len(panels)) // columns)
    figure = new_figure(4.5 if len(panels) <= 1 else 1.9 * rows + 0.6)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, names in zip(axes, panels, strict=False):
        _draw(panel, {name: curves[name] for name in names if name in curves}, _level_of(frames, plan))
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    _scale(axes[0], list(curves.values()))
    figure.supxlabel("decisions of training, thousands", fontsize=9)
    figure.supylabel(f"mean latency vs {REFERENCES[0]}, %", fontsize=9)
    set_title(figure, f"{suite}, {plan.scenario}: {plan.curve_fleets} held-out fleets; mean over seeds, band: 95 % interval")
    return png(figure)


def _scale(axes: Axes, curves: Sequence[pd.DataFrame]) -> None:
    """Before its first lesson a network from nothing is hundreds of percent behind, and would flatten all that matters."""
    if max((float(curve["estimate"].max()) for curve in curves), default=0.0) > 2 * NEAR:
        axes.set_yscale("symlog", linthresh=NEAR, linscale=2.0)
        axes.set_yticks([-20, -10, -5, 0, 5, 10, 20, 50, 100, 200, 500, 1000])
        axes.set_ylim(-NEAR, None)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}"))


def _curve(frames: Frames, plan: Plan, name: str, seeds: Sequence[str]) -> pd.DataFrame:
    """Columns decisions, estimate, low, high; a row for each look."""
    rows = finished(frames["curves"], frames["results"], "episode")
    rows = rows[(rows["variant"] == name) & rows["seed"].isin(list(seeds))]
    reference = _reference_mean(frames, plan, REFERENCES[0])
    points = []
    for _, look in rows.groupby("episode"):
        interval = student([percent(float(value), reference) for value in look["mean_latency_ms"]])
        points.append((float(look["decisions"].mean()) / 1000, interval.estimate, interval.low, interval.high))
    return pd.DataFrame(points, columns=["decisions", "estimate", "low", "high"])


def _reference_mean(frames: Frames, plan: Plan, name: str) -> float:
    """Over the fleets of the curves alone."""
    return float(values(frames["fleets"], name, "", SHOWN[0][0])[: plan.curve_fleets].mean())


def _level_of(frames: Frames, plan: Plan) -> float:
    """sed-moods against sed-online, percent."""
    return percent(_reference_mean(frames, plan, REFERENCES[1]), _reference_mean(frames, plan, REFERENCES[0]))


def _draw(axes: Axes, curves: Mapping[str, pd.DataFrame], level: float) -> None:
    for (name, curve), (colour, line, marker) in zip(curves.items(), STYLES, strict=False):
        axes.plot(curve["decisions"], curve["estimate"], color=colour, linestyle=line, marker=marker, markersize=3, label=plain(name))
        axes.fill_between(curve["decisions"], curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
    axes.axhline(0.0, color=BLACK, linewidth=0.8)
    axes.axhline(level, color=GUIDE, linewidth=0.8, linestyle=(0, (4, 3)), label=REFERENCES[1])
    soften(axes)
    axes.legend(fontsize=7, frameon=False, loc="upper right")

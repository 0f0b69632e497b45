"""Learning curves: what a training run did, episode by episode, with phases shaded and one column of panels per backend."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trimtab.report.drawing import (
    BAND,
    BLACK,
    BLUE,
    GREEN,
    VERMILLION,
    WIDTH_IN,
    Drawing,
    log_scale,
    new_figure,
    plain,
    png,
    set_title,
    soften,
)

# Twenty live episodes after six thousand in the twin would be two pixels wide; each backend gets at least this share of the width.
LEAST_SHARE = 0.2
CHARACTER_IN = 0.075


@dataclass(frozen=True)
class Curve:
    """One column of the file: how it is called and drawn, and the factor from the file's unit to the shown one."""

    column: str
    label: str
    colour: str = BLUE
    marker: str = "o"
    line: str = "-"
    smoothed: bool = True  # a schedule such as epsilon has no noise, and a trailing mean would only show it late


@dataclass(frozen=True)
class Panel:
    """One y axis."""

    heading: str
    curves: tuple[Curve, ...]
    log: bool = False
    factor: float = 1.0


@dataclass(frozen=True)
class Plot:
    """One figure of panels above each other."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]


LATENCY_CURVES = (
    Curve("mean_latency_ms", "mean latency", BLUE, "o", "-"),
    Curve("p95_latency_ms", "p95 latency", GREEN, "s", "--"),
    Curve("p99_latency_ms", "p99 latency", VERMILLION, "^", "-."),
)
PLOTS = (
    Plot(
        "training_reward",
        "Reward by episode",
        "The sum over an episode grows with its length, the mean per decision does not: compare phases by the lower panel.",
        (
            Panel("total reward", (Curve("total_reward", "total reward"),)),
            Panel("reward per decision", (Curve("average_reward", "reward per decision", GREEN, "s"),)),
        ),
    ),
    Plot(
        "training_latency",
        "Latency and errors by episode",
        "Lower is better. Read both panels together: a request that fails has no latency.",
        (
            Panel("latency, ms (log)", LATENCY_CURVES, log=True),
            Panel("error rate, %", (Curve("error_rate", "error rate", BLACK, "D"),), factor=100),
        ),
    ),
    Plot(
        "training_balance",
        "Evenness of server load by episode",
        "0 is equal utilisation. On unequal servers equal shares are not the goal: read it beside latency.",
        (
            Panel("Gini of utilisation", (Curve("gini_coefficient", "Gini of utilisation"),)),
            Panel("std of utilisation", (Curve("utilization_std", "standard deviation of utilisation", GREEN, "s"),)),
        ),
    ),
    Plot(
        "training_decisions",
        "Decisions and exploration by episode",
        "Optimal decisions went to a server whose expected completion was within 1 % of the least (over live servers an estimate). "
        "While epsilon is high, part of the decisions is random and the share stays below what the greedy policy reaches.",
        (
            Panel("optimal decisions, %", (Curve("optimal_decision_rate", "optimal decisions"),), factor=100),
            Panel("epsilon", (Curve("epsilon", "epsilon (share of random decisions)", VERMILLION, "^", smoothed=False),)),
        ),
    ),
    Plot(
        "training_learner",
        "Loss and mean Q-value by episode",
        "A loss that keeps growing, or a Q-value that leaves the range of discounted rewards, is a sign of divergence.",
        (
            Panel("loss (log)", (Curve("loss", "loss"),), log=True),
            Panel("mean Q-value", (Curve("q_mean", "mean Q-value", GREEN, "s"),)),
        ),
    ),
)


def training_drawings(frame: pd.DataFrame) -> list[Drawing]:
    """Every learning curve of which at least one column holds a number, in the order of `PLOTS`."""
    drawings = (_draw(frame, plot) for plot in PLOTS)
    return [drawing for drawing in drawings if drawing is not None]


def window_of(episodes: int) -> int:
    """Episodes in the rolling mean: 5 % of the run, at least 20."""
    return max(20, round(episodes / 20))


def rolling_mean(values: pd.Series, segments: pd.Series, window: int) -> pd.Series:
    """Trailing mean that starts again with each segment, so that no value of a phase or backend leaks into the next."""
    parts: list[pd.Series] = [_trailing_mean(part, window) for _, part in values.groupby(segments, sort=False)]
    return pd.Series(pd.concat(parts))


def _trailing_mean(values: pd.Series, window: int) -> pd.Series:
    # Means of one to four values would draw a spike at the start of every phase that is noise, not learning.
    smooth = values.rolling(window, min_periods=min(5, window, max(1, int(values.count())))).mean()
    return smooth.where(values.notna())


def runs_of(labels: pd.Series) -> pd.Series:
    """0, 1, 2 … along equal neighbours: `twin twin http` becomes `0 0 1`."""
    return pd.Series((labels != labels.shift()).cumsum() - 1)


def _draw(frame: pd.DataFrame, plot: Plot) -> Drawing | None:
    drawable = [replace(panel, curves=tuple(curve for curve in panel.curves if _has_points(frame, panel, curve))) for panel in plot.panels]
    panels = [panel for panel in drawable if panel.curves]
    if not panels:
        return None
    window = window_of(len(frame))
    caption = f"{plot.caption} Thin: each episode. Thick: mean of the last {window} episodes, fewer where a phase has just begun."
    drawn = {curve.label for panel in panels for curve in panel.curves}
    missing = [curve.label for panel in plot.panels for curve in panel.curves if curve.label not in drawn]
    if missing:
        caption += f" Without a value in any episode, so not drawn: {', '.join(missing)}."
    return Drawing(plot.name, plot.title, caption, png(_figure(frame, plot.title, panels, window)))


def _has_points(frame: pd.DataFrame, panel: Panel, curve: Curve) -> bool:
    return curve.column in frame and bool(_values(frame, panel, curve).notna().any())


def _values(frame: pd.DataFrame, panel: Panel, curve: Curve) -> pd.Series:
    """A column in the shown unit; what a log axis cannot show becomes blank."""
    values = frame[curve.column] * panel.factor
    return values.mask(values <= 0) if panel.log else values


def _figure(frame: pd.DataFrame, title: str, panels: Sequence[Panel], window: int) -> Figure:
    parts = [part for _, part in frame.groupby(runs_of(frame["backend"]), sort=False)]
    shares = _width_shares([len(part) for part in parts])
    figure = new_figure(2.0 + 2.0 * len(panels))
    grid = figure.subplots(len(panels), len(parts), sharex="col", sharey="row", squeeze=False, width_ratios=shares)
    for row, panel in enumerate(panels):
        for column, part in enumerate(parts):
            _panel(grid[row, column], part, panel, window)
        grid[row, 0].set_ylabel(panel.heading, fontsize=10)
        if panel.log:
            log_scale(grid[row, 0], "y")
    for column, part in enumerate(parts):
        width_in = 0.88 * WIDTH_IN * shares[column]
        _phases(list(grid[:, column]), part, width_in)
        grid[0, column].set_title(plain(f"{part['backend'].iloc[0]}: {len(part)} episodes"), fontsize=10, pad=18)
        grid[-1, column].set_xlabel("episode", fontsize=10)
        grid[-1, column].xaxis.set_major_locator(MaxNLocator(nbins=max(3, int(width_in)), integer=True, min_n_ticks=1))
    set_title(figure, title)
    _legend(figure, list(grid.flat))
    return figure


def _width_shares(counts: Sequence[int]) -> list[float]:
    shares = np.maximum(np.asarray(counts) / sum(counts), LEAST_SHARE)
    return [float(share) for share in shares / shares.sum()]


def _panel(axes: Axes, frame: pd.DataFrame, panel: Panel, window: int) -> None:
    segments = runs_of(frame["phase"])
    for curve in panel.curves:
        if not _has_points(frame, panel, curve):
            continue
        values = _values(frame, panel, curve)
        smooth = rolling_mean(values, segments, window) if curve.smoothed else values
        axes.plot(frame["episode"], values, color=curve.colour, linewidth=0.5, alpha=0.35)
        axes.plot(
            frame["episode"], smooth, color=curve.colour, linewidth=1.8, linestyle=curve.line, label=curve.label,
            marker=curve.marker, markersize=4.5, markevery=max(1, len(frame) // 8), markeredgecolor="white", markeredgewidth=0.5,
        )  # fmt: skip
    # Set by hand: without a point in this part the axis would be 0 to 1 and the phase names far outside the figure.
    margin = 0.5 + 0.02 * len(frame)
    axes.set_xlim(frame["episode"].iloc[0] - margin, frame["episode"].iloc[-1] + margin)
    soften(axes)


def _phases(column: Sequence[Axes], frame: pd.DataFrame, width_in: float) -> None:
    """Every second phase shaded; the names stand above the top panel, where they cover no data, if their phase is wide enough."""
    span = len(frame)
    for index, (_, phase) in enumerate(frame.groupby(runs_of(frame["phase"]), sort=False)):
        start, end = phase["episode"].iloc[0] - 0.5, phase["episode"].iloc[-1] + 0.5
        for axes in column:
            if index % 2:
                axes.axvspan(start, end, color=BAND, linewidth=0, zorder=0)
            if index:
                axes.axvline(start, color="#8C8C8C", linewidth=0.8, linestyle=":")
        name = phase_name(str(phase["phase"].iloc[0]))
        if len(phase) / span * width_in > CHARACTER_IN * len(name):
            column[0].text(
                (start + end) / 2, 1.02, plain(name), transform=column[0].get_xaxis_transform(), ha="center", va="bottom", fontsize=9
            )


def phase_name(phase: str) -> str:
    """`1` becomes `phase 1`; a phase that has a name keeps it."""
    return f"phase {phase.removesuffix('.0')}" if phase.replace(".", "", 1).isdigit() else phase


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend below the panels: a part of the run may lack a curve, so the labels of all parts count once."""
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    handles = list(found.values())
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, len(handles)), frameon=False, fontsize=9)

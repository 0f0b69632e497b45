"""Dot plots of policies with their intervals, one figure per scenario and backend, and the twin plotted against the live fleet."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from trimtab.report.columns import ERROR_RATE, GINI, MEAN_LATENCY, P99_LATENCY, SLO_ATTAINMENT, Metric
from trimtab.report.comparison import EvaluationTable, TwinComparison
from trimtab.report.drawing import (
    BLACK,
    BLUE,
    GREEN,
    GUIDE,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WIDTH_IN,
    Drawing,
    distinct,
    log_scale,
    new_figure,
    plain,
    png,
    set_title,
    slug,
    soften,
)

LEARNED = "dqn"
LATENCIES = (MEAN_LATENCY, P99_LATENCY)
SERVICE = (MEAN_LATENCY, SLO_ATTAINMENT, ERROR_RATE, GINI)
# A log axis where the slowest policy would otherwise press all others against the left edge.
LOG_FROM = 4.0
TOLERANCE = 0.15
LEGEND_COLUMNS = 4
MARKERS = ("o", "s", "^", "v", "P", "X", "<", ">", "p", "*", "h", "d")
COLOURS = (BLUE, GREEN, PURPLE, ORANGE, SKY, BLACK)


def evaluation_drawings(tables: Sequence[EvaluationTable]) -> list[Drawing]:
    """Per table: latency, and latency beside SLO attainment, errors and Gini; for a problem without latency its own metrics."""
    plans: list[tuple[str, EvaluationTable, list[Metric]]] = []
    for table in tables:
        latencies = [metric for metric in LATENCIES if _measured(table, metric)]
        service = [metric for metric in SERVICE if _measured(table, metric)]
        plans.append(("evaluation_latency" if latencies else "evaluation_metrics", table, latencies or list(table.metrics[:3])))
        if latencies and len(service) > 1:
            plans.append(("evaluation_service", table, service))
    names = distinct([f"{kind}_{slug(table.scenario, table.backend)}" for kind, table, _ in plans])
    return [_dot_plot(name, table, metrics) for name, (_, table, metrics) in zip(names, plans, strict=True)]


def twin_drawings(comparisons: Sequence[TwinComparison]) -> list[Drawing]:
    """Per scenario a log-log scatter for each latency that both worlds measured."""
    names = distinct([f"twin_{slug(comparison.scenario, comparison.live_backend)}" for comparison in comparisons])
    drawn = (_scatter(name, comparison) for name, comparison in zip(names, comparisons, strict=True))
    return [drawing for drawing in drawn if drawing is not None]


def _measured(table: EvaluationTable, metric: Metric) -> bool:
    return any(math.isfinite(row.cells[metric.column].estimate) for row in table.rows if metric.column in row.cells)


def _dot_plot(name: str, table: EvaluationTable, metrics: Sequence[Metric]) -> Drawing:
    figure = new_figure(1.5 + 0.3 * len(table.rows))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _dots(axes, table, metric)
    panels[0].set_yticks(range(len(table.rows)), [plain(row.policy) for row in table.rows])
    panels[0].set_ylim(len(table.rows) - 0.5, -0.5)
    for row, label in zip(table.rows, panels[0].get_yticklabels(), strict=True):
        label.set_fontweight("bold" if row.policy == LEARNED else "normal")
    title = f"{table.subject}: {', '.join(metric.title for metric in metrics)} by policy, {table.episodes}"
    set_title(figure, title)
    return Drawing(name, title, _dot_caption(table, metrics), png(figure), table.subject)


def _dots(axes: Axes, table: EvaluationTable, metric: Metric) -> None:
    for y, row in enumerate(table.rows):
        cell = row.cells[metric.column]
        if not math.isfinite(cell.estimate):
            axes.text(0.02, y, "n/a", transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=GUIDE)
            continue
        learned = row.policy == LEARNED
        colour = VERMILLION if learned else BLUE
        if cell.bounded:
            axes.plot([cell.low, cell.high], [y, y], color=colour, linewidth=2.0 if learned else 1.4, marker="|", markersize=6)
        axes.plot(cell.estimate, y, color=colour, marker="D" if learned else "o", markersize=7 if learned else 5.5, linestyle="none")
        if row.policy == table.reference:
            axes.axvline(cell.estimate, color=GUIDE, linewidth=0.9, linestyle=":", zorder=0)
    estimates = [row.cells[metric.column].estimate for row in table.rows]
    positive = [value for value in estimates if value > 0]
    log = metric.column.endswith("_ms") and len(positive) > 1 and max(positive) > LOG_FROM * min(positive)
    axes.set_xlabel(metric.heading + (" (log)" if log else ""), fontsize=9)
    axes.margins(x=0.08)
    if not any(estimates):
        axes.set_xlim(-0.05, 1)  # where all is zero, matplotlib would zoom in to 1e-17
    soften(axes)
    if log:
        log_scale(axes, "x")


def _dot_caption(table: EvaluationTable, metrics: Sequence[Metric]) -> str:
    parts = ["Sorted by the score, best on top. Dot: mean over episodes; bar: 95 % bootstrap interval."]
    if table.reference is not None:
        parts.append(f"Dotted line: {table.reference}.")
    if any(row.policy == LEARNED for row in table.rows):
        parts.append(f"Diamond: {LEARNED}.")
    parts.append("Overlapping bars do not decide: the episodes are paired, and the table compares them pair by pair.")
    if GINI in metrics:
        parts.append("Gini 0 is equal utilisation, which is not the goal on unequal servers.")
    return " ".join(parts)


def _scatter(name: str, comparison: TwinComparison) -> Drawing | None:
    metrics = [metric for metric in comparison.metrics if len(_points(comparison, metric))]
    if not metrics:
        return None
    legend_rows = math.ceil((len(comparison.rows) + 2) / LEGEND_COLUMNS)
    figure = new_figure(1.2 + min(3.8, WIDTH_IN / len(metrics) - 0.6) + 0.23 * legend_rows)
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _against(axes, comparison, metric)
    title = f"{comparison.scenario}: latency in the twin against {comparison.live_backend}{_shared(comparison)}"
    set_title(figure, title)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=9)
    caption = (
        "One mark per policy, mean over episodes. On the diagonal both worlds agree; the band is 15 % either way. Marks in the same "
        "order along both axes mean that the twin ranks policies as the live fleet does."
    )
    return Drawing(name, title, caption, png(figure))


def _shared(comparison: TwinComparison) -> str:
    """How many episodes both worlds ran, for the title; empty where they ran different ones."""
    most = max(row.episodes for row in comparison.rows)
    return f", {most} shared episode{'' if most == 1 else 's'}" if most else ""


def _points(comparison: TwinComparison, metric: Metric) -> list[tuple[str, float, float]]:
    """Policy, live and twin value where both are positive, as a log axis needs."""
    pairs = [(row.policy, row.live[metric.column], row.twin[metric.column]) for row in comparison.rows]
    return [pair for pair in pairs if pair[1] > 0 and pair[2] > 0]


def _against(axes: Axes, comparison: TwinComparison, metric: Metric) -> None:
    points = _points(comparison, metric)
    values = [value for _, *pair in points for value in pair]
    ends = np.array([min(values) / 1.3, max(values) * 1.3])
    axes.fill_between(ends, ends * (1 - TOLERANCE), ends * (1 + TOLERANCE), color="#E3E3E3", linewidth=0, label=f"±{TOLERANCE:.0%} band")
    axes.plot(ends, ends, color=GUIDE, linewidth=1, linestyle="--", label="equal")
    policies = sorted(row.policy for row in comparison.rows)
    for policy, live, twin in points:
        index = policies.index(policy)
        learned = policy == LEARNED
        # The learned policy is a large open diamond, so that it hides none of the rivals it is close to.
        axes.plot(
            live, twin, linestyle="none", label=plain(policy), alpha=0.9, zorder=4 if learned else 3,
            marker="D" if learned else MARKERS[index % len(MARKERS)], markersize=10 if learned else 7,
            color=VERMILLION if learned else COLOURS[(index + index // len(MARKERS)) % len(COLOURS)],
            markerfacecolor="none" if learned else None, markeredgewidth=2 if learned else 0.6,
            markeredgecolor=VERMILLION if learned else "white",
        )  # fmt: skip
    axes.set_xlim(ends[0], ends[1])
    axes.set_ylim(ends[0], ends[1])
    axes.set_box_aspect(1)
    axes.set_title(metric.title, fontsize=10)
    axes.set_xlabel(f"{comparison.live_backend}, ms (log)", fontsize=9)
    axes.set_ylabel("twin, ms (log)", fontsize=9)
    soften(axes)
    log_scale(axes, "x")
    log_scale(axes, "y")

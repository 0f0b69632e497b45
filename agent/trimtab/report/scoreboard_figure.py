"""The headroom map as a figure: one line a scenario, everything relative to its best classical policy."""

import math
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trimtab.report.drawing import (
    BAND,
    BLACK,
    BLUE,
    GREEN,
    GUIDE,
    ORANGE,
    PURPLE,
    VERMILLION,
    Drawing,
    log_scale,
    new_figure,
    plain,
    png,
    set_title,
    soften,
)
from trimtab.report.scoreboard import BLIND, CLASSICAL, LEARNED, ORACLES, ROLES, YARDSTICK, Scoreboard, ScoreRow

SHOWN: Final = (0.25, 4.0)  # relative cost
EDGE_STEP: Final = 0.72  # between two marks at the edge, room for a number
TITLE = "Headroom map: mean latency relative to the best classical policy"
CAPTION = (
    "One line a scenario; 1 is the best classical policy, left of it is faster, on a log axis. A failed request counts as 2 s. "
    f"The bar through {LEARNED} is its paired 95 % interval against the best classical policy. "
    f"Costs above {SHOWN[1]:g} stand at the right edge with their number. Between 1 and the oracles is what a better policy could win."
)
# Shape tells them apart in grey, colour besides; the learned one is open and large, so that it hides none of those it is close to.
_MARKS: Final = {
    BLIND: ("v", BLUE, 6.0, "full"),
    CLASSICAL: ("|", BLACK, 11.0, "full"),
    YARDSTICK: ("s", GREEN, 5.0, "full"),
    LEARNED: ("D", VERMILLION, 8.5, "none"),
    ORACLES[0]: ("<", PURPLE, 6.5, "full"),
    ORACLES[1]: ("*", ORANGE, 9.0, "full"),
}


def scoreboard_drawing(board: Scoreboard) -> Drawing:
    """The figure, groups of scenarios on alternate bands."""
    figure = new_figure(1.9 + 0.27 * len(board.rows))
    axes = figure.subplots()
    _bands(axes, board)
    axes.axvline(1.0, color=GUIDE, linewidth=0.9, linestyle=":", zorder=1)
    for y, row in enumerate(board.rows):
        _line(axes, y, row)
    axes.set_yticks(range(len(board.rows)), [plain(row.label) for row in board.rows])
    axes.set_ylim(len(board.rows) - 0.5, -0.5)
    axes.set_xlabel("mean latency, a failed request as 2 s / that of the best classical policy (log)", fontsize=9)
    axes.set_xlim(SHOWN[0], SHOWN[1] * 1.08)
    soften(axes)
    log_scale(axes, "x")
    set_title(figure, TITLE)
    _legend(figure, axes, board)
    return Drawing("scoreboard", TITLE, CAPTION, png(figure))


def _line(axes: Axes, y: int, row: ScoreRow) -> None:
    base = row.contenders[CLASSICAL].cost_ms.estimate
    costs = {role: one.cost_ms.estimate / base for role, one in row.contenders.items()}
    costs = {role: cost for role, cost in costs.items() if math.isfinite(cost) and cost > 0}
    axes.plot([min(costs.values()), min(SHOWN[1], max(costs.values()))], [y, y], color="#BBBBBB", linewidth=0.8, zorder=1)
    against = row.comparisons.get(CLASSICAL)
    if against is not None and against.difference.bounded:
        bounds = [max(1e-3, 1 + bound / 100) for bound in (against.difference.low, against.difference.high)]
        axes.plot(bounds, [y, y], color=VERMILLION, linewidth=2.2, zorder=3, solid_capstyle="butt")
    for role in (role for role in ROLES if costs.get(role, math.inf) <= SHOWN[1]):
        _mark(axes, [costs[role]], [y], role)
    beyond = sorted((role for role in costs if costs[role] > SHOWN[1]), key=lambda role: -costs[role])
    for place, role in enumerate(beyond):
        _mark_beyond(axes, SHOWN[1] * EDGE_STEP**place, y, role, costs[role])


def _mark_beyond(axes: Axes, x: float, y: int, role: str, cost: float) -> None:
    """A mark at the edge with its number: on an axis that reached 200, all that lies near 1 would be one spot."""
    _mark(axes, [x], [y], role)
    text = f"{cost:.0f} x" if cost >= 10 else f"{cost:.1f} x"
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # a line may pass behind
    axes.annotate(text, (x, y), xytext=(-7, 0), textcoords="offset points", ha="right", va="center", fontsize=7.5, color=GUIDE, bbox=ground)


def _mark(axes: Axes, x: Sequence[float], y: Sequence[float], role: str) -> Line2D:
    marker, colour, size, fill = _MARKS[role]
    (mark,) = axes.plot(
        x, y, linestyle="none", marker=marker, color=colour, markersize=size, markeredgewidth=1.8 if fill == "none" else 1.0,
        markerfacecolor="none" if fill == "none" else colour, zorder=5 if role == LEARNED else 4, label=role,
    )  # fmt: skip
    return mark


def _bands(axes: Axes, board: Scoreboard) -> None:
    """A grey band behind every other group, and its name at the right edge."""
    groups = [row.group for row in board.rows]
    starts = [place for place in range(len(groups)) if place == 0 or groups[place] != groups[place - 1]]
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(groups)], strict=True)):
        if number % 2 == 0:
            axes.axhspan(start - 0.5, end - 0.5, color=BAND, linewidth=0, zorder=0)
        middle = (start + end - 1) / 2
        axes.text(1.01, middle, plain(groups[start]), transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=GUIDE)


def _legend(figure: Figure, axes: Axes, board: Scoreboard) -> None:
    shown = {role for row in board.rows for role in row.contenders}
    handles = [_mark(axes, [], [], role) for role in ROLES if role in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)

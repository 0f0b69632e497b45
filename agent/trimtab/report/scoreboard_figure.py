"""The headroom map as a figure: one line a scenario, everything relative to its best classical policy."""

import math
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from trimtab.report.drawing import (
    BAND,
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILLION,
    WIDTH_IN,
    Drawing,
    new_figure,
    plain,
    png,
    soften,
)
from trimtab.report.scoreboard import BLIND, CLASSICAL, LEARNED, ORACLES, ROLES, YARDSTICK, Scoreboard, ScoreRow

SHOWN: Final = (0.66, 1.5)  # relative cost: where rows differ; what lies outside stands at the edge with its number
TICKS: Final = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)
INK: Final = "#333333"
LINE_IN: Final = 0.36
TOP_IN, BOTTOM_IN, LEAST_IN = 0.72, 0.95, 3.5  # margins, and the axes' least width
LABEL_IN, NAME_IN = 0.072, 0.062  # of a character
NUMBER: Final = 0.36  # of a line: the height of a number at the edge
HEADING, HEADING_IN = "best that can be\ndeployed, by mean", 0.17  # over the names on the right, and its middle above the axes
TITLE = "Headroom map: mean latency relative to the best classical policy"
CAPTION = (
    "One line a scenario; 1 is the best classical policy, left of it is faster, on a log axis. A failed request counts as 2 s. "
    f"The bar through {LEARNED} is its paired 95 % interval against the best classical policy; an arrow: it goes on beyond the axis. "
    "Costs beyond the axis stand at the edge with their number. Right: of the policies that can be "
    "deployed that of the lowest mean, whether it is shown to be better or not, and the group of scenarios. "
    "Between 1 and the oracles is what a better policy could win; an oracle plans no further than the request at hand, and may lose."
)
# Shape tells them apart in grey, colour besides; the learned one is open and large. The last number lifts or lowers a mark within its
# line, so that those of equal cost do not cover one another.
_MARKS: Final = {
    BLIND: ("v", BLUE, 6.0, "full", -0.2),
    CLASSICAL: ("|", BLACK, 15.0, "full", 0.0),
    YARDSTICK: ("s", GREEN, 5.0, "full", 0.2),
    LEARNED: ("D", VERMILLION, 7.5, "none", 0.0),
    ORACLES[0]: ("<", PURPLE, 6.0, "full", -0.36),
    ORACLES[1]: ("*", ORANGE, 9.0, "full", 0.36),
}


def scoreboard_drawing(board: Scoreboard) -> Drawing:
    """The figure, groups of scenarios on alternate bands."""
    names, groups = _longest([*HEADING.split("\n"), *(row.best.policy for row in board.rows)]), _longest([row.group for row in board.rows])
    figure, axes = _placed(board, names + groups)
    _bands(axes, board)
    axes.axvline(1.0, color=INK, linewidth=0.9, linestyle=":", zorder=1)
    for y, row in enumerate(board.rows):
        _line(axes, y, row)
    axes.set_yticks(range(len(board.rows)), [plain(row.label) for row in board.rows])
    axes.set_ylim(len(board.rows) - 0.5, -0.5)
    axes.set_xlabel("mean latency, a failed request as 2 s / that of the best classical policy (log)", fontsize=9)
    soften(axes)
    _scale(axes)
    _right_labels(axes, 0.0, range(len(board.rows)), [row.best.policy for row in board.rows])
    _right_labels(axes, 0.0, [-0.5 - HEADING_IN / LINE_IN], [HEADING], "bold")
    middles = [(start + end - 1) / 2 for start, end in _groups(board)]
    _right_labels(axes, names, middles, [board.rows[start].group for start, _ in _groups(board)], "bold")
    figure.suptitle(TITLE, fontsize=11, fontweight="bold", y=1 - 0.12 / figure.get_figheight())
    _legend(figure, axes, board)
    return Drawing("scoreboard", TITLE, CAPTION, png(figure))


def _placed(board: Scoreboard, right_in: float) -> tuple[Figure, Axes]:
    """Margins in inches by hand: matplotlib's own layout counts no names beside the axes, and cut them off."""
    left_in = 0.2 + _longest([row.label for row in board.rows], LABEL_IN)
    height_in, width_in = TOP_IN + BOTTOM_IN + LINE_IN * len(board.rows), max(WIDTH_IN, left_in + right_in + LEAST_IN)
    figure = new_figure(height_in, width_in)
    figure.set_layout_engine("none")
    lower, height = BOTTOM_IN / height_in, 1 - (TOP_IN + BOTTOM_IN) / height_in
    return figure, figure.add_axes((left_in / width_in, lower, 1 - (left_in + right_in) / width_in, height))


def _longest(texts: Sequence[str], character_in: float = NAME_IN) -> float:
    """Inches that the longest takes."""
    return 0.2 + character_in * max(len(text) for text in texts)


def _scale(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlim(SHOWN)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _line(axes: Axes, y: int, row: ScoreRow) -> None:
    base = row.contenders[CLASSICAL].cost_ms.estimate
    costs = {role: one.cost_ms.estimate / base for role, one in row.contenders.items()}
    costs = {role: cost for role, cost in costs.items() if math.isfinite(cost) and cost > 0}
    against = row.comparisons.get(CLASSICAL)
    if against is not None and against.difference.bounded:
        _bar(axes, y, 1 + against.difference.low / 100, 1 + against.difference.high / 100)
    for role in ROLES:
        if SHOWN[0] <= costs.get(role, math.nan) <= SHOWN[1]:
            _drawn(axes, [costs[role]], [y + _MARKS[role][4]], role)
    for right in (False, True):
        beyond = sorted((role for role in costs if (costs[role] > SHOWN[1] if right else costs[role] < SHOWN[0])), key=_lift)
        for role, lift in zip(beyond, _spread(beyond), strict=True):
            _mark_beyond(axes, y + lift, role, costs[role])


def _lift(role: str) -> float:
    return _MARKS[role][4]


def _spread(roles: Sequence[str]) -> list[float]:
    """How high marks at one edge stand: each has its number beside it, which takes more height than the mark."""
    if len(roles) < 2:
        return [_lift(role) for role in roles]
    reach = min(NUMBER * (len(roles) - 1) / 2, 0.42)
    return [reach * (2 * place / (len(roles) - 1) - 1) for place in range(len(roles))]


def _bar(axes: Axes, y: int, low: float, high: float) -> None:
    """The interval, with an arrow where it leaves the axis."""
    inside = [min(max(bound, SHOWN[0]), SHOWN[1]) for bound in (low, high)]
    axes.plot(inside, [y, y], color=VERMILLION, linewidth=2.2, zorder=3, solid_capstyle="butt")
    for bound, edge, marker in ((low, SHOWN[0], 8), (high, SHOWN[1], 9)):  # matplotlib's carets, their tips at the edge
        if bound != min(max(bound, SHOWN[0]), SHOWN[1]):
            axes.plot(edge, y, marker=marker - 4, color=VERMILLION, markersize=9, clip_on=False, zorder=4)


def _mark_beyond(axes: Axes, y: float, role: str, cost: float) -> None:
    """A mark at the edge, an arrow outwards and its number: on an axis that reached 200, all that lies near 1 would be one spot."""
    right = cost > 1
    x = SHOWN[1] if right else SHOWN[0]
    _drawn(axes, [x], [y], role)
    number = f"{cost:.0f}" if cost >= 10 else f"{cost:.1f}" if right else f"{cost:.2f}"
    text = f"{number} \N{RIGHTWARDS ARROW}" if right else f"\N{LEFTWARDS ARROW} {number}"
    axes.annotate(
        text, (x, y), xytext=(-6 if right else 6, 0), textcoords="offset points", ha="right" if right else "left", va="center",
        fontsize=7.5, color=INK, zorder=5,
    )  # fmt: skip


def _drawn(axes: Axes, x: list[float], y: list[float], role: str) -> Line2D:
    marker, colour, size, fill, _ = _MARKS[role]
    thick = {LEARNED: 1.8, CLASSICAL: 2.0}.get(role, 0.6)
    (mark,) = axes.plot(
        x, y, linestyle="none", marker=marker, markersize=size, markeredgewidth=thick, label=role, clip_on=False,
        color=colour, markeredgecolor=colour if role in (LEARNED, CLASSICAL) else BLACK,
        markerfacecolor="none" if fill == "none" else colour, zorder=5 if role == LEARNED else 4,
    )  # fmt: skip
    return mark


def _bands(axes: Axes, board: Scoreboard) -> None:
    """A grey band behind every other group."""
    for start, end in _groups(board)[::2]:
        axes.axhspan(start - 0.5, end - 0.5, color=BAND, linewidth=0, zorder=0)


def _groups(board: Scoreboard) -> list[tuple[int, int]]:
    """First row of each group, and the one after its last."""
    groups = [row.group for row in board.rows]
    starts = [place for place in range(len(groups)) if place == 0 or groups[place] != groups[place - 1]]
    return list(zip(starts, [*starts[1:], len(groups)], strict=True))


def _right_labels(axes: Axes, right_in: float, places: Sequence[float], names: Sequence[str], weight: str = "normal") -> None:
    """Names beside the axes, so many inches from their right edge."""
    for y, name in zip(places, names, strict=True):
        axes.annotate(
            plain(name), (1.0, y), xycoords=axes.get_yaxis_transform(), xytext=(9 + 72 * right_in, 0), textcoords="offset points",
            va="center", fontsize=8, fontweight=weight, color=INK, annotation_clip=False,
        )  # fmt: skip


def _legend(figure: Figure, axes: Axes, board: Scoreboard) -> None:
    shown = {role for row in board.rows for role in row.contenders}
    handles = [_drawn(axes, [], [], role) for role in ROLES if role in shown]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9)

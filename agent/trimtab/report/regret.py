"""What one fixed choice costs: every policy on every scenario, relative to the best there that can be deployed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from trimtab.report.columns import NOT_MEASURED, decimals_for, number
from trimtab.report.scoreboard import COST, Scoreboard, ScoreRow, catalogue_kinds, with_costs
from trimtab.report.scoreboard_tables import place_name
from trimtab.report.tables import Grid, html_section, starts_section

F64 = npt.NDArray[np.float64]

CLOSE: Final = 1.05  # a ratio up to which a policy counts as close to the best
FULL: Final = 4.0  # a ratio from which on a cell is as dark as it gets
STEPS: Final = 6
NOTE: Final = (
    "Cost (mean latency, a failed request as 2 s) divided by that of the best policy of the row that can be deployed: 1.00 is that policy, "
    "2.00 takes twice as long; darker is worse. Policies by their geometric mean, best first. Oracles, on the right, cannot be deployed: "
    "what they know only a simulator knows."
)

SUMMED: Final = (
    ' The table "Summed up" may rank otherwise: its interquartile means over episodes leave out the slowest and the quickest quarter, '
    "so scenarios of extreme ratios weigh less there."
)


@dataclass(frozen=True, slots=True)
class FixedChoice:
    """One policy used everywhere."""

    policy: str
    kind: str
    geometric_mean: float  # of the ratios of all rows; NaN where it did not run on all
    worst: float
    worst_row: ScoreRow | None
    close: int  # rows on which it is within 5 % of the best

    @property
    def where(self) -> str:
        """The scenario of the worst case."""
        return "" if self.worst_row is None else self.worst_row.scenario


@dataclass(frozen=True, slots=True)
class Regret:
    """Ratios of all policies, the oracles last; each part by geometric mean."""

    rows: tuple[ScoreRow, ...]
    choices: tuple[FixedChoice, ...]
    ratios: F64  # [rows, choices]; NaN where a policy did not run

    @property
    def deployable(self) -> tuple[FixedChoice, ...]:
        """All but the oracles."""
        return tuple(one for one in self.choices if one.kind != "oracle")


def regret(frame: pd.DataFrame, board: Scoreboard, kinds: Mapping[str, str] | None = None) -> Regret:
    """The regret of every policy on the rows of `board`, the scoreboard of `frame`. Raises ResultsError."""
    known = catalogue_kinds() if kinds is None else kinds
    means = with_costs(frame, known).groupby(["scenario", "backend", "policy"], sort=False)[COST].mean().unstack("policy")
    means = means.loc[[(row.scenario, row.backend) for row in board.rows]]
    best = means[[name for name in means if known[str(name)] != "oracle"]].min(axis=1)
    ratios = means.div(best, axis=0)
    choices = [_choice(str(name), known[str(name)], ratios[name].to_numpy(), board.rows) for name in ratios]
    choices.sort(key=lambda one: (one.kind == "oracle", math.isnan(one.geometric_mean), one.geometric_mean))
    return Regret(board.rows, tuple(choices), ratios[[one.policy for one in choices]].to_numpy(dtype=np.float64))


def _choice(policy: str, kind: str, ratios: F64, rows: tuple[ScoreRow, ...]) -> FixedChoice:
    known = np.isfinite(ratios)
    if not known.any():
        return FixedChoice(policy, kind, math.nan, math.nan, None, 0)
    mean = float(np.exp(np.log(ratios).mean())) if known.all() else math.nan
    worst = int(np.nanargmax(ratios))
    return FixedChoice(policy, kind, mean, float(ratios[worst]), rows[worst], int((ratios <= CLOSE).sum()))


def fixed_choices(found: Regret, summed: bool = False) -> Grid:
    """One line a policy that can be deployed; `summed`: a table "Summed up", which may rank otherwise, stands beside."""
    body = tuple(
        (one.policy, one.kind, times(one.geometric_mean), times(one.worst), place_name(one.worst_row), f"{one.close} of {len(found.rows)}")
        for one in found.deployable
    )
    head = ("policy", "kind", "geometric mean", "worst case", "where", f"within {CLOSE - 1:.0%} of the best".replace("%", " %"))
    notes = [
        "Multiples of the cost of the best policy of each scenario that can be deployed: what choosing one policy for all of them costs.",
        f"{criteria(found)}{SUMMED if summed else ''}",
    ]
    return Grid("One policy for everything", head, body, tuple(note.strip() for note in notes if note.strip()))


def criteria(found: Regret) -> str:
    """Which policy is best by each column of the table, then of those without a trained model; empty where there is no choice."""
    able = [one for one in found.deployable if math.isfinite(one.geometric_mean)]
    if len(able) < 2:
        return ""
    rules = [one for one in able if one.kind != "learned"]
    told = f"Best by geometric mean, worst case and count within {CLOSE - 1:.0%}: {_best_by(able, len(found.rows))}".replace("%", " %")
    if len(rules) in (0, len(able)):
        return f"{told}."
    return f"{told}; of those that need no trained model, {_best_by(rules, len(found.rows))}."


def _best_by(able: Sequence[FixedChoice], rows: int) -> str:
    """The best by each of three measures, with its figure."""
    mean = min(able, key=lambda one: one.geometric_mean)
    worst = min(able, key=lambda one: one.worst)
    count = max(able, key=lambda one: one.close)
    figures = (times(mean.geometric_mean), times(worst.worst), f"{count.close} of {rows}")
    if mean.policy == worst.policy == count.policy:
        return f"{mean.policy} ({', '.join(figures)})"
    named = [f"{one.policy} ({figure})" for one, figure in zip((mean, worst, count), figures, strict=True)]
    return f"{named[0]}, {named[1]} and {named[2]} in turn"


def fixed_sentence(found: Regret) -> str:
    """The best single choice, and the best that needs no trained model; empty where there is no choice."""
    able = [one for one in found.deployable if math.isfinite(one.geometric_mean)]
    if len(able) < 2 or len(found.rows) < 2:
        return ""
    first = able[0]
    said = (
        f"As one policy for everything, {first.policy} costs least: {times(first.geometric_mean)} times the best policy of each scenario "
        f"in the geometric mean, {times(first.worst)} times at worst ({first.where})"
    )
    rule = next((one for one in able if one.kind != "learned"), None)
    if first.kind != "learned" or rule is None:
        return f"{said}."
    theirs = f"{times(rule.geometric_mean)} and {times(rule.worst)} ({rule.where})"
    return f"{said}; of those that need no trained model, {rule.policy}: {theirs}."


def times(value: float) -> str:
    """A ratio with two decimals, or three digits where it is large."""
    return number(value, 2 if value < 10 else decimals_for(value))


def matrix(found: Regret) -> str:
    """All ratios as an HTML table with shaded cells and upright heads."""
    oracles = len(found.deployable)
    edges = [' class="apart"' if place == oracles and place else "" for place in range(len(found.choices))]
    heads = "".join(f'<th scope="col"{edge}><span>{escape(one.policy)}</span></th>' for edge, one in zip(edges, found.choices, strict=True))
    sections = [row.heading for row in found.rows]
    lines = []
    for place, row in enumerate(found.rows):
        if starts_section(sections, place):
            lines.append(html_section(sections[place], 1 + len(found.choices)))
        lines.append(
            _line(
                place_name(row),
                [_cell(value, edge, column < oracles) for column, (value, edge) in enumerate(zip(found.ratios[place], edges, strict=True))],
            )
        )
    for title, values in (
        ("geometric mean", [one.geometric_mean for one in found.choices]),
        ("worst case", [one.worst for one in found.choices]),
    ):
        lines.append(_line(title, [_cell(value, edge, False) for value, edge in zip(values, edges, strict=True)], "total"))
    return (
        f'<div class="wide" tabindex="0"><table class="matrix"><caption>Every policy on every scenario</caption>\n'
        f'<thead><tr><th scope="col">scenario</th>{heads}</tr></thead>\n<tbody>{"".join(lines)}</tbody></table></div>'
        f'<p class="note">{escape(NOTE)}</p>'
    )


def _line(title: str, cells: list[str], kind: str = "") -> str:
    opening = f'<tr class="{kind}">' if kind else "<tr>"
    return f'{opening}<th scope="row">{escape(title)}</th>{"".join(cells)}</tr>\n'


def _cell(value: float, edge: str, contends: bool) -> str:
    if not math.isfinite(value):
        return f"<td{edge}>{NOT_MEASURED}</td>"
    kinds = ["apart"] if edge else []
    kinds.append(f"heat{shade(value)}")
    if contends and abs(value - 1) < 1e-9:
        kinds.append("best")
    return f'<td class="{" ".join(kinds)}">{times(value)}</td>'


def shade(value: float) -> int:
    """0 for the best or better, up to `STEPS` from `FULL` on, by the logarithm; a policy that is 1 % off is not shaded."""
    part = math.log(max(value, 1.0)) / math.log(FULL)
    return 0 if value < 1.01 else min(STEPS, 1 + int(part * (STEPS - 1) + 1e-9))

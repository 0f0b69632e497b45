"""Tables for people: one grid of strings, written as terminal text, Markdown or HTML."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

from trimtab.experiments.statistics import Interval
from trimtab.policies import catalogue
from trimtab.report.columns import (
    P99_LATENCY,
    TOTAL_REWARD,
    Metric,
    decimals_for,
    estimate,
    number,
    said,
    signed_percent,
    with_bounds,
)
from trimtab.report.comparison import EvaluationRow, EvaluationTable, TwinComparison, TwinGap

# What a narrow terminal gives up first: the least needed for judging a policy.
DISPENSABLE = ("optimal_decision_rate", "gini_coefficient", "p50_latency_ms", "p95_latency_ms", "slo_attainment")

MANY = 9  # columns from which on a table is set smaller, so that a screen shows all of it
NO_BREAK = "\N{NO-BREAK SPACE}"
_TOGETHER = re.compile(r"\[[^\]]*\]|\([^)]*\)|(p99 )?[-+.\d]+ (%|ms)")

KINDS_NOTE = (
    "Kind: a class-blind policy treats all requests alike, a class-aware one tells request classes apart, a proxy is a program of others, "
    "and an oracle knows what only a simulator can know, so it is a bound and no rival."
)


@dataclass(frozen=True)
class Grid:
    """A table as strings: title, one head, rows of the same length, and notes that belong under it."""

    title: str
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()  # heading that each row stands under; empty: none
    folded: bool = False  # on a page, behind its title
    worded: bool = False  # cells are words rather than numbers, so they begin on the left; the second begins with the answer, in bold


def evaluation_grid(table: EvaluationTable, metrics: Sequence[Metric] | None = None, all_bounds: bool = True) -> Grid:
    """The evaluation table; `metrics` narrows the columns, `all_bounds=False` keeps intervals for the score only.

    The difference from the reference stands right after the score, where a narrow screen still shows it.
    """
    shown = table.metrics if metrics is None else tuple(metrics)
    head = ["policy", *(metric.heading for metric in shown)]
    if table.reference is not None:
        head.insert(2, f"{_score_title(table)} vs {table.reference}")
        if P99_LATENCY in table.metrics:
            head.insert(3, f"{P99_LATENCY.title} vs {table.reference}")
    body = [_evaluation_line(table, row, shown, all_bounds) for row in table.rows]
    return Grid(f"{table.subject}, {table.episodes} per policy", tuple(head), tuple(body), _evaluation_notes(table))


def fitted_grid(table: EvaluationTable, width: int) -> Grid:
    """The fullest evaluation grid whose text is at most `width` characters wide; what had to go is named in a note."""
    grid = evaluation_grid(table)
    if text_width(grid) <= width:
        return grid
    metrics = list(table.metrics)
    dropped: list[str] = []
    for column in (None, *DISPENSABLE):
        dropped += [metric.title for metric in metrics if metric.column == column]
        metrics = [metric for metric in metrics if metric.column != column]
        grid = evaluation_grid(table, metrics, all_bounds=False)
        if text_width(grid) <= width:
            break
    return replace(grid, notes=(*grid.notes, f"Left out at this width: {', '.join([*dropped, 'further intervals'])}."))


def with_kinds(grid: Grid) -> Grid:
    """An evaluation grid with a column that says what each policy may know; the same grid where a policy is not of the catalogue.

    Other problems have policies of the same names, such as `random`, of which the catalogue knows nothing.
    """
    kinds = {one.name: str(one.kind) for one in (*catalogue.CATALOGUE, *catalogue.PROXIES)} | {catalogue.LEARNED: "learned"}
    if not all(row[0] in kinds for row in grid.body):
        return grid
    body = tuple((*row[:2], kinds[row[0]], *row[2:]) for row in grid.body)  # after the score, which a narrow screen must show
    return replace(grid, head=(*grid.head[:2], "kind", *grid.head[2:]), body=body, notes=(*grid.notes, KINDS_NOTE))


def twin_grid(comparison: TwinComparison) -> Grid:
    """Twin and live means and the twin's error per policy."""
    head = ["policy", "shared episodes"]
    for metric in comparison.metrics:
        name = metric.title.removesuffix(" latency")
        head += [f"{name} twin, {metric.unit}", f"{name} live, {metric.unit}", f"{name} error"]
    body = [_twin_line(row, comparison.metrics) for row in comparison.rows]
    note = (
        f"Rank correlation (Spearman) of {len(comparison.rows)} policies by mean latency, twin against {comparison.live_backend}: "
        f"{number(comparison.rank_correlation, 2)}."
    )
    return Grid(f"{comparison.scenario}: twin against {comparison.live_backend}", tuple(head), tuple(body), (note,))


def as_text(grid: Grid) -> str:
    """Aligned columns for a terminal, first column left, the others right."""
    widths = _widths(grid)
    lines = [grid.title, _text_line(grid.head, widths), "  ".join("-" * width for width in widths)]
    lines += [_text_line(row, widths) for row in grid.body]
    return "\n".join([*lines, *grid.notes])


def as_markdown(grid: Grid) -> str:
    """A GitHub-flavoured Markdown table."""
    rule = ["---", *["---" if grid.worded else "---:"] * (len(grid.head) - 1)]
    lines = [
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in row) + " |"
        for row in (grid.head, rule, *(_marked(row, "**{}**".format) if grid.worded else row for row in grid.body))
    ]
    return "\n".join([f"**{grid.title}**", "", *lines, *(f"\n{note}" for note in grid.notes)])


def as_html(grid: Grid) -> str:
    """A `<table>` inside a scrolling `<div>`, everything escaped."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in grid.head)
    body = "\n".join(_html_section(grid, place) + _html_row(row, grid.worded) for place, row in enumerate(grid.body))
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in grid.notes)
    kinds = [name for name, holds in (("worded", grid.worded), ("many", len(grid.head) >= MANY)) if holds]
    opening = f'<table class="{" ".join(kinds)}">' if kinds else "<table>"
    table = f"{opening}<caption>{escape(grid.title)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    whole = f'<div class="wide" tabindex="0">{table}</div>{notes}'
    return f"<details><summary>{escape(grid.title)}</summary>{whole}</details>" if grid.folded else whole


def fact_table(title: str, facts: Sequence[tuple[str, str]]) -> str:
    """A `<table>` of names and what is to be said about each."""
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in facts)
    return f'<div class="wide" tabindex="0"><table class="facts"><caption>{escape(title)}</caption><tbody>{rows}</tbody></table></div>'


def text_width(grid: Grid) -> int:
    """Characters that a line of `as_text` takes, title and notes aside."""
    return sum(_widths(grid)) + 2 * (len(grid.head) - 1)


def _widths(grid: Grid) -> list[int]:
    return [max(len(cell) for cell in column) for column in zip(grid.head, *grid.body, strict=True)]


def _text_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(cells, widths, strict=True)))
    return "  ".join([first, *rest]).rstrip()


def starts_section(sections: Sequence[str], place: int) -> bool:
    """Whether the row at `place` is the first under its heading."""
    return bool(sections) and bool(sections[place]) and (place == 0 or sections[place] != sections[place - 1])


def html_section(heading: str, columns: int) -> str:
    """A heading between rows of a table that is so many columns wide."""
    return f'<tr class="section"><th scope="rowgroup" colspan="{columns}"><span>{escape(heading)}</span></th></tr>\n'


def unbroken(cell: str) -> str:
    """Escaped, and an interval or a number with its unit is not broken over lines."""
    return escape(_TOGETHER.sub(lambda found: found.group().replace(" ", NO_BREAK), cell)).replace("\n", "<br>")


def _html_section(grid: Grid, place: int) -> str:
    return html_section(grid.sections[place], len(grid.head)) if starts_section(grid.sections, place) else ""


def _html_row(row: Sequence[str], worded: bool) -> str:
    shown = [escape(row[0]).replace("\n", "<br>"), *(unbroken(cell) for cell in row[1:])]
    if worded:
        shown = list(_marked(shown, "<strong>{}</strong>".format, "<br>"))
    return f'<tr><th scope="row">{shown[0]}</th>{"".join(f"<td>{cell}</td>" for cell in shown[1:])}</tr>'


def _marked(row: Sequence[str], bold: Callable[[str], str], line_end: str = "\n") -> tuple[str, ...]:
    """The row with the first line of its second cell in bold: that is the answer, all else explains it."""
    first, end, rest = row[1].partition(line_end)
    return (row[0], bold(first) + end + rest, *row[2:])


def _evaluation_line(table: EvaluationTable, row: EvaluationRow, metrics: Sequence[Metric], all_bounds: bool) -> tuple[str, ...]:
    cells = [(with_bounds if all_bounds or metric == table.score else estimate)(row.cells[metric.column]) for metric in metrics]
    if table.reference is not None:
        # A latency cannot fall by more than all of it, though a wide interval may reach there; a negative reward can.
        least = -math.inf if table.score == TOTAL_REWARD else -100.0
        cells.insert(1, _difference(row.difference, row.verdict, least))
        if P99_LATENCY in table.metrics:
            cells.insert(2, _difference(row.tail_difference, row.tail_verdict, -100.0))
    return (row.policy, *cells)


def _difference(difference: Interval, word: str, least: float) -> str:
    if word == "reference":
        return word
    return f"{signed_percent(difference, least)} {said(word)}".rstrip()


def _evaluation_notes(table: EvaluationTable) -> tuple[str, ...]:
    notes = ["Means over episodes with 95 % BCa bootstrap intervals in brackets; n/a: not measured."]
    if table.reference is not None:
        meaning = "less cost" if table.score == TOTAL_REWARD else "faster"
        notes.append(
            f"Difference from {table.reference}: paired by episode, 95 % studentised bootstrap interval (Student's t below ten episodes), "
            f"negative is {meaning}; "
            "better or worse is said only where the interval excludes zero and the p-value stays at most 0.05 after Holm's correction "
            f"for the {len(table.rows) - 1} comparisons of the column; not shown: it does not, even where the interval excludes zero."
        )
    return tuple(notes)


def _score_title(table: EvaluationTable) -> str:
    return "cost (minus reward)" if table.score == TOTAL_REWARD else table.score.title


def _twin_line(row: TwinGap, metrics: Sequence[Metric]) -> tuple[str, ...]:
    cells = [row.policy, str(row.episodes)]
    for metric in metrics:
        pair = (row.twin[metric.column], row.live[metric.column])
        cells += [*(number(value, decimals_for(*pair)) for value in pair), signed_percent(row.errors[metric.column])]
    return tuple(cells)

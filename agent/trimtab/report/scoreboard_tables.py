"""The scoreboard as tables for people, and as CSV for programs."""

import csv
import io
import math
from collections import Counter

from trimtab.experiments.csv_log import Cell, cell_text
from trimtab.experiments.statistics import Interval
from trimtab.report.columns import decimals_for, number, signed_percent, with_bounds
from trimtab.report.scoreboard import (
    BLIND,
    CLASSICAL,
    FAILURE_MS,
    LEARNED,
    ORACLES,
    RIVALS,
    ROLES,
    YARDSTICK,
    Comparison,
    Contender,
    FleetRow,
    Scoreboard,
    ScoreRow,
)
from trimtab.report.tables import Grid, as_markdown

MISSING = ""


def scoreboard_markdown(board: Scoreboard) -> str:
    """All tables of the scoreboard."""
    return "\n\n".join(as_markdown(grid) for grid in scoreboard_grids(board)) + "\n"


def scoreboard_grids(board: Scoreboard) -> list[Grid]:
    """Headroom map, tails, and the aggregates where there are any."""
    grids = [_headroom(board), _tails(board)]
    return [*grids, _aggregates(board.fleets)] if board.fleets else grids


def summary(board: Scoreboard) -> str:
    """How often the learned policy is better, worse or neither than each rival, in a sentence each."""
    counts = [(rival, Counter(row.comparisons[rival].word for row in board.rows if rival in row.comparisons)) for rival in RIVALS]
    told = [
        f"Against {rival}, {LEARNED} is better on {words['better']}, worse on {words['worse']} and not found different on "
        f"{words['no difference']} of {words.total()} scenarios."
        for rival, words in counts
        if words.total()
    ]
    if not told:
        return f"{LEARNED} was not evaluated; each scenario's line names the classical policies to use."
    return " ".join([*told, f"Where {LEARNED} is not better, nothing here speaks for it: use the classical policy that the line names."])


def scoreboard_csv(board: Scoreboard) -> str:
    """One line a scenario: costs and p99 in ms, differences in percent, shares as numbers; blank where nothing was measured."""
    lines = [_csv_line(row) for row in board.rows]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(lines[0])
    writer.writerows([cell_text(cell) for cell in line.values()] for line in lines)
    return text.getvalue()


def _headroom(board: Scoreboard) -> Grid:
    head = (
        "scenario", *(f"{role}, ms" for role in ROLES), *(f"{LEARNED} vs {rival}" for rival in RIVALS),
        *(f"gap to {oracle} closed" for oracle in ORACLES),
    )  # fmt: skip
    body = tuple(
        (
            _name(row),
            *(_cost(row.contenders.get(role), role) for role in ROLES),
            *(_compared(row.comparisons.get(rival)) for rival in RIVALS),
            *(_share(row.closed.get(oracle)) for oracle in ORACLES),
        )
        for row in board.rows
    )
    notes = (
        f"Mean latency in ms, a failed request counted as {FAILURE_MS:,.0f} ms; the share of failed requests in parentheses where any "
        "failed. Best is the lowest mean over the same episodes: class-blind of the policies that do not see request classes, classical of "
        "all that are neither learned nor oracles.",
        f"Differences: paired by episode, 95 % studentised bootstrap intervals, negative is faster; better or worse is said where the "
        f"interval excludes zero and the p-value stays at most 0.05 after Holm's correction for the {len(board.rows)} scenarios of the "
        "column.",
        "Gap closed: the share of the way from the best classical policy to the oracle, negative where the learned policy is slower than "
        "that rule; blank where the oracle is not better than that rule with an interval that excludes zero. The oracles know speeds and "
        "sizes, not failures, so rules that see failures may beat them.",
    )
    return Grid(f"Headroom map, {_episodes(board)} episodes a policy", head, body, notes)


def _tails(board: Scoreboard) -> Grid:
    body = tuple((_name(row), *(_tail(row.contenders.get(role), role) for role in ROLES)) for row in board.rows)
    note = (
        "Mean over episodes of each episode's p99 over served requests; the policies are those of the headroom map. n/a: too few requests."
    )
    return Grid("p99 latency, ms", ("scenario", *ROLES), body, (note,))


def _aggregates(rows: tuple[FleetRow, ...]) -> Grid:
    shown = (BLIND, CLASSICAL, LEARNED, *ORACLES)
    body = tuple(
        (row.title, f"{row.tasks} x {row.episodes}", *(_middle(row, role) for role in shown), _probability(row.improvement)) for row in rows
    )
    notes = (
        f"Interquartile mean of the cost divided by {YARDSTICK}'s in the same episode: below 1 is faster. 95 % percentile intervals over "
        "episodes, which in a family are fleets. Best is the lowest interquartile mean.",
        f"Probability: that {LEARNED} costs less than {YARDSTICK} in an episode of a random scenario or fleet; 0.5 is no difference.",
    )
    head = ("scenarios", "scenarios x episodes", *shown, f"probability that {LEARNED} is faster")
    return Grid(f"Over many fleets, relative to {YARDSTICK}", head, body, notes)


def _name(row: ScoreRow) -> str:
    return row.scenario if row.backend == "twin" else f"{row.scenario} on {row.backend}"


def _episodes(board: Scoreboard) -> str:
    counts = sorted({row.episodes for row in board.rows})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _cost(one: Contender | None, role: str) -> str:
    if one is None:
        return MISSING
    cost = number(one.cost_ms.estimate, decimals_for(one.cost_ms.estimate))
    failed = f" ({_rounded(100 * one.error_rate)} % failed)" if one.error_rate > 0 else ""
    return _titled(one, role, f"{cost}{failed}")


def _tail(one: Contender | None, role: str) -> str:
    return MISSING if one is None else _titled(one, role, number(one.p99_ms, decimals_for(one.p99_ms)))


def _titled(one: Contender, role: str, text: str) -> str:
    return text if one.policy == role else f"{one.policy} {text}"


def _rounded(percent: float) -> str:
    return f"{percent:.1f}" if percent >= 0.1 else f"{percent:.1g}"


def _compared(one: Comparison | None) -> str:
    return MISSING if one is None else f"{signed_percent(one.difference)} {one.word}".rstrip()


def _share(closed: Interval | None) -> str:
    """`62 % [40, 80]`, blank where there is no gap."""
    if closed is None or not math.isfinite(closed.estimate):
        return MISSING
    if closed.estimate < -1:
        return "below -100 %"  # by how much depends on a gap that may be tiny
    bounds = f" [{100 * closed.low:.0f}, {100 * closed.high:.0f}]" if closed.bounded else ""
    return f"{100 * closed.estimate:.0f} %{bounds}"


def _middle(row: FleetRow, role: str) -> str:
    if role not in row.middle:
        return MISSING
    policy, middle = row.middle[role]
    text = with_bounds(middle)
    return text if policy == role else f"{policy} {text}"


def _probability(value: Interval) -> str:
    return with_bounds(value) if math.isfinite(value.estimate) else MISSING


def _csv_line(row: ScoreRow) -> dict[str, Cell]:
    line: dict[str, Cell] = {
        "scenario": row.scenario, "group": row.group, "label": row.label, "backend": row.backend, "episodes": row.episodes,
    }  # fmt: skip
    for role in ROLES:
        line |= _csv_contender(_column(role), row.contenders.get(role))
    for rival in RIVALS:
        line |= _csv_comparison(f"{LEARNED}_vs_{_column(rival)}", row.comparisons.get(rival))
    for oracle in ORACLES:
        line |= _csv_interval(f"gap_closed_{_column(oracle)}", row.closed.get(oracle))
    return line


def _csv_contender(name: str, one: Contender | None) -> dict[str, Cell]:
    policy, p99, error = (None, None, None) if one is None else (one.policy, one.p99_ms, one.error_rate)
    cost = _csv_interval(f"{name}_cost_ms", None if one is None else one.cost_ms)
    return {f"{name}_policy": policy, **cost, f"{name}_p99_ms": p99, f"{name}_error_rate": error}


def _csv_comparison(name: str, one: Comparison | None) -> dict[str, Cell]:
    return {
        **_csv_interval(f"{name}_percent", None if one is None else one.difference),
        f"{name}_verdict": None if one is None else one.word,
    }


def _csv_interval(name: str, one: Interval | None) -> dict[str, Cell]:
    bounds = (None, None, None) if one is None else (one.estimate, one.low, one.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), bounds, strict=True))


def _column(role: str) -> str:
    return role.replace(" ", "_").replace("-", "_")

"""The scoreboard as tables for people, and as CSV for programs."""

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence

from trimtab.experiments.csv_log import Cell, cell_text
from trimtab.experiments.statistics import Interval
from trimtab.report.columns import decimals_for, number, ratio, said, with_bounds
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


def scoreboard_markdown(board: Scoreboard, first: Sequence[Grid] = ()) -> str:
    """`first`, then all tables of the scoreboard."""
    return "\n\n".join(as_markdown(grid) for grid in (*first, *scoreboard_grids(board))) + "\n"


def scoreboard_grids(board: Scoreboard) -> list[Grid]:
    """Costs, verdicts, gaps, tails, and the aggregates where there are any."""
    grids = [_headroom(board)]
    if any(row.comparisons for row in board.rows):
        grids.append(_verdicts(board))
    if any(math.isfinite(closed.estimate) for row in board.rows for closed in row.closed.values()):
        grids.append(_gaps(board))
    grids.append(_tails(board))
    return [*grids, *_aggregates(board)] if board.fleets else grids


def summary(board: Scoreboard) -> str:
    """How often the learned policy is better, worse or neither than each rival, and between which bounds, in a sentence each."""
    told = [one for one in (_counted(board, rival) for rival in reversed(RIVALS)) if one]
    if not told:
        return f"{LEARNED} was not evaluated; each scenario's line names the classical policies to use."
    advice = f"Where {LEARNED} is not better on the scenario that you have, take the classical policy that its line names."
    return " ".join([*told, advice])


def _counted(board: Scoreboard, rival: str) -> str:
    rows = [row for row in board.rows if rival in row.comparisons]
    if not rows:
        return ""
    if len(rows) == 1:
        return _single(rows[0], rival)
    words = Counter(said(row.comparisons[rival].word) for row in rows)
    rows.sort(key=lambda row: row.comparisons[rival].difference.estimate)
    low, high = (_extreme(row, row.comparisons[rival]) for row in (rows[0], rows[-1]))
    whom = "the best classical policy of each scenario" if rival == CLASSICAL else rival
    told = (
        f"Against {whom}, {LEARNED} is better on {words['better']}, worse on {words['worse']} and a difference is not shown on "
        f"{len(rows) - words['better'] - words['worse']} of {len(rows)} scenarios"
    )
    return f"{told}; it takes {low} to {high} times as long."


def _extreme(row: ScoreRow, one: Comparison) -> str:
    """A ratio, where it was found, and whether it is more than chance."""
    return f"{1 + one.difference.estimate / 100:.2f} ({', '.join(part for part in (row.scenario, said(one.word)) if part)})"


def _single(row: ScoreRow, rival: str) -> str:
    policy, one = row.contenders[rival].policy, row.comparisons[rival]
    if rival == YARDSTICK and row.contenders[CLASSICAL].policy == YARDSTICK:
        return ""  # said already
    word = one.word if one.word in ("better", "worse") else "not shown to be better or worse"
    rank = "the best classical policy here" if rival == CLASSICAL else "the yardstick"
    return f"{LEARNED} is {word} than {policy}, {rank}: it takes {ratio(one.difference)} times as long."


def scoreboard_csv(board: Scoreboard) -> str:
    """One line a scenario: costs and p99 in ms, differences in percent, shares as numbers; blank where nothing was measured."""
    lines = [_csv_line(row) for row in board.rows]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(lines[0])
    writer.writerows([cell_text(cell) for cell in line.values()] for line in lines)
    return text.getvalue()


def _headroom(board: Scoreboard) -> Grid:
    roles = _filled(board)
    body = tuple((place_name(row), *(_cost(row.contenders.get(role), role) for role in roles)) for row in board.rows)
    notes = (
        f"Mean latency in ms, a failed request counted as {FAILURE_MS:,.0f} ms; the share of failed requests in parentheses where any "
        "failed. Best is the lowest mean over the same episodes: class-blind of the policies that do not see request classes, classical of "
        "all that need no trained model, oracles aside.",
        "An oracle may lose to a rule: each sends a request where it is done first, by expected delay and known speeds, and plans no "
        "further, so it is no optimum; and oracles know speeds and sizes, not which requests a server will fail.",
    )
    return Grid(
        f"Headroom map, {_episodes(board)} episodes a policy",
        ("scenario", *(f"{role}, ms" for role in roles)),
        body,
        notes,
        _sections(board),
    )


def _verdicts(board: Scoreboard) -> Grid:
    body = tuple(
        (place_name(row), row.contenders[CLASSICAL].policy, *(_compared(row.comparisons.get(rival)) for rival in reversed(RIVALS)))
        for row in board.rows
    )
    notes = (
        f"Ratios of mean costs, paired by episode, with 95 % studentised bootstrap intervals; below 1 {LEARNED} is faster. Better or worse "
        "is said where the interval excludes 1 and the p-value stays at most 0.05 after Holm's correction for the "
        f"{len(board.rows)} comparisons of the column; not shown: it does not, even where the interval excludes 1. A bound below 0 is "
        "written as 0: few episodes that differ much make an interval wide.",
    )
    head = ("scenario", CLASSICAL, *(f"{LEARNED} / {rival}" for rival in reversed(RIVALS)))
    return Grid(f"{LEARNED} against the others, ratio of mean costs", head, body, notes, _sections(board))


def _gaps(board: Scoreboard) -> Grid:
    body = tuple((place_name(row), *(_share(row.closed.get(oracle)) for oracle in ORACLES)) for row in board.rows)
    notes = (
        "The share of the way from the best classical policy to the oracle, negative where the learned policy is slower than that rule; "
        "blank where the oracle is not better than that rule with an interval that excludes zero.",
    )
    head = ("scenario", *(f"gap to {oracle} closed" for oracle in ORACLES))
    return Grid(f"Share of the gap to the oracles that {LEARNED} closes", head, body, notes, _sections(board), folded=True)


def _tails(board: Scoreboard) -> Grid:
    roles = _filled(board)
    body = tuple((place_name(row), *(_tail(row.contenders.get(role), role) for role in roles)) for row in board.rows)
    note = (
        "Mean over episodes of each episode's p99 over served requests; the policies are those of the headroom map. n/a: too few requests."
    )
    return Grid("p99 latency, ms", ("scenario", *roles), body, (note,), _sections(board))


def _aggregates(board: Scoreboard) -> list[Grid]:
    names = {row.scenario: place_name(row) for row in board.rows}
    filled = {role for row in board.fleets for role in row.middle}
    shown = [role for role in (BLIND, CLASSICAL, LEARNED, *ORACLES) if role in filled]
    titles = [names.get(row.title, row.title) for row in board.fleets]
    body = tuple(
        (title, f"{row.tasks} x {row.episodes}", *(_middle(row, role) for role in shown))
        for title, row in zip(titles, board.fleets, strict=True)
    )
    note = (
        f"Interquartile mean of the cost divided by {YARDSTICK}'s in the same episode: below 1 is faster. 95 % percentile intervals over "
        "episodes, which in a family are fleets. Best is the lowest interquartile mean."
    )
    head = ("scenarios", "scenarios x episodes", *shown)
    grids = [Grid(f"Summed up: all scenarios, and each family of random fleets, relative to {YARDSTICK}", head, body, (note,))]
    if any(math.isfinite(row.improvement.estimate) for row in board.fleets):
        chances = tuple((title, _probability(row.improvement)) for title, row in zip(titles, board.fleets, strict=True))
        meaning = f"That {LEARNED} costs less than {YARDSTICK} in an episode of a random scenario or fleet; 0.5: as often as not."
        grids.append(Grid(f"Probability that {LEARNED} is faster", ("scenarios", "probability"), chances, (meaning,), folded=True))
    return grids


def place_name(row: ScoreRow | None) -> str:
    """A scenario as tables and figures call it: `flash crowd (flash)`, and the backend where it is not the twin."""
    if row is None:
        return MISSING
    name = row.scenario if row.label == row.scenario else f"{row.label} ({row.scenario})"
    return name if row.backend == "twin" else f"{name} on {row.backend}"


def _filled(board: Scoreboard) -> list[str]:
    """The roles that some scenario has a policy for."""
    return [role for role in ROLES if any(role in row.contenders for row in board.rows)]


def _sections(board: Scoreboard) -> tuple[str, ...]:
    return tuple(row.heading for row in board.rows)


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
    return MISSING if one is None else f"{ratio(one.difference)} {said(one.word)}".rstrip()


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

"""The table "Which policy when", for people."""

from collections.abc import Sequence

from trimtab.report.advice import Advice
from trimtab.report.columns import decimals_for, number, ratio, said
from trimtab.report.glossary import needs
from trimtab.report.scoreboard import BLIND, CLASSICAL, LEARNED, Comparison, Contender, Naming
from trimtab.report.scoreboard_tables import place_name
from trimtab.report.tables import Grid

NOTES = (
    "Best: the lowest mean over the same episodes, of all policies but the oracles, which cannot be deployed; a failed request counts as "
    "2 s. The best classical policy needs no trained model, the best class-blind one no class labels either. All are chosen after the "
    "fact, which flatters them a little. p99: mean over episodes. Needs: what a balancer must be told beside its own count of requests in "
    "flight and its own clock; servers report service times and load with their answers.",
    "Not shown: a difference that these episodes do not show, because the interval of the ratio includes 1 or because it is not "
    "significant after Holm's correction for the number of comparisons in the column. Then take whichever is simpler to run.",
)


def advice_grid(found: Sequence[Advice], naming: Naming) -> Grid:
    """One line a scenario; the column of the learned policy only where it ran."""
    learned = any(one.row.comparisons for one in found)
    head = ["situation", "best by mean", "best classical", "best class-blind", "runner-up", "needs (the best)", "watch out"]
    if learned:
        head.insert(5, f"{LEARNED} against the best classical")
    return Grid(
        "Which policy when",
        tuple(head),
        tuple(_line(one, naming, learned) for one in found),
        NOTES,
        tuple(one.row.heading for one in found),
        worded=True,
    )


def warnings(one: Advice) -> list[str]:
    """What speaks against the best by mean: no significance, a better tail elsewhere, more failed requests."""
    told = []
    if one.runner_up is not None and one.lead is not None and one.lead.word != "better":
        told.append(f"not shown to be faster than {one.runner_up.policy}")
    if one.quicker_tail is not None:
        clearly = "" if one.tail is not None and one.tail.word == "better" else " (not shown)"
        told.append(f"lowest p99: {one.quicker_tail.policy}, {_ms(one.quicker_tail.p99_ms)}{clearly}")
    if one.careful is not None:
        told.append(f"fails {_percent(one.best.error_rate)} of requests, {one.careful.policy} {_percent(one.careful.error_rate)}")
    return told


def _line(one: Advice, naming: Naming, learned: bool) -> tuple[str, ...]:
    row = one.row
    situation = place_name(row)
    if row.label == row.scenario and naming.summary(row.scenario):
        situation = f"{situation}: {naming.summary(row.scenario)}"
    cells = [situation, *_told([one.best, row.contenders[CLASSICAL], row.contenders.get(BLIND), one.runner_up])]
    if learned:
        cells.append(_verdict(row.comparisons.get(CLASSICAL)))
    return (*cells, needs(one.best.policy), "\n".join(warnings(one)))


def _told(picks: Sequence[Contender | None]) -> list[str]:
    """Name, mean and p99 of each; of one that stands further left the name alone."""
    cells: list[str] = []
    told: set[str] = set()
    for one in picks:
        if one is None:
            cells.append("")
        elif one.policy in told:
            cells.append(one.policy)
        else:
            cells.append(f"{one.policy}\n{_ms(one.cost_ms.estimate)}\np99 {_ms(one.p99_ms)}")
            told.add(one.policy)
    return cells


def _verdict(one: Comparison | None) -> str:
    return "" if one is None else f"{said(one.word)}\n{ratio(one.difference)}"


def _ms(value: float) -> str:
    return f"{number(value, decimals_for(value))} ms" if value == value else number(value, 0)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else f"{100 * share:.1g} %"

"""The table "Which policy when", for people."""

from collections.abc import Sequence

from trimtab.report.advice import Advice
from trimtab.report.columns import decimals_for, number, ratio, said
from trimtab.report.glossary import needs
from trimtab.report.scoreboard import BLIND, CLASSICAL, LEARNED, Contender, Naming, ScoreRow
from trimtab.report.scoreboard_tables import place_name
from trimtab.report.tables import Grid

RULE = (
    f"Use: {LEARNED} where it is shown to be better than the best classical policy, else that one, since it needs no trained model; "
    f'"or {LEARNED}" follows where its mean is lower and that is not shown. '
)
NOTES = (
    "For p99: another policy, only where its p99 is shown to be lower and it fails no more requests. Needs: what a balancer must be told, "
    "for the policy in bold, beside its own count of requests in flight and its own clock.",
    "Every policy has its mean, a failed request counted as 2 s, and its p99, the mean over episodes. Best: the lowest mean over the same "
    "episodes. Classical: needs no trained model. Class-blind: no class labels either. Runner-up: the lowest mean of all that "
    "the column use does not name. Oracles cannot be deployed and are left out. All are chosen after the fact, which flatters them a "
    "little.",
    "Not shown: a difference that these episodes do not show, because the interval of the ratio includes 1 or because it is not "
    "significant after Holm's correction for the number of comparisons in the column. Then take whichever is simpler to run.",
)


def advice_grid(found: Sequence[Advice], naming: Naming) -> Grid:
    """One line a scenario; the column of the learned policy only where it ran."""
    learned = any(LEARNED in one.row.contenders for one in found)
    head = ["situation", "use", "needs", CLASSICAL, BLIND, "runner-up", "watch out"]
    if learned:
        head.insert(5, f"{LEARNED} / best classical")
    first, *others = NOTES
    return Grid(
        "Which policy when",
        tuple(head),
        tuple(_line(one, naming, learned) for one in found),
        (RULE + first if learned else first, *others),
        tuple(one.row.heading for one in found),
        worded=True,
    )


def warnings(one: Advice) -> list[str]:
    """What speaks against the policy to use: no significance, more failed requests."""
    told = []
    if one.runner_up is not None and not one.ahead:
        told.append(f"not shown to be faster than {one.runner_up.policy}")
    if one.careful is not None:
        told.append(f"fails {_percent(one.use.error_rate)} of requests, {one.careful.policy} {_percent(one.careful.error_rate)}")
    return told


def use(one: Advice) -> str:
    """The policy to use, on a line of its own; then the learned one that may be better, then the one for the tail."""
    told = [one.use.policy]
    if one.unshown is not None:
        ratio_of = one.unshown.cost_ms.estimate / one.use.cost_ms.estimate
        told.append(f"or {one.unshown.policy} ({ratio_of:.3f} of it, not shown)")
    if one.tail is not None:
        told.append(f"for p99: {one.tail.policy} ({_ms(one.tail.p99_ms)}){_other_tail(one)}")
    return "\n".join(told)


def _other_tail(one: Advice) -> str:
    """Where the learned policy has the lowest p99: who has it without a trained model."""
    if one.tail is None or one.tail.policy != LEARNED:
        return ""
    if one.classical_tail is None:
        return f"; without a model {one.use.policy} ({_ms(one.use.p99_ms)})"
    rule = one.classical_tail.contender
    return f"; without a model {rule.policy} ({_ms(rule.p99_ms)}{'' if one.classical_tail.shown else ', not shown'})"


def _line(one: Advice, naming: Naming, learned: bool) -> tuple[str, ...]:
    row = one.row
    cells = [
        _situation(row, naming),
        use(one),
        needs(one.use.policy),
        _figures(row.contenders[CLASSICAL]),
        _figures(row.contenders.get(BLIND)),
    ]
    if learned:
        cells.append(_learned(row))
    return (*cells, _figures(one.runner_up), "\n".join(warnings(one)))


def _situation(row: ScoreRow, naming: Naming) -> str:
    """Name and setting: two scenarios of one kind may differ in size or load, and so in what is best."""
    told = place_name(row)
    if row.label == row.scenario and naming.summary(row.scenario):
        told = f"{told}: {naming.summary(row.scenario)}"
    return "\n".join(part for part in (told, naming.setting(row.scenario)) if part)


def _figures(one: Contender | None) -> str:
    """Name, mean and p99."""
    return "" if one is None else f"{one.policy}\n{_means(one)}"


def _learned(row: ScoreRow) -> str:
    """Mean, p99 and verdict of the learned policy."""
    one, against = row.contenders.get(LEARNED), row.comparisons.get(CLASSICAL)
    told = [] if one is None else [_means(one)]
    return "\n".join([*told, *([] if against is None else [f"{said(against.word)} {ratio(against.difference)}".strip()])])


def _means(one: Contender) -> str:
    return f"{_ms(one.cost_ms.estimate)}\np99 {_ms(one.p99_ms)}"


def _ms(value: float) -> str:
    return f"{number(value, decimals_for(value))} ms" if value == value else number(value, 0)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else f"{100 * share:.1g} %"

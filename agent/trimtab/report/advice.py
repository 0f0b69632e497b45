"""Which policy to use when: of every scenario one answer, and what speaks against it. Pure, from evaluation rows.

The learned policy is the answer where it is shown to be better than the best classical policy. Everywhere else the best classical policy
is, since it needs no trained model; a learned policy of a lower mean that is not shown to be better is named beside it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from trimtab.experiments.statistics import Difference, corrected_verdicts, paired_test
from trimtab.report.columns import ERROR_RATE, P99_LATENCY
from trimtab.report.scoreboard import (
    CLASSICAL,
    LEARNED,
    Comparison,
    Contender,
    Scoreboard,
    ScoreRow,
    catalogue_kinds,
    contender,
    paired,
    with_costs,
)

FEWER_FAILURES: Final = 1e-3  # of the requests: from this difference on a policy counts as failing fewer or more
BETTER: Final = "better"


@dataclass(frozen=True, slots=True)
class Tail:
    """A policy of a lower p99 than the one to use."""

    contender: Contender
    shown: bool


@dataclass(frozen=True, slots=True)
class Advice:
    """One scenario. What does not exist, such as a runner-up to a single policy, is None."""

    row: ScoreRow
    use: Contender
    unshown: Contender | None  # the learned policy, where its mean is lower and that is not shown
    runner_up: Contender | None  # of the lowest mean of all others
    ahead: bool  # whether `use` is shown to be quicker than the runner-up
    tail: Contender | None  # of the lowest p99, where that is shown to be lower than that of `use`
    classical_tail: Tail | None  # where `tail` is the learned policy: the classical one of the lowest p99, if lower than that of `use`
    careful: Contender | None  # the policy that fails fewest requests, where `use` fails noticeably more


def advice(frame: pd.DataFrame, board: Scoreboard, kinds: Mapping[str, str] | None = None) -> list[Advice]:
    """Advice for each row of `board`, the scoreboard of `frame`; Holm's correction covers the rows. Raises ResultsError."""
    known = catalogue_kinds() if kinds is None else kinds
    by_row = {(str(s), str(b)): part for (s, b), part in with_costs(frame, known).groupby(["scenario", "backend"], sort=False)}
    parts = [by_row[row.scenario, row.backend] for row in board.rows]
    found = [_picks(row, part, known) for row, part in zip(board.rows, parts, strict=True)]
    # The learned policy against the best classical one is tested by the scoreboard; a second test could only contradict it.
    leads = _shown([(one.costs, one.use, one.runner_up if LEARNED not in (one.use, one.runner_up) else None) for one in found])
    tails = _shown([(one.tails, one.quick, one.use) for one in found])
    rules = _shown([(one.tails, one.quick_rule, one.use) for one in found])
    return [_advice(*one) for one in zip(board.rows, parts, found, leads, tails, rules, strict=True)]


@dataclass(frozen=True, slots=True)
class _Picks:
    """Names, and the episodes that they were chosen by: costs and p99 latencies # [episodes, policies]"""

    costs: pd.DataFrame
    tails: pd.DataFrame
    use: str
    unshown: str | None
    runner_up: str | None
    quick: str | None  # of the lowest p99
    quick_rule: str | None  # the same without the learned policy
    careful: str | None


def _picks(row: ScoreRow, part: pd.DataFrame, kinds: Mapping[str, str]) -> _Picks:
    own = part[part["policy"].map(lambda name: kinds[name] != "oracle")]
    costs = paired(own)
    use, unshown = _choice(row)
    order = [name for name in _ranked(costs) if name not in (use, unshown)]
    failures = own.groupby("policy", sort=False)[ERROR_RATE.column].mean()
    fewest = str(failures.loc[[use, *_ranked(costs)]].idxmin())
    tails = _tails(own)
    # A p99 is of served requests: who fails the slow ones has a low one.
    able = [name for name in map(str, tails) if failures[name] - failures[use] < FEWER_FAILURES]
    return _Picks(
        costs,
        tails,
        use,
        unshown,
        next(iter(order), None),
        _quicker(tails, able, use),
        _quicker(tails, [name for name in able if kinds[name] != "learned"], use),
        fewest if failures[use] - failures[fewest] >= FEWER_FAILURES else None,
    )


def _choice(row: ScoreRow) -> tuple[str, str | None]:
    """The policy to use, and the learned one where its lower mean is not shown to be one."""
    classical, learned, against = row.contenders[CLASSICAL], row.contenders.get(LEARNED), row.comparisons.get(CLASSICAL)
    if learned is None or against is None:
        return classical.policy, None
    if against.word == BETTER:
        return learned.policy, None
    lower = learned.cost_ms.estimate < classical.cost_ms.estimate
    return classical.policy, learned.policy if lower else None


def _ranked(costs: pd.DataFrame) -> list[str]:
    """Policies by their mean, lowest first, those that were not measured last."""
    means = costs.mean()
    return sorted((str(name) for name in means.index), key=lambda name: (math.isnan(means[name]), means[name], name == LEARNED))


def _tails(own: pd.DataFrame) -> pd.DataFrame:
    """p99 of the policies for which every episode has one: others' means would be of different episodes."""
    tails = paired(own, P99_LATENCY.column) if P99_LATENCY.column in own else pd.DataFrame()
    return tails.loc[:, tails.notna().all()] if len(tails) else tails


def _quicker(tails: pd.DataFrame, names: Sequence[str], use: str) -> str | None:
    """Of `names` that of the lowest p99, if it is lower than that of `use`."""
    if use not in tails or not names:
        return None
    quick = str(tails.loc[:, list(names)].mean().idxmin())
    return quick if tails[quick].mean() < tails[use].mean() else None


def _shown(pairs: Sequence[tuple[pd.DataFrame, str | None, str | None]]) -> list[bool]:
    """Whether the first is shown to be lower than the second on each row, as far as all rows together allow."""
    tests: dict[int, Difference] = {
        place: paired_test(table[first].to_numpy(), table[second].to_numpy())
        for place, (table, first, second) in enumerate(pairs)
        if first is not None and second is not None
    }
    words = dict(zip(tests, corrected_verdicts(list(tests.values())), strict=True))
    return [place in tests and tests[place].interval.bounded and words[place] == BETTER for place in range(len(pairs))]


def _advice(row: ScoreRow, part: pd.DataFrame, picks: _Picks, lead: bool, tail: bool, rule: bool) -> Advice:
    def named(policy: str | None) -> Contender | None:
        return None if policy is None else contender(part, policy)

    quick = named(picks.quick) if tail else None
    learned_tail = quick is not None and quick.policy == LEARNED
    quick_rule = named(picks.quick_rule) if learned_tail else None
    return Advice(
        row,
        contender(part, picks.use),
        named(picks.unshown),
        named(picks.runner_up),
        _ahead(row, picks, lead),
        quick,
        None if quick_rule is None else Tail(quick_rule, rule),
        named(picks.careful),
    )


def _ahead(row: ScoreRow, picks: _Picks, lead: bool) -> bool:
    against: Comparison | None = row.comparisons.get(CLASSICAL)
    if LEARNED not in (picks.use, picks.runner_up) or against is None:
        return lead
    return against.word == (BETTER if picks.use == LEARNED else "worse")

"""Which policy to use when: of every scenario the best that can be deployed, and what speaks against it. Pure, from evaluation rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from trimtab.experiments.statistics import Difference, corrected_verdicts, paired_test
from trimtab.report.columns import ERROR_RATE, P99_LATENCY
from trimtab.report.scoreboard import Comparison, Contender, Scoreboard, ScoreRow, catalogue_kinds, contender, paired, with_costs

FEWER_FAILURES: Final = 1e-3  # of the requests: from this difference on a policy that fails fewer is named


@dataclass(frozen=True, slots=True)
class Advice:
    """One scenario. What does not exist, such as a runner-up to a single policy, is None."""

    row: ScoreRow
    best: Contender  # lowest mean cost of all but the oracles; of equal ones a rule before the learned policy
    runner_up: Contender | None
    lead: Comparison | None  # the best against the runner-up, by cost
    quicker_tail: Contender | None  # another policy, whose p99 is the lowest
    tail: Comparison | None  # its p99 against the best's
    careful: Contender | None  # the policy that fails fewest requests, where the best fails noticeably more


def advice(frame: pd.DataFrame, board: Scoreboard, kinds: Mapping[str, str] | None = None) -> list[Advice]:
    """Advice for each row of `board`, the scoreboard of `frame`; Holm's correction covers the rows. Raises ResultsError."""
    known = catalogue_kinds() if kinds is None else kinds
    parts = {(str(s), str(b)): part for (s, b), part in with_costs(frame, known).groupby(["scenario", "backend"], sort=False)}
    found = [_picks(parts[row.scenario, row.backend], known) for row in board.rows]
    leads = _compared([(one.costs, one.best, one.runner_up) for one in found])
    tails = _compared([(one.tails, one.quick, one.best) for one in found])
    return [
        _advice(*one) for one in zip(board.rows, [parts[row.scenario, row.backend] for row in board.rows], found, leads, tails, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Picks:
    """Names, and the episodes that they were chosen by: costs and p99 latencies # [episodes, policies]"""

    costs: pd.DataFrame
    tails: pd.DataFrame
    best: str
    runner_up: str | None
    quick: str | None
    careful: str | None


def _picks(part: pd.DataFrame, kinds: Mapping[str, str]) -> _Picks:
    own = part[part["policy"].map(lambda name: kinds[name] != "oracle")]
    costs = paired(own)
    order = _ranked(costs, kinds)
    tails = paired(own, P99_LATENCY.column) if P99_LATENCY.column in own else pd.DataFrame()
    # A mean over the episodes that happened to be long enough would compare different episodes.
    tails = tails.loc[:, tails.notna().all()] if len(tails) else tails
    quick = str(tails.mean().idxmin()) if order[0] in tails else order[0]
    if quick != order[0] and tails[quick].mean() == tails[order[0]].mean():
        quick = order[0]
    failures = own.groupby("policy", sort=False)[ERROR_RATE.column].mean()
    fewest = str(failures.loc[order].idxmin())
    noticed = failures[order[0]] - failures[fewest] >= FEWER_FAILURES
    return _Picks(costs, tails, order[0], next(iter(order[1:]), None), quick if quick != order[0] else None, fewest if noticed else None)


def _ranked(costs: pd.DataFrame, kinds: Mapping[str, str]) -> list[str]:
    """Policies by their mean, lowest first, those that were not measured last; of equal ones a rule comes before the learned policy."""
    means = costs.mean()
    return sorted((str(name) for name in means.index), key=lambda name: (math.isnan(means[name]), means[name], kinds[name] == "learned"))


def _compared(pairs: Sequence[tuple[pd.DataFrame, str | None, str | None]]) -> list[Comparison | None]:
    """First against second on each row, with the words that all rows together allow."""
    tests: dict[int, Difference] = {
        place: paired_test(table[first].to_numpy(), table[second].to_numpy())
        for place, (table, first, second) in enumerate(pairs)
        if first is not None and second is not None
    }
    words = dict(zip(tests, corrected_verdicts(list(tests.values())), strict=True))
    made = {place: Comparison(test.interval, words[place] if test.interval.bounded else "") for place, test in tests.items()}
    return [made.get(place) for place in range(len(pairs))]


def _advice(row: ScoreRow, part: pd.DataFrame, picks: _Picks, lead: Comparison | None, tail: Comparison | None) -> Advice:
    def named(policy: str | None) -> Contender | None:
        return None if policy is None else contender(part, policy)

    return Advice(row, contender(part, picks.best), named(picks.runner_up), lead, named(picks.quick), tail, named(picks.careful))

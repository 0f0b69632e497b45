"""The headroom map: what the best rules, the learned policy and the oracles reach on every scenario. Pure, from evaluation rows.

Policies are judged by one cost, in ms, for each episode:

    cost = (1 - error_rate) x mean latency of served requests + error_rate x 2,000 ms

A failed request counts as 2 s, the sample that latency-aware policies themselves book for one: without it, a policy that fails half of
its requests at once would look fast. Where nothing fails the cost is the mean latency.

"Best" is the lowest mean cost over the same episodes. That choice is made after the fact and flatters the rule a little, never the
learned policy.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from trimtab.core.ledger import FAILURE_SAMPLE_S
from trimtab.errors import ResultsError
from trimtab.experiments.aggregates import interquartile_mean, interquartile_mean_interval, probability_of_improvement_interval
from trimtab.experiments.statistics import UNKNOWN, Difference, Interval, bootstrap_interval, corrected_verdicts, paired_test
from trimtab.policies import catalogue
from trimtab.report.columns import ERROR_RATE, MEAN_LATENCY, P99_LATENCY

COST: Final = "cost_ms"
FAILURE_MS: Final = 1000 * FAILURE_SAMPLE_S
LEARNED: Final = catalogue.LEARNED
YARDSTICK: Final = "sed-online"
ORACLES: Final = ("oracle-moods", "oracle-greedy")
BLIND, CLASSICAL = "best class-blind", "best classical"
ROLES: Final = (BLIND, CLASSICAL, YARDSTICK, LEARNED, *ORACLES)
RIVALS: Final = (YARDSTICK, CLASSICAL)  # whom the learned policy is compared with
FAMILY: Final = "family:"
_EPISODE: Final = ["episode", "seed"]


@dataclass(frozen=True, slots=True)
class Contender:
    """What one policy reached on one scenario."""

    policy: str
    cost_ms: Interval
    p99_ms: float  # mean over episodes; NaN where an episode is too short to measure it
    error_rate: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The learned policy against another: difference in cost in percent, and the word that all scenarios together allow."""

    difference: Interval
    word: str


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One scenario. A role that no measured policy fills is missing from the mappings."""

    scenario: str
    backend: str
    label: str
    group: str
    episodes: int
    contenders: Mapping[str, Contender]  # by role
    comparisons: Mapping[str, Comparison]  # of the learned policy, by rival's role
    closed: Mapping[str, Interval]  # share of the gap from the best classical to an oracle that the learned policy closes, by oracle
    heading: str = ""  # the group and what it is about

    @property
    def best(self) -> Contender:
        """The best that can be deployed: the best classical or the learned policy."""
        able = [self.contenders[role] for role in (CLASSICAL, LEARNED) if role in self.contenders]
        return min(able, key=lambda one: (math.isnan(one.cost_ms.estimate), one.cost_ms.estimate))


@dataclass(frozen=True, slots=True)
class FleetRow:
    """Many fleets or scenarios as one: costs as multiples of the yardstick's in the same episode."""

    title: str
    tasks: int
    episodes: int  # of each task
    middle: Mapping[str, tuple[str, Interval]]  # policy and its interquartile mean, by role
    improvement: Interval  # probability that the learned policy costs less than the yardstick


@dataclass(frozen=True, slots=True)
class Scoreboard:
    """All scenarios in the order of the file, and the aggregates."""

    rows: tuple[ScoreRow, ...]
    fleets: tuple[FleetRow, ...]


def _unknown(scenario: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Naming:
    """How scenarios are called and grouped: (group, label) by id; others go by their id."""

    by_id: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)  # what a group is about, in a line
    summaries: Mapping[str, str] = field(default_factory=dict)  # what a scenario is about, in a line, by id
    setting: Callable[[str], str] = _unknown  # servers, classes and load of a scenario, by id; empty where nobody knows

    def of(self, scenario: str) -> tuple[str, str]:
        """Group and label."""
        return self.by_id.get(scenario, ("", scenario))

    def summary(self, scenario: str) -> str:
        """What it is about; a family with a size, `family:grey:16`, goes by the family; empty where nobody knows."""
        family, _, size = scenario.rpartition(":")
        known = self.summaries.get(scenario) or (f"{self.summaries[family]}; {size} servers" if family in self.summaries else "")
        return known or (self.of(scenario)[1] if scenario in self.by_id else "")

    def group(self, name: str) -> str:
        """A group's heading: its name and what it is about."""
        return f"{name}: {self.groups[name]}" if name in self.groups else name


def catalogue_kinds() -> dict[str, str]:
    """The kind of every known policy, by name."""
    return {one.name: str(one.kind) for one in (*catalogue.CATALOGUE, *catalogue.PROXIES)} | {LEARNED: "learned"}


def scoreboard(frame: pd.DataFrame, naming: Naming | None = None, kinds: Mapping[str, str] | None = None) -> Scoreboard:
    """The scoreboard of evaluation rows, as `report.csv_files.read_evaluation` gives them.

    Raises ResultsError for rows without latencies, a policy of no known kind, and a scenario without a classical policy.
    """
    known = catalogue_kinds() if kinds is None else kinds
    costs = with_costs(frame, known)
    groups = list(costs.groupby(["scenario", "backend"], sort=False))
    tables = [paired(part) for _, part in groups]
    best = [_roles(str(key[0]), _means(table), known) for (key, _), table in zip(groups, tables, strict=True)]
    words = {rival: _comparisons(tables, [one.get(rival) for one in best]) for rival in RIVALS}
    rows = [
        _row(str(scenario), str(backend), part, table, roles, {rival: words[rival][place] for rival in RIVALS}, naming or Naming())
        for place, (((scenario, backend), part), table, roles) in enumerate(zip(groups, tables, best, strict=True))
    ]
    return Scoreboard(tuple(rows), tuple(_fleets([str(key[0]) for key, _ in groups], tables, known)))


def with_costs(frame: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """`frame` with the column `cost_ms`; see the module's text. Raises ResultsError."""
    missing = [metric.column for metric in (MEAN_LATENCY, ERROR_RATE) if metric.column not in frame.columns]
    if missing:
        raise ResultsError(f"a scoreboard needs {', '.join(missing)}, which these rows lack; evaluate routing, whose results have them")
    unknown = sorted(set(frame["policy"]) - set(kinds))
    if unknown:
        raise ResultsError(f"policy {unknown[0]!r} is not in the catalogue, so nobody knows its kind; allowed: {', '.join(kinds)}")
    failed = frame[ERROR_RATE.column].to_numpy()
    served = np.where(failed >= 1, 0.0, frame[MEAN_LATENCY.column].to_numpy())  # where nothing was served there is no latency
    return frame.assign(**{COST: (1 - failed) * served + failed * FAILURE_MS})


def _roles(scenario: str, cost: Mapping[str, float], kinds: Mapping[str, str]) -> dict[str, str]:
    """Policy by role, for the roles that are filled; `cost` by policy."""
    classical = [name for name in cost if kinds[name] not in {"oracle", "learned"}]
    if not classical:
        raise ResultsError(f"{scenario} has no classical policy; evaluate with --policies all, or name one such as {YARDSTICK}")
    roles = {CLASSICAL: _least(cost, classical)}
    blind = [name for name in classical if kinds[name] in {"class-blind", "proxy"}]
    if blind:
        roles[BLIND] = _least(cost, blind)
    return roles | {name: name for name in (YARDSTICK, LEARNED, *ORACLES) if name in cost}


def _least(cost: Mapping[str, float], names: Sequence[str]) -> str:
    return min(names, key=lambda name: (math.isnan(cost[name]), cost[name]))


def paired(part: pd.DataFrame, column: str = COST) -> pd.DataFrame:
    """Costs, or another column # [episodes, policies]"""
    return part.pivot(index=_EPISODE, columns="policy", values=column)


def _means(table: pd.DataFrame) -> dict[str, float]:
    return {str(name): float(values.mean()) for name, values in table.items()}


def _comparisons(tables: Sequence[pd.DataFrame], rivals: Sequence[str | None]) -> list[Comparison | None]:
    """The learned policy against one rival on every scenario; Holm's correction covers them all."""
    tests: dict[int, Difference] = {}
    for place, (table, rival) in enumerate(zip(tables, rivals, strict=True)):
        if rival is not None and LEARNED in table.columns:
            tests[place] = paired_test(table[LEARNED].to_numpy(), table[rival].to_numpy())
    words = dict(zip(tests, corrected_verdicts(list(tests.values())), strict=True))
    made = {place: Comparison(test.interval, words[place] if test.interval.bounded else "") for place, test in tests.items()}
    return [made.get(place) for place in range(len(tables))]


def _row(
    scenario: str,
    backend: str,
    part: pd.DataFrame,
    table: pd.DataFrame,
    roles: Mapping[str, str],
    compared: Mapping[str, Comparison | None],
    naming: Naming,
) -> ScoreRow:
    group, label = naming.of(scenario)
    return ScoreRow(
        scenario,
        backend,
        label,
        group,
        len(table),
        {role: contender(part, roles[role]) for role in ROLES if role in roles},
        {rival: one for rival, one in compared.items() if one is not None},
        {oracle: gap_closed(table, roles[CLASSICAL], oracle) for oracle in ORACLES if oracle in table.columns},
        naming.group(group),
    )


def contender(part: pd.DataFrame, policy: str) -> Contender:
    """What `policy` reached; `part` are the rows of one scenario on one backend, with their costs."""
    own = part[part["policy"] == policy]
    tail = own[P99_LATENCY.column] if P99_LATENCY.column in own else pd.Series(dtype="float64")
    p99 = float(tail.mean()) if len(tail) and bool(tail.notna().all()) else float("nan")
    return Contender(policy, bootstrap_interval(own[COST].to_numpy()), p99, float(own[ERROR_RATE.column].mean()))


def gap_closed(table: pd.DataFrame, classical: str, oracle: str) -> Interval:
    """Share of the gap between a classical policy and an oracle that the learned policy closes: 1 all, negative where it loses.

    Unknown where the interval of the oracle's advantage does not exclude zero: then there is no gap to speak of. The interval is that
    of a ratio of paired differences, by the same bootstrap as every comparison. `table` # [episodes, policies]
    """
    if LEARNED not in table.columns:
        return UNKNOWN
    theirs, ours, best = (table[name].to_numpy() for name in (classical, LEARNED, oracle))
    advantage = paired_test(best, theirs).interval
    if not advantage.bounded or advantage.high >= 0:
        return UNKNOWN
    ratio = paired_test(theirs - ours, theirs - best).interval.scaled(0.01)
    return Interval(1 + ratio.estimate, 1 + ratio.low, 1 + ratio.high)


def _fleets(scenarios: Sequence[str], tables: Sequence[pd.DataFrame], kinds: Mapping[str, str]) -> list[FleetRow]:
    """All scenarios together, then each family, whose episodes are fleets of their own."""
    whole = [
        (name, table) for name, table in zip(scenarios, tables, strict=True) if YARDSTICK in table and not table.isna().to_numpy().any()
    ]
    rows = [_fleet_row(name, [table], kinds) for name, table in whole if name.startswith(FAMILY)]
    same = [table for _, table in whole if len(table) == len(whole[0][1])]  # an aggregate needs as many runs of every task
    return [_fleet_row("all scenarios", same, kinds), *rows] if len(same) > 1 else rows


def _fleet_row(title: str, tables: Sequence[pd.DataFrame], kinds: Mapping[str, str]) -> FleetRow:
    """Costs relative to the yardstick's in the same episode, so that a slow fleet weighs as much as a quick one."""
    policies = [str(name) for name in tables[0].columns if all(name in table for table in tables)]
    scores = {
        name: np.stack([(table[name] / table[YARDSTICK]).to_numpy() for table in tables], axis=1)  # [runs, tasks]
        for name in policies
    }
    roles = _roles(title, {name: interquartile_mean(values) for name, values in scores.items()}, kinds)
    middle = {role: (roles[role], interquartile_mean_interval(scores[roles[role]])) for role in ROLES if role in roles}
    ours = scores.get(LEARNED)
    improvement = UNKNOWN if ours is None else probability_of_improvement_interval(ours, np.ones_like(ours))
    return FleetRow(title, len(tables), len(tables[0]), middle, improvement)

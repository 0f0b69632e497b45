"""Which policies a figure with little room shows, and how it tells them apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from trimtab.report.columns import ERROR_RATE, MEAN_LATENCY, episodes
from trimtab.report.drawing import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from trimtab.report.scoreboard import COST, LEARNED, YARDSTICK, catalogue_kinds, with_costs

CLASSICAL: Final = ("class-blind", "class-aware", "proxy")
BLIND: Final = ("class-blind", "proxy")
WIDELY_KNOWN: Final = "round-robin"
# Line style and marker tell them apart in grey, colour besides.
_STYLES: Final = (
    (BLUE, "--", "o"),
    (GREEN, "-.", "s"),
    (PURPLE, ":", "^"),
    (BLACK, (0, (5, 1, 1, 1, 1, 1)), "v"),
    (ORANGE, (0, (8, 2)), "P"),
    (SKY, (0, (1, 2)), "X"),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """One evaluated scenario on one backend."""

    scenario: str
    backend: str
    policies: tuple[str, ...]  # cheapest first, a failed request counting as two seconds
    episodes: str  # such as `50 episodes`

    @property
    def title(self) -> str:
        """What titles call it, as the tables do."""
        return f"{self.scenario} on {self.backend}"


def subjects(evaluation: pd.DataFrame | None) -> dict[tuple[str, str], Subject]:
    """Every evaluated scenario and backend."""
    if evaluation is None:
        return {}
    groups = evaluation.groupby(["scenario", "backend"], sort=False)
    return {(str(s), str(b)): Subject(str(s), str(b), _ranked(part), episodes(part.groupby("policy").size())) for (s, b), part in groups}


def featured(policies: Sequence[str], most: int) -> list[str]:
    """At most so many of `policies` (best first), in the same order: the learned one, the best of every kind, what everybody knows."""
    kinds = catalogue_kinds()

    def best(wanted: Sequence[str]) -> str:
        return next((name for name in policies if kinds.get(name) in wanted), "")

    roles = (LEARNED, best(CLASSICAL), best(BLIND), WIDELY_KNOWN, YARDSTICK, best(("oracle",)))
    chosen = list(dict.fromkeys(name for name in roles if name in policies))[:most]
    chosen += [name for name in policies if name not in chosen][: most - len(chosen)]
    return [name for name in policies if name in chosen]


def line_styles(policies: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Keyword arguments of `Axes.plot` by policy; the learned one is the thick solid line, under the others so that it hides none."""
    others = [name for name in policies if name != LEARNED]
    styles: dict[str, dict[str, Any]] = {LEARNED: {"color": VERMILLION, "linestyle": "-", "marker": "D", "linewidth": 3.2, "zorder": 2}}
    for place, name in enumerate(others):
        colour, line, marker = _STYLES[place % len(_STYLES)]
        styles[name] = {"color": colour, "linestyle": line, "marker": marker, "linewidth": 1.5, "zorder": 3}
    return {name: {**styles[name], "markersize": 5, "markerfacecolor": "white"} for name in policies}


def left_out(shown: Sequence[str], known: Sequence[str], where: str) -> str:
    """A sentence that says how many policies a figure leaves to `where`; empty where it shows all."""
    missing = len(set(known) - set(shown))
    return f" {missing} more policies are in {where}." if missing > 1 else f" One more policy is in {where}." if missing else ""


def _ranked(part: pd.DataFrame) -> tuple[str, ...]:
    names = [str(name) for name in part["policy"].unique()]
    if MEAN_LATENCY.column not in part or ERROR_RATE.column not in part:
        return tuple(names)
    means = with_costs(part, dict.fromkeys(names, "")).groupby("policy", sort=False)[COST].mean()
    return tuple(str(name) for name in means.sort_values(kind="stable", na_position="last").index)

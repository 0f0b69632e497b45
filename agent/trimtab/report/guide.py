"""The top of a report: which policy to use when, what one policy for everything costs, and how that was measured."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from trimtab.report.advice import Advice, advice
from trimtab.report.advice_tables import advice_grid
from trimtab.report.columns import ERROR_RATE, MEAN_LATENCY
from trimtab.report.method import method
from trimtab.report.regret import Regret, fixed_choices, fixed_sentence, matrix, regret
from trimtab.report.scoreboard import Naming, Scoreboard, catalogue_kinds, scoreboard
from trimtab.report.scoreboard_tables import summary
from trimtab.report.tables import Grid, as_html


@dataclass(frozen=True)
class Guide:
    """What one file of evaluation rows says about the choice of a policy."""

    board: Scoreboard
    naming: Naming
    advice: Sequence[Advice]
    regret: Regret
    method: str

    @property
    def grids(self) -> list[Grid]:
        """Which policy when; with several scenarios, what one policy for all of them costs."""
        first = advice_grid(self.advice, self.naming)
        return [first, fixed_choices(self.regret, len(self.board.fleets) > 0)] if len(self.board.rows) > 1 else [first]

    @property
    def conclusion(self) -> str:
        """Some sentences that the rows themselves make."""
        return " ".join(part for part in (summary(self.board), fixed_sentence(self.regret)) if part)


def make_guide(frame: pd.DataFrame, board: Scoreboard, naming: Naming) -> Guide:
    """The guide to the rows of a scoreboard. Raises ResultsError."""
    return Guide(board, naming, advice(frame, board), regret(frame, board), method(frame))


def guide_of(frame: pd.DataFrame | None, naming: Naming) -> Guide | None:
    """The guide to evaluation rows; None where they cannot be judged so: no latency, policies of another problem, no classical policy."""
    kinds = catalogue_kinds()
    if frame is None or not {MEAN_LATENCY.column, ERROR_RATE.column} <= set(frame.columns) or not set(frame["policy"]) <= set(kinds):
        return None
    if not all(_classical(part["policy"], kinds) for _, part in frame.groupby(["scenario", "backend"])):
        return None
    return make_guide(frame, scoreboard(frame, naming), naming)


def guide_html(guides: Sequence[Guide]) -> str:
    """Conclusion, table, choices and matrix of each guide."""
    return "\n".join(_guide(one) for one in guides)


def _guide(one: Guide) -> str:
    several = len(one.board.rows) > 1
    return "\n".join(
        [
            f'<p class="lead">{escape(one.conclusion)}</p>',
            f'<p class="note"><strong>How this was measured.</strong> {escape(one.method)}</p>',
            *(as_html(grid) for grid in one.grids),
            *([matrix(one.regret)] if several else []),
        ]
    )


def _classical(policies: Iterable[str], kinds: dict[str, str]) -> bool:
    return any(kinds[name] not in {"oracle", "learned"} for name in policies)

"""The report: one HTML page that carries its figures and style inside and loads nothing. Numbers come from the CSV files only."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pandas as pd

from trimtab.report.comparison import EvaluationTable, TwinComparison
from trimtab.report.csv_files import EVALUATION_COMMAND, TRAINING_COMMAND, Results
from trimtab.report.details import Details
from trimtab.report.drawing import Drawing
from trimtab.report.glossary import glossary
from trimtab.report.guide import Guide, guide_html
from trimtab.report.scoreboard import Naming
from trimtab.report.scoreboard_tables import scoreboard_grids
from trimtab.report.style import STYLE
from trimtab.report.tables import as_html, evaluation_grid, fact_table, twin_grid, with_kinds
from trimtab.report.training_figures import phase_name


@dataclass(frozen=True)
class BoardFile:
    """A scoreboard, its figure, and the file whose rows it judges."""

    path: Path
    rows: int
    guide: Guide
    drawing: Drawing


@dataclass(frozen=True)
class Contents:
    """Everything the page shows; `config` is what lies beside the CSV files, `command` what made the page."""

    results: Results
    learning: Sequence[Drawing]
    tables: Sequence[EvaluationTable]
    evaluation: Sequence[Drawing]
    details: Details
    board: BoardFile | None
    comparisons: Sequence[TwinComparison]
    twin: Sequence[Drawing]
    command: str
    config: Mapping[str, object] | None = None
    explained: Sequence[Drawing] = ()
    explained_commands: Sequence[str] = ()
    guide: Guide | None = None  # of the results' evaluation rows, where the board is not about the same scenarios
    naming: Naming = field(default_factory=Naming)

    @property
    def guides(self) -> list[Guide]:
        """Of the results, and of the board."""
        return [one for one in (self.guide, None if self.board is None else self.board.guide) if one is not None]

    @property
    def drawings(self) -> list[Drawing]:
        """Every figure of the page, in its order."""
        details = self.details
        board = [] if self.board is None else [self.board.drawing]
        evaluated = [*self.evaluation, *details.latency, *details.shares, *details.timelines]
        return [*self.learning, *self.explained, *evaluated, *board, *self.twin]


def page(contents: Contents) -> str:
    """The whole page, sections in the order in which data flow; a section without data is left out."""
    sections = [
        ("guide", "Which policy when", guide_html(contents.guides)),
        ("run", "What was run", _what_was_run(contents)),
        ("learning", "Learning", _figures(contents.learning)),
        ("explained", "What it learned", _figures(contents.explained)),
        ("evaluation", "Evaluation", _evaluation(contents)),
        ("latency", "Latency of single requests", _latency(contents.details)),
        ("shares", "Who gets the requests", _figures(contents.details.shares)),
        ("faults", "Faults over time", _figures(contents.details.timelines)),
        ("headroom", "Headroom map", _headroom(contents.board)),
        ("twin", "Twin against live", _twin(contents)),
        ("glossary", "Glossary", _glossary(contents)),
    ]
    present = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in present)
    body = "\n".join(f'<section id="{key}"><h2>{title}</h2>\n{content}</section>' for key, title, content in present)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Trimtab report</title>\n<style>{STYLE}</style></head>\n"
        f"<body><h1>Trimtab report</h1>\n<nav>{links}</nav>\n{body}\n{_footer(contents)}\n</body></html>\n"
    )


def _what_was_run(contents: Contents) -> str:
    results = contents.results
    facts = [(str(path), f"{count} rows") for path, count in results.rows.items()]
    if contents.board is not None:
        facts.append((f"{contents.board.path} (scoreboard)", f"{contents.board.rows} rows"))
    if results.training is not None:
        facts += _training_facts(results.training)
    if results.evaluation is not None:
        facts += _evaluation_facts(results.evaluation)
    parts = [fact_table("Files and what they hold", facts)]
    if contents.config is not None:
        parts.append(
            f"<details><summary>Configuration of the run</summary>{fact_table('config.json', _flattened(contents.config))}</details>"
        )
    return "\n".join(parts)


def _training_facts(frame: pd.DataFrame) -> list[tuple[str, str]]:
    phases = [
        f"{phase_name(str(phase))} on {backend}: {len(part)}" for (phase, backend), part in frame.groupby(["phase", "backend"], sort=False)
    ]
    facts = [("training episodes by phase and backend", "; ".join(phases))]
    if "wall_s" in frame and frame["wall_s"].notna().any():
        facts.append(("wall time of the training episodes", f"{frame['wall_s'].sum():.0f} s"))
    return facts


def _evaluation_facts(frame: pd.DataFrame) -> list[tuple[str, str]]:
    facts = [(f"evaluated {key}", ", ".join(str(value) for value in frame[key].unique())) for key in ("scenario", "backend", "policy")]
    facts.append(("evaluation seeds", ", ".join(f"{seed:g}" for seed in frame["seed"].unique())))
    if "schedule_lag_ms" in frame:
        for backend, lag in frame.groupby("backend", sort=False)["schedule_lag_ms"]:
            if lag.notna().any():
                facts.append((f"schedule lag on {backend}", f"median {lag.median():.2f} ms, largest {lag.max():.2f} ms over episodes"))
    return facts


def _evaluation(contents: Contents) -> str:
    if not contents.tables:
        return ""
    caption = (
        '<p class="note">Latency counts served requests only, so read it beside the error rate: a policy that fails requests can look '
        "fast. A difference is the row's policy against the reference over the same episodes.</p>"
    )
    parts = [caption]
    for table in contents.tables:
        parts += [
            as_html(with_kinds(evaluation_grid(table))),
            _figures([drawing for drawing in contents.evaluation if drawing.subject == table.subject]),
        ]
    return "\n".join(parts)


def _latency(details: Details) -> str:
    """Figure and table of each subject, in turn."""
    pairs = zip(details.latency, details.latency_tables, strict=True)
    return "\n".join(part for drawing, grid in pairs for part in (_figure(drawing), as_html(grid)))


def _headroom(one: BoardFile | None) -> str:
    if one is None:
        return ""
    return "\n".join([_figure(one.drawing), *(as_html(grid) for grid in scoreboard_grids(one.guide.board))])


def _twin(contents: Contents) -> str:
    if not contents.comparisons:
        return ""
    caption = (
        '<p class="note">Error is (twin / live - 1) in percent over the episodes that both ran, paired where the episode and seed agree. '
        "A twin is useful for choosing policies when it ranks them as the live fleet does, even where its level is off.</p>"
    )
    return "\n".join([caption, *(as_html(twin_grid(comparison)) for comparison in contents.comparisons), _figures(contents.twin)])


def _glossary(contents: Contents) -> str:
    """Of the policies and scenarios of the guides, in their order."""
    rows = [row for one in contents.guides for row in one.board.rows]
    policies = dict.fromkeys(choice.policy for one in contents.guides for choice in one.regret.choices)
    return glossary(policies, dict.fromkeys(row.scenario for row in rows), contents.naming) if rows else ""


def _figures(drawings: Sequence[Drawing]) -> str:
    return "\n".join(_figure(drawing) for drawing in drawings)


def _figure(drawing: Drawing) -> str:
    data = base64.b64encode(drawing.png).decode("ascii")
    title, caption = escape(drawing.title), escape(drawing.caption)
    image = f'<div class="wide" tabindex="0"><img alt="{title}" src="data:image/png;base64,{data}"></div>'
    return f'<figure id="{escape(drawing.name)}">{image}\n<figcaption><strong>{title}.</strong> {caption}</figcaption></figure>'


def _flattened(config: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names, `learner.gamma`; lists stay as JSON."""
    facts: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            facts += _flattened(value, f"{prefix}{key}.")
        else:
            facts.append((f"{prefix}{key}", value if isinstance(value, str) else _json(value)))
    return facts


def _json(value: object) -> str:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else json.dumps(value, ensure_ascii=False)


def _footer(contents: Contents) -> str:
    commands = []
    if contents.results.training is not None:
        commands.append(f"{TRAINING_COMMAND}    # writes training_metrics.csv")
    if contents.results.evaluation is not None:
        commands.append(f"{EVALUATION_COMMAND}    # writes evaluation.csv and the files beside it")
    if contents.board is not None:
        commands.append(f"{EVALUATION_COMMAND} --suite NAME --csv {contents.board.path}    # writes the rows of the headroom map")
    commands += [*contents.explained_commands, f"{contents.command}    # made this page"]
    return f"<footer><p>Commands:</p><pre>{escape(chr(10).join(commands))}</pre></footer>"

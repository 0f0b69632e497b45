"""Figures and tables from the files beside an evaluation: each file makes its own, so that two runs are never mixed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from trimtab.report.csv_files import Results
from trimtab.report.drawing import Drawing, distinct
from trimtab.report.latency_figures import latency_drawing, latency_grid
from trimtab.report.share_figures import share_drawing
from trimtab.report.subjects import Subject, subjects
from trimtab.report.tables import Grid
from trimtab.report.timeline_figures import timeline_drawing


@dataclass(frozen=True)
class Details:
    """What the page shows of single requests; empty where nothing was gathered."""

    latency: Sequence[Drawing] = ()
    latency_tables: Sequence[Grid] = ()  # one for each of `latency`
    shares: Sequence[Drawing] = ()
    timelines: Sequence[Drawing] = ()


def details_of(results: Results) -> Details:
    """Draw every file beside an evaluation, scenario by scenario. Rows of scenarios that no evaluation row names are left out."""
    latency = [part for part in _parts(results, "latency") if part[0]["latency_ms"].notna().any()]  # a few requests have no quantile
    shares = [share_drawing(frame, subject) for frame, subject in _parts(results, "shares")]
    return Details(
        latency=_named([latency_drawing(frame, subject) for frame, subject in latency]),
        latency_tables=[latency_grid(frame, subject) for frame, subject in latency],
        shares=_named([drawing for drawing in shares if drawing is not None]),
        timelines=_named([timeline_drawing(frame, subject) for frame, subject in _parts(results, "timeline")]),
    )


def _parts(results: Results, kind: str) -> Iterator[tuple[pd.DataFrame, Subject]]:
    known = subjects(results.evaluation)
    for own, frame in results.details.values():
        if own != kind:
            continue
        for (scenario, backend), part in frame.groupby(["scenario", "backend"], sort=False):
            subject = known.get((str(scenario), str(backend)))
            policies = set(part["policy"])
            if subject is not None and policies & set(subject.policies):
                yield part, subject


def _named(drawings: Sequence[Drawing]) -> list[Drawing]:
    names = distinct([drawing.name for drawing in drawings])
    return [replace(drawing, name=name) for drawing, name in zip(drawings, names, strict=True)]

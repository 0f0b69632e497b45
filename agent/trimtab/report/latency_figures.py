"""How the latencies of single requests spread: distribution and tail of each policy, from evaluation_latency.csv."""

from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from trimtab.report.columns import decimals_for, number
from trimtab.report.drawing import Drawing, log_scale, new_figure, plain, png, set_title, slug, soften
from trimtab.report.subjects import Subject, featured, left_out, line_styles
from trimtab.report.tables import Grid

MOST_LINES: Final = 6
TABLED: Final = (0.5, 0.9, 0.95, 0.99, 0.999, 0.9999)
CAPTION: Final = (
    "Latency of single requests, all episodes together. Left: how many requests were done within that time; right: how many were not yet, "
    "on log axes, where a line that falls less steeply is a heavier tail. A failed request is never done, so the lines of a policy that "
    "fails some end early on the left and level off on the right. A line ends where fewer than ten requests lie beyond."
)


def latency_drawing(frame: pd.DataFrame, subject: Subject) -> Drawing:
    """Distribution and tail, side by side; `frame` holds the rows of the subject."""
    shown = featured([name for name in subject.policies if name in set(frame["policy"])], MOST_LINES)
    figure = new_figure(4.4)
    left, right = figure.subplots(1, 2)
    for name, style in line_styles(shown).items():
        _lines(left, right, frame[frame["policy"] == name], plain(name), style)
    left.set_ylabel("requests done within, %", fontsize=9)
    left.set_ylim(0, 102)
    right.set_ylabel("requests slower or failed, % (log)", fontsize=9)
    for axes in (left, right):
        axes.set_xlabel("latency, ms (log)", fontsize=9)
        soften(axes)
        log_scale(axes, "x")
    log_scale(right, "y")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9, handlelength=4)
    title = f"{subject.title}: latency of {frame['requests'].max():,.0f} requests a policy, {subject.episodes}"
    set_title(figure, title)
    caption = CAPTION + left_out(shown, list(frame["policy"].unique()), "the table")
    return Drawing(f"latency_distribution_{slug(subject.scenario, subject.backend)}", title, caption, png(figure), subject.title)


def latency_grid(frame: pd.DataFrame, subject: Subject) -> Grid:
    """Quantiles of the pooled requests for every policy, cheapest policy first."""
    known = set(frame["policy"])
    body = [_line(frame[frame["policy"] == name], name) for name in subject.policies if name in known]
    head = ("policy", "requests", "failed, %", *(f"p{100 * quantile:g}, ms" for quantile in TABLED))
    note = (
        "Quantiles of the served requests, all episodes together; n/a: fewer than ten requests lie beyond. They describe this run and "
        "carry no interval: requests that queue behind each other are not independent. The table under Evaluation has intervals, over "
        "episodes."
    )
    return Grid(f"{subject.title}: latency of single requests, {subject.episodes} per policy", head, tuple(body), (note,))


def _lines(left: Axes, right: Axes, rows: pd.DataFrame, label: str, style: dict[str, Any]) -> None:
    measured = rows.dropna(subset=["latency_ms"])
    failed = float(rows["failed"].iloc[0] / max(1.0, rows["requests"].iloc[0]))
    quantile, latency_ms = measured["quantile"].to_numpy(), measured["latency_ms"].to_numpy()
    note = f" ({_percent(failed)} failed)" if failed > 0 else ""
    done = (1 - failed) * quantile
    every = (1 + 2 * len(left.lines), 12)  # marks of lines that coincide stand beside each other
    left.plot(latency_ms, 100 * done, label=f"{label}{note}", markevery=every, **style)
    right.plot(latency_ms, 100 * (1 - done), markevery=every, **style)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.1g} %"


def _line(rows: pd.DataFrame, name: str) -> tuple[str, ...]:
    requests, failed = float(rows["requests"].iloc[0]), float(rows["failed"].iloc[0])
    values = [_at(rows, quantile) for quantile in TABLED]
    share = 100 * failed / max(1.0, requests)
    return (name, f"{requests:.0f}", number(share, decimals_for(share)), *(number(value, decimals_for(value)) for value in values))


def _at(rows: pd.DataFrame, quantile: float) -> float:
    found = rows.loc[np.isclose(rows["quantile"], quantile, atol=1e-9), "latency_ms"]
    return float(found.iloc[0]) if len(found) else float("nan")

"""How a fault unfolds: latency, failures and who gets the requests over time, from evaluation_timeline.csv."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from trimtab.experiments.detail_rows import WHOLE_FLEET
from trimtab.report.drawing import GUIDE, Drawing, log_scale, new_figure, plain, png, set_title, slug, soften
from trimtab.report.subjects import Subject, featured, left_out, line_styles

MOST_POLICIES: Final = 4
MOST_SERVERS: Final = 8  # more are drawn as one, but for those with a fault
OTHERS: Final = "all others"
FAULT_FILL: Final = "#DDDDDD"
# Light and dark in turn, so that neighbours differ in grey; hatched are servers with a fault.
FILLS: Final = ("#08306B", "#9ECAE1", "#2171B5", "#DEEBF7", "#4292C6", "#C6DBEF", "#08519C", "#F0F0F0", "#737373")
FAULTY: Final = (("#E69F00", "////"), ("#CC79A7", "...."), ("#F0E442", "xxxx"))  # colour and hatch of servers with a fault
CAPTION: Final = (
    "Requests by time of arrival, from the start of the warm-up; the requests of all episodes in the same span are taken together. "
    "Grey: something was wrong with a server. Top: mean latency of served requests, to be read with the failures beneath. Then, policy by "
    "policy, each server's share of the requests; hatched are the servers with a fault."
)


def timeline_drawing(frame: pd.DataFrame, subject: Subject) -> Drawing:
    """Latency, failures where there are any, and a panel of shares for each of a few policies; `frame` holds the subject's rows."""
    known = set(frame["policy"])
    shown = featured([name for name in subject.policies if name in known], MOST_POLICIES)
    whole = frame[frame["server"] == WHOLE_FLEET]
    failures = bool((whole.loc[whole["policy"].isin(shown), "failed"] > 0).any())
    heights = [2.4, *([1.1] if failures else []), *([1.0] * len(shown))]
    figure = new_figure(1.5 + sum(heights) + 0.1 * len(heights))
    panels = list(np.atleast_1d(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)))
    _curves(panels[: 1 + failures], whole, shown)
    servers, faulty = _servers(frame)
    for name, axes in zip(shown, panels[1 + failures :], strict=True):
        _shares(axes, frame[frame["policy"] == name], servers, faulty, name)
    spans = fault_spans(whole[whole["policy"] == shown[0]])
    for axes in panels[: 1 + failures]:
        _shade(axes, spans, name_them=axes is panels[0])
    panels[-1].set_xlabel("time of arrival, s", fontsize=9)
    panels[-1].set_xlim(float(whole["start_s"].min()), float(whole["end_s"].max()))
    _legend(figure, panels[0], servers, faulty)
    title = f"{subject.title}: faults over time, {subject.episodes}"
    set_title(figure, title)
    caption = CAPTION + left_out(shown, list(known), "evaluation_timeline.csv")
    return Drawing(f"timeline_{slug(subject.scenario, subject.backend)}", title, caption, png(figure), subject.title)


def fault_spans(rows: pd.DataFrame) -> list[tuple[float, float, str]]:
    """Start, end and words of every span of bins with the same fault; `rows` are those of the whole fleet under one policy."""
    spans: list[tuple[float, float, str]] = []
    for start_s, end_s, fault in zip(rows["start_s"], rows["end_s"], rows["fault"].fillna(""), strict=True):
        if spans and spans[-1][2] == fault:
            spans[-1] = (spans[-1][0], end_s, fault)
        else:
            spans.append((start_s, end_s, fault))
    return [span for span in spans if span[2]]


def _curves(panels: Sequence[Axes], whole: pd.DataFrame, shown: Sequence[str]) -> None:
    for name, style in line_styles(shown).items():
        rows = whole[whole["policy"] == name]
        middle = (rows["start_s"] + rows["end_s"]) / 2
        panels[0].plot(middle, rows["mean_latency_ms"], label=plain(name), markevery=(len(panels[0].lines), 5), **style)
        if len(panels) > 1:
            panels[1].plot(middle, 100 * rows["failed"] / rows["requests"].clip(lower=1), markevery=(len(panels[1].lines), 5), **style)
    panels[0].set_ylabel("mean latency, ms (log)", fontsize=9)
    for axes in panels:
        soften(axes)
    log_scale(panels[0], "y")
    if len(panels) > 1:
        panels[1].set_ylabel("failed, %", fontsize=9)
        panels[1].set_ylim(bottom=0)


def _servers(frame: pd.DataFrame) -> tuple[list[str], set[str]]:
    """The servers that are drawn, those with a fault first so that they stand on the axis, and those with a fault."""
    rows = frame[frame["server"] != WHOLE_FLEET]
    faulty = set(rows.loc[rows["fault"].fillna("") != "", "server"])
    names = [str(name) for name in rows["server"].unique()]
    ordered = [name for name in names if name in faulty] + [name for name in names if name not in faulty]
    if len(ordered) > MOST_SERVERS:
        ordered = [name for name in ordered if name in faulty][: MOST_SERVERS - 1] + [OTHERS]
    return ordered, faulty


def _shares(axes: Axes, rows: pd.DataFrame, servers: Sequence[str], faulty: set[str], policy: str) -> None:
    counts = rows[rows["server"] != WHOLE_FLEET].pivot(index="start_s", columns="server", values="requests")
    if OTHERS in servers:
        counts = counts.assign(**{OTHERS: counts.drop(columns=[name for name in servers if name != OTHERS]).sum(axis=1)})
    share = 100 * counts[list(servers)].div(counts[list(servers)].sum(axis=1).clip(lower=1), axis=0)
    edges = [*share.index, rows["end_s"].max()]
    below = np.zeros(len(share))
    for name, patch in zip(servers, _patches(servers, faulty), strict=True):
        above = below + share[name].to_numpy()
        axes.stairs(
            above, edges, baseline=below, fill=True, facecolor=patch.get_facecolor(), edgecolor="black",
            hatch=patch.get_hatch(), linewidth=0.3,
        )  # fmt: skip
        below = above
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100])
    axes.set_ylabel("share, %", fontsize=9)
    axes.tick_params(labelsize=9)
    axes.set_title(plain(policy), fontsize=9, loc="left", pad=2)


def _patches(servers: Sequence[str], faulty: set[str]) -> list[Patch]:
    looks = [FAULTY[place % len(FAULTY)] if name in faulty else (FILLS[place % len(FILLS)], None) for place, name in enumerate(servers)]
    return [
        Patch(facecolor=colour, hatch=hatch, edgecolor="black", linewidth=0.3, label=plain(name))
        for name, (colour, hatch) in zip(servers, looks, strict=True)
    ]


def _shade(axes: Axes, spans: Sequence[tuple[float, float, str]], name_them: bool) -> None:
    for start_s, end_s, fault in spans:
        axes.axvspan(start_s, end_s, color=FAULT_FILL, linewidth=0, zorder=0)
        if name_them:
            axes.text(start_s, 1.01, f" {plain(fault)}", transform=axes.get_xaxis_transform(), fontsize=8, color=GUIDE, va="bottom")
    for one, after in pairwise(spans):
        if one[1] == after[0]:  # two faults that follow each other are two spans
            axes.axvline(after[0], color=GUIDE, linewidth=0.8, linestyle=":")


def _legend(figure: Figure, axes: Axes, servers: Sequence[str], faulty: set[str]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    patches = _patches(servers, faulty)
    axes.legend(handles, labels, fontsize=9, frameon=False, handlelength=4, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.06))
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 5), frameon=False, fontsize=9)

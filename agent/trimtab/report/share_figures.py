"""What a policy has learned, or was told: how it divides each class of requests over the servers, from evaluation_shares.csv."""

import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from trimtab.experiments.detail_rows import RANK
from trimtab.report.drawing import GUIDE, Drawing, new_figure, plain, png, set_title, slug
from trimtab.report.scoreboard import LEARNED
from trimtab.report.subjects import Subject, featured, left_out

F64 = npt.NDArray[np.float64]

MOST_POLICIES: Final = 6
MOST_COLUMNS: Final = 16  # cells beside each other in which a number can be read
BANDS: Final = 10  # that a larger fleet of ranks is shown in
CAPACITY: Final = "capacity"
DARK: Final = 0.55  # a share from which on black numbers cannot be read on the blue
CHARACTER_IN: Final = 0.068  # of the servers' names
CELLS_IN: Final = 7.0  # width of all cells of a row of panels
CAPTION: Final = (
    "Share of each class's requests that a policy sent to each server, in percent: every row of a panel adds up to 100, darker is more. "
    f"The row {CAPACITY} is each server's part of what the healthy fleet could serve of that class alone"
)
ONE_FLEET: Final = "; a rule that is blind to classes has nearly the same row in every panel."
MANY_FLEETS: Final = (
    f", mean over the fleets. Every episode has a fleet of its own: {RANK}1 stands for the server of each that has most capacity for the "
    "panel's class, and so on, so that a server may have another rank in another panel."
)


def share_drawing(frame: pd.DataFrame, subject: Subject) -> Drawing | None:
    """A heat map, one panel a class, policy beneath policy; None where the fleet is too large for readable numbers."""
    frame = frame[frame["capacity_share"].notna()]  # what nobody answered went to no server
    frame = _in_bands(frame)
    servers, classes = list(frame["server"].unique()), list(frame["class"].unique())
    if not 1 < len(servers) <= MOST_COLUMNS:
        return None
    known = set(frame["policy"])
    shown = featured([name for name in subject.policies if name in known], MOST_POLICIES)
    tables = {name: _table(frame, name, servers, shown) for name in classes}
    across = min(len(classes), max(1, MOST_COLUMNS // len(servers)))
    down = math.ceil(len(classes) / across)
    figure = new_figure(1.0 + down * (0.75 + 0.27 * (1 + len(shown))))
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    for place, axes in enumerate(panels.flat):
        if place < len(classes):
            _panel(axes, tables[classes[place]], servers, CELLS_IN / across / len(servers))
            axes.set_title(f"class {plain(str(classes[place]))}", fontsize=10)
        else:
            axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_yticks(range(1 + len(shown)), [plain(name) for name in (CAPACITY, *shown)], fontsize=9)
        axes.get_yticklabels()[0].set_fontstyle("italic")
    title = f"{subject.title}: where each class's requests went, % by server, {subject.episodes}"
    set_title(figure, title)
    ranked = all(str(name).startswith(RANK) for name in servers)
    caption = CAPTION + (MANY_FLEETS if ranked else ONE_FLEET) + departures(frame) + left_out(shown, list(known), "evaluation_shares.csv")
    return Drawing(f"shares_{slug(subject.scenario, subject.backend)}", title, caption, png(figure), subject.title)


def departures(frame: pd.DataFrame, policy: str = LEARNED, most: int = 3) -> str:
    """A sentence with the cells in which a policy departs most from capacity; empty where it was not evaluated."""
    own = frame[frame["policy"] == policy]
    if own.empty:
        return ""
    share = own["decisions"] / own.groupby("class")["decisions"].transform("sum").clip(lower=1)
    own = own.assign(share=share, departure=(share - own["capacity_share"]).abs())
    largest = own.sort_values("departure", ascending=False, kind="stable")[:most]
    words = [
        f"{name} to {server} {100 * given:.0f} % (capacity {100 * capacity:.0f} %)"
        for name, server, given, capacity in largest[["class", "server", "share", "capacity_share"]].itertuples(index=False)
    ]
    return f" Where {policy} departs most from capacity: {'; '.join(words)}."


def _in_bands(frame: pd.DataFrame) -> pd.DataFrame:
    """Ranks of a fleet that is too large for single ones, such as 1000, put together: the tenth with most capacity first."""
    servers = list(frame["server"].unique())
    if len(servers) <= MOST_COLUMNS or not all(str(name).startswith(RANK) for name in servers):
        return frame
    edges = [round(part * len(servers) / BANDS) for part in range(BANDS + 1)]
    bands = {f"{RANK}{place + 1}": f"{RANK}{low + 1} to {high}" for low, high in itertools.pairwise(edges) for place in range(low, high)}
    keys = ["scenario", "backend", "policy", "server", "class"]
    return frame.assign(server=frame["server"].map(bands)).groupby(keys, sort=False)[["decisions", "capacity_share"]].sum().reset_index()


def _table(frame: pd.DataFrame, name: str, servers: Sequence[str], policies: Sequence[str]) -> F64:
    """Shares of one class: the capacity, then each policy.  # [1 + P, S]"""
    own = frame[frame["class"] == name]
    decisions = own.pivot(index="policy", columns="server", values="decisions").loc[list(policies), list(servers)].to_numpy()
    capacity = own.groupby("server")["capacity_share"].first().loc[list(servers)].to_numpy()
    return np.vstack([capacity, decisions / np.maximum(decisions.sum(axis=1, keepdims=True), 1)])


def _panel(axes: Axes, table: F64, servers: Sequence[str], cell_in: float) -> None:
    axes.imshow(table, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for (y, x), share in np.ndenumerate(table):
        axes.text(x, y, _cell(share), ha="center", va="center", fontsize=8.5, color="white" if share > DARK else "black")
    axes.axhline(0.5, color=GUIDE, linewidth=1.6)
    turned = cell_in < CHARACTER_IN * max(len(str(name)) for name in servers)
    axes.set_xticks(range(len(servers)), [plain(str(name)) for name in servers], fontsize=8, rotation=60 if turned else 0)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _cell(share: float) -> str:
    return "<1" if 0 < share < 0.005 else f"{100 * share:.0f}"

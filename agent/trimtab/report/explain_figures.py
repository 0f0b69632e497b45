"""What a model has learned, from the files of `visualize.py --explain`: importance of features, the rule between two servers, shares."""

from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from trimtab.errors import ResultsError
from trimtab.experiments.explain import GROUP, IMPORTANCE, IMPORTANCE_COLUMNS, SHARES, SHARES_COLUMNS
from trimtab.experiments.learned_rule import RULE, RULE_COLUMNS, WAIT_B
from trimtab.report.drawing import BLACK, BLUE, GUIDE, Drawing, new_figure, plain, png, set_title, soften
from trimtab.report.share_figures import share_drawing
from trimtab.report.subjects import Subject

F64 = npt.NDArray[np.float64]
Style = Literal["-", "--", ":"]

COMMAND: Final = "python agent/visualize.py --explain"
TEXT: Final = ("model", "scenario", "backend", "policy", "server", "class", "feature", "chosen")
BAR: Final = "#8FB4D6"
LEVELS: Final = 9  # of the contour lines
IMPORTANCE_CAPTION: Final = (
    "Each feature of all servers is replaced by what it was at another moment: how many decisions change (left), what the network itself "
    "says that costs, over all decisions (middle), and how the mean latency changes when the model decides so throughout, on the same "
    "episodes, with its 95 % interval (right; only for the features that matter most and for the group). Features that say nearly the "
    f"same stand in for each other, so each of them alone can look unimportant: the hatched bar permutes {GROUP} together, "
    "expected_cost aside."
)
RULE_CAPTION: Final = (
    "Two servers alike but for expected wait and own service time, both in multiples of server B's own service; B stays at the white "
    "square. Where the thin lines are positive the model values A more, where they are dashed B. The thick line is where its choice "
    "turns; the other two are where sed-online (wait + own service, a straight line) and sed-moods are indifferent. Below and left of a "
    "line A gets the request. Kinks of sed-moods are its estimate of contention, which differs a little from state to state."
)


def explained_drawings(folder: Path) -> list[Drawing]:
    """Figures of the files of `--explain` in `folder`, none where there are none. Raises ResultsError for a malformed file."""
    drawings = []
    for name, columns, draw in ((IMPORTANCE, IMPORTANCE_COLUMNS, importance_drawing), (RULE, RULE_COLUMNS, rule_drawing)):
        if (folder / name).is_file():
            drawings.append(draw(read_explained(folder / name, columns)))
    if (folder / SHARES).is_file():
        shares = shares_drawing(read_explained(folder / SHARES, SHARES_COLUMNS))
        drawings += [shares] if shares is not None else []
    return drawings


def explained_commands(folder: Path) -> list[str]:
    """The command that wrote the files in `folder`, from what stands in them; none where there are none."""
    if not (folder / IMPORTANCE).is_file():
        return []
    first = read_explained(folder / IMPORTANCE, IMPORTANCE_COLUMNS).iloc[0]
    return [f"{COMMAND} {first['model']} --scenario {first['scenario']} --out {folder}    # writes explain_*.csv"]


def read_explained(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """The rows of a file of `--explain`. Raises ResultsError."""
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXT, "str"))
        numbers = [name for name in columns if name not in TEXT]
        if tuple(frame.columns) != columns or frame.empty:
            raise ValueError(f"expected rows of the columns {', '.join(columns)}")
        frame[numbers] = frame[numbers].astype("float64")
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ResultsError(f"{path} is no file of --explain ({why}); write it again with `{COMMAND} MODEL` or remove it") from error
    return frame


def importance_drawing(frame: pd.DataFrame) -> Drawing:
    """Bars by feature, most important on top."""
    first = frame.iloc[0]
    figure = new_figure(1.6 + 0.205 * len(frame))
    panels = figure.subplots(1, 3, sharey=True, gridspec_kw={"width_ratios": (1, 1, 1.15)})
    _bars(panels[0], frame, 100 * frame["changed_share"], "decisions that change (%)")
    _bars(panels[1], frame, frame["q_loss"], "loss of Q per decision\n(mean service times)")
    _latencies(panels[2], frame)
    panels[0].set_yticks(range(len(frame)), [plain(name) for name in frame["feature"]], fontsize=8)
    panels[0].set_ylim(len(frame) - 0.4, -0.6)
    title = f"What {_name(first['model'])} goes by: {first['scenario']} on twin, {first['episodes']:.0f} episodes"
    set_title(figure, title)
    caption = f"{IMPORTANCE_CAPTION} From {first['decisions']:.0f} decisions."
    return Drawing("explain_importance", title, caption, png(figure))


def rule_drawing(frame: pd.DataFrame) -> Drawing:
    """The advantage of server A over wait and own service, and where network and heuristics are indifferent."""
    grid = frame.pivot(index="own_service", columns="wait", values="advantage")
    waits, owns, advantage = grid.columns.to_numpy(dtype=np.float64), grid.index.to_numpy(dtype=np.float64), grid.to_numpy()
    figure = new_figure(5.8)
    axes = figure.subplots()
    most = float(np.abs(advantage).max()) or 1.0
    mesh = axes.pcolormesh(waits, owns, advantage, cmap="cividis", vmin=-most, vmax=most, shading="gouraud")
    figure.colorbar(mesh, ax=axes, label="advantage of A in what the model decides by (mean service times)")
    _value_lines(axes, waits, owns, advantage)
    handles = [
        _turn(axes, waits, owns, _decided(frame, advantage), "model: its choice turns", "-", 3.2),
        _turn(axes, waits, owns, _table(frame, "sed_online"), "sed-online indifferent", "--", 1.8),
        _turn(axes, waits, owns, _table(frame, "sed_moods"), "sed-moods indifferent", ":", 2.4),
    ]
    axes.plot(WAIT_B, 1.0, "s", color="white", markeredgecolor=BLACK, markersize=8)
    axes.annotate("B", (WAIT_B, 1.0), (5, 5), textcoords="offset points", fontsize=10, fontweight="bold")
    axes.set_xlabel("expected wait at server A (own services of B)")
    axes.set_ylabel("own service time at server A (own services of B)")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    title = f"The rule of {_name(frame['model'].iloc[0])}: which of two servers, beside the heuristics"
    set_title(figure, title)
    return Drawing("explain_rule", title, RULE_CAPTION, png(figure))


def shares_drawing(frame: pd.DataFrame) -> Drawing | None:
    """Shares of each class by server, under the model, sed-online and capacity; None where the fleet is too large for numbers."""
    first = frame.iloc[0]
    policies = tuple(str(name) for name in frame["policy"].unique())
    subject = Subject(
        str(first["scenario"]), str(first["backend"]), policies, f"{first['episodes']:.0f} episodes, dqn is {_name(first['model'])}"
    )
    drawing = share_drawing(frame.drop(columns=["model", "episodes"]), subject)
    return None if drawing is None else replace(drawing, name="explain_shares", subject="")


def _bars(axes: Axes, frame: pd.DataFrame, values: pd.Series, label: str) -> None:
    bars = axes.barh(range(len(frame)), values.to_numpy(), color=BAR, edgecolor=GUIDE, linewidth=0.6)
    for bar, name in zip(bars, frame["feature"], strict=True):
        if name == GROUP:
            bar.set_hatch("////")
    _common(axes, label)


def _latencies(axes: Axes, frame: pd.DataFrame) -> None:
    """Changes with their intervals; an interval without bounds is a point alone."""
    measured = frame.assign(place=range(len(frame))).dropna(subset=["latency_percent"])
    low = (measured["latency_percent"] - measured["latency_low_percent"]).fillna(0.0)
    high = (measured["latency_high_percent"] - measured["latency_percent"]).fillna(0.0)
    axes.errorbar(
        measured["latency_percent"], measured["place"], xerr=[low, high], fmt="o", color=BLUE, markersize=4, capsize=3, linewidth=1.4
    )
    axes.axvline(0.0, color=GUIDE, linewidth=1.0)
    if measured["latency_percent"].max() > 100.0:
        axes.set_xscale("symlog", linthresh=10.0)
        axes.set_xticks([0, 10, 100, 1000], ["0", "10", "100", "1000"])
    _common(axes, "mean latency, played so\n(change in %, with 95 % interval)")


def _common(axes: Axes, label: str) -> None:
    soften(axes)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(label, fontsize=9)


def _table(frame: pd.DataFrame, column: str) -> F64:
    return np.asarray(frame.pivot(index="own_service", columns="wait", values=column).to_numpy(), dtype=np.float64)


def _decided(frame: pd.DataFrame, advantage: F64) -> F64:
    """The advantage, but nearly zero with the sign of the choice where caution closed the choice of higher value."""
    prefers_a = (frame.pivot(index="own_service", columns="wait", values="chosen") == "A").to_numpy()
    return np.where(prefers_a == (advantage > 0), advantage, np.where(prefers_a, 1e-6, -1e-6))


def _value_lines(axes: Axes, waits: F64, owns: F64, advantage: F64) -> None:
    low, high = float(advantage.min()), float(advantage.max())
    ticks = np.asarray(MaxNLocator(LEVELS).tick_values(low, high), dtype=np.float64).tolist()
    levels = [level for level in ticks if level != 0.0 and low < level < high]
    if not levels:  # a model that values both alike everywhere
        return
    styles = ["--" if level < 0.0 else "-" for level in levels]
    lines = axes.contour(waits, owns, advantage, levels=levels, colors="white", linewidths=0.7, linestyles=styles)
    axes.clabel(lines, fontsize=7, fmt="%+g")


def _turn(axes: Axes, waits: F64, owns: F64, advantage: F64, label: str, style: Style, width: float) -> Line2D:
    """The line where an advantage is zero, white beneath so that it shows on dark and light, and its entry in the legend."""
    if advantage.min() < 0 < advantage.max():
        axes.contour(waits, owns, advantage, levels=[0.0], colors="white", linewidths=width + 2.0)
        axes.contour(waits, owns, advantage, levels=[0.0], colors=BLACK, linewidths=width, linestyles=[style])
    return Line2D([], [], color=BLACK, linestyle=style, linewidth=width, label=label)


def _name(model: str) -> str:
    return Path(model).name

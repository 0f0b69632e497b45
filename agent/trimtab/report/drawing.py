"""What all figures share: size, colours, file names. Uses Figure objects only, so no global matplotlib state is read or changed."""

import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

DPI = 144
WIDTH_IN = 9.0
# Okabe and Ito's palette, told apart with any colour vision; markers and line styles carry the same information in grey.
BLACK, BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
BAND = "#EDEDED"
GUIDE = "#6B6B6B"


@dataclass(frozen=True)
class Drawing:
    """A finished figure: file name without ending, title, a caption that says what to look for, the PNG, and what it is about."""

    name: str
    title: str
    caption: str
    png: bytes
    subject: str = ""  # the table it belongs to: scenario and backend


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """A figure that lays itself out, so that long names and legends get room instead of covering data."""
    return Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained", facecolor="white")


def png(figure: Figure) -> bytes:
    """The figure as PNG; without a software stamp, so that equal data give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def set_title(figure: Figure, title: str) -> None:
    """The figure's title, wrapped where a long scenario name would run over the edge."""
    figure.suptitle(plain(textwrap.fill(title, 92)), fontsize=11, fontweight="bold")


def plain(text: str) -> str:
    """`text` shown as it is: a dollar sign in a scenario's name would start a formula."""
    return text.replace("$", r"\$")


def slug(*parts: str) -> str:
    """A file name from identifiers that may hold slashes or colons, such as `family:grey`."""
    return "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part).strip("-.") or "unnamed" for part in parts)


def distinct(names: Sequence[str]) -> list[str]:
    """The same names, later repeats numbered: two scenarios whose slugs agree must not share one file."""
    taken: set[str] = set()
    result = []
    for name in names:
        unique, count = name, 1
        while unique in taken:
            count += 1
            unique = f"{name}-{count}"
        taken.add(unique)
        result.append(unique)
    return result


def soften(axes: Axes) -> None:
    """A light grid behind the data, and no frame above and to the right."""
    axes.grid(True, color="#D9D9D9", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9)


def log_scale(axes: Axes, which: str) -> None:
    """A log axis (`which` is x or y) ticked at 1, 2 and 5, written as plain numbers rather than powers of ten."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=range(2, 10)) if high >= 100 * low else NullLocator())
    axis.set_minor_formatter(NullFormatter())

"""Which metrics are documented, and which an expression names."""

import re
from pathlib import Path

METRICS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
WORDS = {"or", "and", "unless", "offset", "bool", "Inf", "NaN"}
NOT_NAMES = [
    r'"[^"]*"',  # texts
    r"\{[^}]*\}",  # label matchers
    r"\[[^\]]*\]",  # windows
    r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)",  # labels
    r"\boffset\s+\w+",
]


def _rows(section: str) -> list[list[str]]:
    """Cells of the tables under a heading and its subheadings, from rows whose first cell is code."""
    text = METRICS.read_text(encoding="utf-8")
    (body,) = re.findall(rf"^(?P<level>##+) {section}\n(.*?)(?=^(?P=level) |\Z)", text, flags=re.M | re.S)
    lines = [line for line in body[1].splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def table(section: str) -> dict[str, list[str]]:
    """Name -> the row's other cells."""
    return {first.strip("`"): rest for first, *rest in _rows(section)}


def documented() -> set[str]:
    """Every name that a query may use: a histogram's three series, everything else as it stands."""
    names = set(table("Recording rules"))
    for name, (kind, *_) in table("Exported").items():
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


def names_in(expr: str) -> set[str]:
    """Metrics and rules in a PromQL expression, or in Grafana's label_values(metric, label)."""
    expr = re.sub(r"label_values\((.*),\s*\w+\)", r"\1", expr)
    for pattern in NOT_NAMES:
        expr = re.sub(pattern, " ", expr)
    found = re.findall(r"(?<![\w:$])([a-zA-Z_:][\w:]*)(?!\w)(?!\s*\()", expr)
    return set(found) - WORDS

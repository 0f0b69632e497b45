"""Lines of the campaign's table: of one run, and of several with different seeds."""

import csv
import statistics
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

HEADER = ("test", "requests", "failed", "figure", "target", "verdict")


class Result(NamedTuple):
    """What a test found. `failed`: requests that were not answered 200, including those that the test makes fail on purpose."""

    name: str
    requests: int
    failed: int
    figure: str
    target: str
    kept: bool | None  # None: shown for comparison, and not judged
    numbers: Mapping[str, float] = MappingProxyType({})  # of the figure, by name with unit; several seeds have their medians


def row(one):
    """A line of the table."""
    verdict = {True: "kept", False: "MISSED", None: "-"}[one.kept]
    return (one.name, f"{one.requests:,}", f"{one.failed:,}", one.figure, one.target, verdict)


def together(runs):
    """Several runs of one test as one line: medians of their numbers; kept where every run was."""
    if len(runs) == 1:
        return runs[0]
    judged = [one.kept for one in runs if one.kept is not None]
    medians = {name: statistics.median(one.numbers[name] for one in runs if name in one.numbers) for name in runs[-1].numbers}
    figure = "; ".join([f"medians of {len(runs)} seeds", *(f"{name} {value:.4g}" for name, value in medians.items())])
    figure += f"; kept {sum(judged)} of {len(judged)}" if judged else ""
    kept = all(judged) if judged else None
    return Result(runs[-1].name, sum(one.requests for one in runs), sum(one.failed for one in runs), figure, runs[-1].target, kept, medians)


def summary(results):
    """How many of the targets were met."""
    judged = [one.kept for one in results if one.kept is not None]
    return f"{sum(judged)} of {len(judged)} kept"


def write_table(path, results):
    """As Markdown where the name ends in .md, else as CSV."""
    rows = [HEADER, *map(row, results)]
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".md":
            rows.insert(1, ("---",) * len(HEADER))
            file.writelines("| " + " | ".join(cell.replace("|", "\\|") for cell in one) + " |\n" for one in rows)
            file.write(f"\n{summary(results)}\n")
        else:
            csv.writer(file, lineterminator="\n").writerows(rows)

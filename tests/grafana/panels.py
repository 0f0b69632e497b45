"""The queries of the dashboards, and whether Prometheus has data for them.

`python tests/grafana/panels.py --prometheus http://localhost:9090` prints a table of all panels; exit code 1 if one is empty.
"""

import argparse
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parents[2] / "grafana" / "dashboards"
BUILT_IN = {"$__rate_interval": "10s"}  # as Grafana fills it in for a short range: at least four scrapes of 2 s
WINDOW_S, STEP_S = 60, 5  # a panel shows a range: a moment without requests does not make it empty
TIMEOUT_S = 10


class Query(NamedTuple):
    """One line of the table."""

    row: str
    panel: str
    ref: str
    expr: str


def queries(dashboard: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(panel title, query letter, expression) of every query, variables filled in with everything."""
    return [(one.panel, one.ref, one.expr) for one in walk(dashboard)]


def walk(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """The same with the row that each panel stands in."""
    row = ""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        for target in panel.get("targets", []):
            yield Query(row, panel["title"], target["refId"], filled(target["expr"], dashboard))


def filled(expr: str, dashboard: Mapping[str, Any]) -> str:
    """The expression as Prometheus gets it. Raises ValueError for a variable that the dashboard does not have."""
    values = BUILT_IN | {f"${one['name']}": ".*" for one in dashboard["templating"]["list"]}
    for name in sorted(values, key=len, reverse=True):
        expr = expr.replace(name, values[name])
    if left := re.search(r"\$\w+", expr):
        raise ValueError(f"{left[0]} in {expr!r} is no variable of the dashboard {dashboard['title']}")
    return expr


def series(prometheus_url: str, expr: str) -> int:
    """How many series had a number at some time in the last minute. Raises ValueError with Prometheus' own words for a bad query."""
    now_s = time.time()
    parameters = {"query": expr, "start": now_s - WINDOW_S, "end": now_s, "step": STEP_S}
    url = f"{prometheus_url.rstrip('/')}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply:
            answer = json.load(reply)
    except urllib.error.HTTPError as error:
        raise ValueError(f"{expr}: {json.load(error)['error']}") from error
    return sum(any(math.isfinite(float(value)) for _, value in one["values"]) for one in answer["data"]["result"])


def dashboards(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """All dashboards, in order of their file names."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def table(counted: Sequence[tuple[str, Query, int]]) -> str:
    """Markdown: dashboard, panel, query, series."""
    lines = ["| dashboard | panel | query | series |", "|---|---|---|---:|"]
    for title, query, number in counted:
        expr = query.expr.replace("|", "\\|")
        lines.append(f"| {title} | {query.row}: {query.panel} | `{expr}` | {number} |")
    return "\n".join(lines) + "\n"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prometheus", metavar="URL", required=True, help="such as http://localhost:9090")
    parser.add_argument("--skip-row", action="append", default=[], metavar="TITLE", help="such as Evaluation while only training runs")
    parser.add_argument("--only-row", action="append", default=[], metavar="TITLE", help="these rows and no others")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: no panel is empty; 1: one is, and is named on stderr; 2: no answer from Prometheus."""
    options = _options(arguments)
    wanted = [(board["title"], query) for board in dashboards() for query in walk(board) if query.row not in options.skip_row]
    wanted = [(title, query) for title, query in wanted if not options.only_row or query.row in options.only_row]
    if not wanted:
        sys.stderr.write(
            f"no panels in these rows; rows are: {', '.join({query.row: 0 for board in dashboards() for query in walk(board)})}\n"
        )
        return 2
    try:
        counted = [(title, query, series(options.prometheus, query.expr)) for title, query in wanted]
    except OSError as error:
        sys.stderr.write(f"no answer from Prometheus at {options.prometheus} ({error}); start it with docker compose up -d\n")
        return 2
    sys.stdout.write(table(counted))
    empty = sorted({f"{title}, {query.row}: {query.panel} ({query.ref})" for title, query, number in counted if number == 0})
    sys.stderr.writelines(f"empty: {one}\n" for one in empty)
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())

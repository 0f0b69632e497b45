"""Draw a Grafana dashboard file as one PNG, with Grafana's own components and data from Prometheus."""

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from picture_data import collect, load_dashboard, load_json
from picture_errors import PictureError
from picture_page import photograph
from picture_prometheus import Prometheus
from picture_time import duration_s, instant_s, step_s
from picture_variables import Span

# The same numbers as in src/layout.ts and src/Dashboard.tsx.
CELL_PX = 30 + 8
HEADER_PX = 88
PADDING_PX = 16
DOCUMENT_KEYS = {"dashboard", "range", "variables", "annotations", "results"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("dashboard", type=Path, nargs="?", help="a dashboard's JSON file; not needed with --data")
    command.add_argument("--prometheus", default="http://localhost:9090", metavar="URL", help="default: %(default)s")
    command.add_argument("--from", dest="start", default="-15m", metavar="TIME", help="-15m, a date or Unix seconds; default: %(default)s")
    command.add_argument("--to", dest="end", default="now", metavar="TIME", help="default: %(default)s")
    command.add_argument("--rate-interval", default="10s", metavar="DURATION", help="least $__rate_interval; default: %(default)s")
    command.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE", help="put into queries as it is; may be repeated")
    command.add_argument("--width", type=int, default=1600, metavar="PX", help="default: %(default)s")
    command.add_argument("--out", type=Path, metavar="FILE.png", help="the picture; without it the queries are run and nothing is drawn")
    command.add_argument("--data", type=Path, metavar="FILE", help="draw what --save-data kept; Prometheus is not asked")
    command.add_argument("--save-data", type=Path, metavar="FILE", help="keep the dashboard and its data")
    return command


def joined(arguments: list[str]) -> list[str]:
    """`--from -15m` as `--from=-15m`: argparse takes a value that begins with a dash for an option."""
    text = "\n".join(arguments)
    return re.sub(r"^(--from|--to)\n-(?=\d)", r"\1=-", text, flags=re.MULTILINE).split("\n") if arguments else []


def main(arguments: list[str]) -> int:
    """Run the command; 0, or 1 with one line on stderr."""
    options = parser().parse_args(joined(arguments))
    try:
        _draw(options)
    except PictureError as error:
        print(f"draw.py: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _draw(options: argparse.Namespace) -> None:
    if options.width < 600:
        raise PictureError(f"--width {options.width} is too narrow: 600 is the least")
    document = _saved(options.data) if options.data else _asked(options)
    if options.save_data:
        options.save_data.parent.mkdir(parents=True, exist_ok=True)
        options.save_data.write_text(json.dumps(document) + "\n", encoding="utf-8")
    if options.out:
        photograph(document, options.out, options.width, height_px(document["dashboard"]))
    _say(document, options.out)


def _saved(path: Path) -> dict[str, Any]:
    document = load_json(path)
    if set(document) != DOCUMENT_KEYS:
        raise PictureError(f"{path} was not written by --save-data: it needs {', '.join(sorted(DOCUMENT_KEYS))}")
    return document


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    if not options.dashboard:
        raise PictureError("no dashboard: name a JSON file, or give --data")
    now_s = time.time()
    from_s, to_s = (instant_s(text, now_s) for text in (options.start, options.end))
    span = Span(from_s, to_s, step_s(from_s, to_s), duration_s(options.rate_interval))
    return collect(load_dashboard(options.dashboard), Prometheus(options.prometheus), span, _given(options.variable))


def _given(texts: list[str]) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise PictureError(f"--variable {text} has no value: write --variable NAME=VALUE")
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def height_px(dashboard: dict[str, Any]) -> int:
    """The height of the whole page in pixels."""
    cells = max((panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]), default=0)
    return 2 * PADDING_PX + HEADER_PX + cells * CELL_PX


def _say(document: dict[str, Any], out: Path | None) -> None:
    titles = {str(panel["id"]): panel.get("title", "") for panel in document["dashboard"]["panels"] if panel["type"] != "row"}
    empty = [title for key, title in titles.items() if not any(result["series"] for result in document["results"].get(key, []))]
    without = f"; no data in: {', '.join(empty)}" if empty else ""
    print(f"{out or 'queries only'}: panels: {len(titles)}{without}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

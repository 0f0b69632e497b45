"""What the benchmarks share: options, machine line, alternating measurement, tables."""

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence

import numba
import numpy as np
import torch

Measurement = Callable[[], float]


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark: --seconds and --rounds."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--seconds", type=float, default=1.0, metavar="S", help="length of a measurement (default 1; 0.2 for a quick look)")
    made.add_argument("--rounds", type=int, default=3, metavar="N", help="measurements of each variant, alternating (default 3)")
    return made


def print_machine(title: str) -> None:
    """What was measured, and on what."""
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, numba {numba.__version__}, torch {torch.__version__}"
    print(f"# {title}\n{platform.machine()}, {os.cpu_count()} cores; {versions}", flush=True)


def wait_for(url: str, patience_s: float, process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Return once `url` is answered 200; ends the program where it is not within `patience_s`, or where `process` has ended."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise SystemExit(f"what should answer at {url} has ended with exit code {process.returncode}; see what it said above")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"{url} did not answer 200 within {patience_s:g} s")


def alternate(variants: Mapping[str, Measurement], rounds: int) -> dict[str, list[float]]:
    """Measure every variant once a round, so that a slow minute of the machine hits all of them.

    Who begins changes from round to round.
    """
    names = list(variants)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(place + number) % len(names)]
            found[name].append(variants[name]())
    return found


def median_and_range(values: Sequence[float]) -> tuple[str, str]:
    """The median, and the least and greatest value, as text with three significant digits."""
    return number(statistics.median(values)), f"{number(min(values))}-{number(max(values))}"


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells))
    print(flush=True)


def ended(compare: Callable[[argparse.Namespace], int], args: argparse.Namespace, stopped: str) -> int:
    """The exit code of a long comparison: a refusal is one line, and Ctrl-C says `stopped`, where the work is."""
    # Here: some benchmarks have nothing of the package on their path.
    from trimtab.errors import TrimtabError

    try:
        return compare(args)
    except TrimtabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130

"""Where the gateway's time goes: cProfile under load, the time within each function summed by the part of the program it serves."""

import pstats
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from measuring import number, print_table
from proxies_rivals import HOST, REPOSITORY, gateway_options

START_S, STOP_S = 90.0, 60.0
WAITING, OTHER = "waiting for events", "other"
# The first that fits counts. What fits none, such as numpy or a built-in function, counts for whoever calls it most.
PARTS = (
    (WAITING, ("select.epoll",)),
    ("system calls: send and receive", ("_socket.socket",)),
    ("aiohttp towards clients", ("aiohttp/web_", "gateway/connection.py")),
    ("aiohttp towards servers", ("aiohttp/client", "aiohttp/connector.py")),
    ("aiohttp, both", ("aiohttp/",)),
    ("asyncio", ("asyncio/", "selectors.py", "_contextvars")),
    ("decision and its books", ("trimtab/core/", "trimtab/policies/", "gateway/router.py", "gateway/guard.py")),
    ("candidates: health, room, budget", ("gateway/health.py", "gateway/retries.py", "gateway/circuit.py")),
    ("heads: checked, changed, written", ("gateway/headers.py", "gateway/refusals.py", "gateway/classes.py", "gateway/sending.py")),
    ("metrics and live page", ("gateway/telemetry.py", "gateway/window.py", "gateway/scores.py")),
    ("forwarding", ("trimtab/gateway/",)),
)
# The profiler runs from the moment the gateway listens: what is imported and compiled before is none of a request's.
DRIVER = """
import cProfile, sys
sys.path.insert(0, sys.argv[1])
from trimtab.cli import app
from trimtab.gateway.shell import Gateway
profile, start, stop = cProfile.Profile(), Gateway.start, Gateway.stop
async def started(gateway, *given):
    await start(gateway, *given)
    profile.enable()
async def stopped(gateway):
    profile.disable()
    profile.dump_stats(sys.argv[2])
    await stop(gateway)
Gateway.start, Gateway.stop = started, stopped
sys.exit(app.main(sys.argv[3:]))
"""
Function = tuple[str, int, str]


def print_parts(folder: Path, port: int, backends: Sequence[int], policy: str, load: Callable[[], dict[str, float]]) -> None:
    """Run the gateway under cProfile while `load` runs, and print the share of each part.

    The profiler makes everything two to three times slower, short Python functions most: the shares say where to look, no more.
    """
    path = folder / "profile"
    command = [sys.executable, "-c", DRIVER, str(REPOSITORY / "agent"), str(path), *gateway_options(policy, port, backends)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as started:
        try:
            _wait(port, started)
            found = load()
        finally:
            started.terminate()
            started.wait(timeout=STOP_S)
    _print(seconds_by_part(path), policy, found["full_rps"])


def seconds_by_part(path: Path) -> dict[str, float]:
    """Seconds within the functions of each part, of a file that cProfile wrote."""
    table = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    found: dict[str, float] = defaultdict(float)
    for function, (_, _, within_s, _, _) in table.items():
        found[_part(function, table, frozenset())] += within_s
    return found


def _part(function: Function, table: dict, seen: frozenset[Function]) -> str:
    file, _, name = function
    for part, marks in PARTS:
        if any(mark in (name if file == "~" else file.replace("\\", "/")) for mark in marks):
            return part
    callers = {caller: times[3] for caller, times in table[function][4].items() if caller not in seen and caller in table}
    if not callers:
        return OTHER
    return _part(max(callers, key=callers.__getitem__), table, seen | {function})


def _print(seconds: dict[str, float], policy: str, rate_rps: float) -> None:
    busy_s = sum(value for part, value in seconds.items() if part != WAITING)
    print(f"# Gateway, {policy}, under cProfile: {number(rate_rps)} requests/s; share of the time in which it did not wait\n")
    rows = [[part, f"{value / busy_s:.1%}"] for part, value in sorted(seconds.items(), key=lambda pair: -pair[1]) if part != WAITING]
    print_table(["part", "share"], rows)


def _wait(port: int, started: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and started.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the gateway did not start under cProfile")

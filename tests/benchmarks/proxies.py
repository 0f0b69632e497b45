"""What does the gateway add to a request's latency, and what does a request cost it, beside other proxies?

    python tests/benchmarks/proxies.py --seconds 10 --rounds 5 --out proxies.csv
    python tests/benchmarks/proxies.py --seconds 2 --rounds 1 --only "gateway, sed-online" --only HAProxy
    python tests/benchmarks/proxies.py --parts --seconds 10      where the gateway's time goes

Every way to the same four backends, one process each on loopback: direct, a relay of bytes in asyncio (what any proxy in asyncio pays
before it reads a header), the gateway with two policies, HAProxy (leastconn, one thread), NGINX (least_conn, one worker, connections to
servers kept), Envoy (LEAST_REQUEST, concurrency 1). A program that is not installed is named and left out.

Two measurements of each, in turns: an open loop of --rate requests a second, latencies from the time a request was due; and as many
requests as it can take on 32 connections (wrk where it is installed, else a client in Python, which then may be the bound). CPU time is
of all processes of the proxy, from /proc. Figures are medians over the rounds; what is added to direct is compared within each round.
"""

import argparse
import asyncio
import contextlib
import csv
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gateway_overhead import open_loop
from measuring import number, parser, print_machine, wait_for
from proxies_parts import print_parts
from proxies_rivals import HOST, REPOSITORY, RIVALS, Way, backend

sys.path.insert(0, str(REPOSITORY / "agent"))

from trimtab.fleets.local import free_ports

SERVERS, CONNECTIONS = 4, 32
PATH = "/job/light"
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
START_S, STOP_S, WARM_UP_S, PROGRAM_S = 60.0, 20.0, 2.0, 30.0
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
COLUMNS = ("p50_ms", "p99_ms", "cpu_us", "full_rps", "full_p50_ms", "full_p99_ms", "full_cpu_us", "full_cores")
HEADER = (
    "| way | p50, ms | p99, ms | added p50 | added p99 | CPU, us | most, requests/s | of ours | its p50, ms | its p99, ms "
    "| its CPU, us | cores in use |"
)
Row = dict[str, float]


def main() -> int:
    args = _options().parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        *backends, spare = free_ports(SERVERS + 1 + len(RIVALS))[: SERVERS + 1]
        words, command = backend(folder, backends)
        stack.enter_context(process(command))
        wait_for(f"http://{HOST}:{backends[-1]}/", START_S)
        if args.parts:
            print_parts(folder, spare, backends, args.policy, lambda: saturate(spare, args.seconds))
            return 0
        ways = _ways(folder, backends, args.only)
        pids = {way.name: _opened(stack, way) for way in ways}
        print_machine(f"Ways to {SERVERS} backends ({words}): {args.seconds:g} s x {args.rounds}, {CONNECTIONS} connections")
        print(f"most requests: {'wrk' if shutil.which('wrk') else 'a client in Python (wrk is not installed)'}\n", flush=True)
        rounds = [_round(ways, pids, args, place) for place in range(args.rounds)]
    _print_table([way.name for way in ways], rounds, args.rate)
    if args.out is not None:
        _write(args.out, rounds)
    return 0


def saturate(port: int, seconds: float) -> Row:
    """As many requests as one port answers on CONNECTIONS connections: how many, and their latencies."""
    return _wrk(port, seconds) if shutil.which("wrk") else asyncio.run(_closed_loop(port, seconds))


@contextlib.contextmanager
def process(command: list[str]) -> Iterator[subprocess.Popen]:
    """A program while the block runs; its processes end with it."""
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _options() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--rate", type=float, default=100.0, metavar="RPS", help="of the open loop (default 100)")
    options.add_argument("--only", action="append", choices=list(RIVALS), metavar="NAME", help=f"of {', '.join(RIVALS)}; may be repeated")
    options.add_argument("--out", type=Path, metavar="FILE", help="every round's figures as CSV")
    options.add_argument("--parts", action="store_true", help="only profile the gateway under as many requests as it takes, by part")
    options.add_argument("--policy", default="sed-online", metavar="NAME", help="of the gateway that is profiled (default sed-online)")
    return options


def _ways(folder: Path, backends: list[int], only: list[str] | None) -> list[Way]:
    ways = [Way("direct", None, backends)]
    chosen = only or list(RIVALS)
    for name, port in zip(chosen, free_ports(len(chosen)), strict=True):
        command = RIVALS[name](folder, port, backends)
        if command is None:
            print(f"left out, not installed: {name}", file=sys.stderr)
        else:
            ways.append(Way(name, command, [port], "/readyz" if name.startswith("gateway") else "/"))
    return ways


def _opened(stack: contextlib.ExitStack, way: Way) -> int | None:
    if way.command is None:
        return None
    started = stack.enter_context(process(list(way.command)))
    wait_for(f"http://{HOST}:{way.ports[0]}{way.ready}", START_S)
    saturate(way.ports[0], WARM_UP_S)
    return started.pid


def _round(ways: list[Way], pids: dict[str, int | None], args: argparse.Namespace, place: int) -> dict[str, Row]:
    """Every way once; who begins changes from round to round."""
    turned = ways[place % len(ways) :] + ways[: place % len(ways)]
    found = {way.name: _measure(way, pids[way.name], args) for way in turned}
    print(f"round {place + 1} of {args.rounds} done", file=sys.stderr)
    return {way.name: found[way.name] for way in ways}


def _measure(way: Way, pid: int | None, args: argparse.Namespace) -> Row:
    began_s = cpu_s(pid)
    latencies_s = asyncio.run(open_loop(list(way.ports), args.rate, args.seconds))
    between_s = cpu_s(pid)
    full = saturate(way.ports[0], args.seconds)
    ended_s = cpu_s(pid)
    return {
        "p50_ms": 1e3 * float(np.percentile(latencies_s, 50)),
        "p99_ms": 1e3 * float(np.percentile(latencies_s, 99)),
        "cpu_us": 1e6 * (between_s - began_s) / latencies_s.size,
        **full,
        "full_cpu_us": 1e6 * (ended_s - between_s) / (full["full_rps"] * args.seconds),
        "full_cores": (ended_s - between_s) / args.seconds,
    }


def cpu_s(pid: int | None) -> float:
    """CPU time so far of a process and all below it; 0 where there is none to ask."""
    if pid is None or not Path("/proc/self/stat").exists():
        return 0.0
    table = {int(path.parent.name): fields for path in Path("/proc").glob("[0-9]*/stat") if (fields := _fields(path))}
    family, fresh = {pid}, {pid}
    while fresh:
        fresh = {one for one, fields in table.items() if int(fields[1]) in fresh} - family
        family |= fresh
    return sum(int(table[one][11]) + int(table[one][12]) for one in family if one in table) / os.sysconf("SC_CLK_TCK")


def _fields(path: Path) -> list[str]:
    """From the third field on, which is the state; empty for a process that has ended meanwhile."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return []


def _wrk(port: int, seconds: float) -> Row:
    length = f"{max(1, round(seconds))}s"  # it takes whole seconds
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{length}", "--latency", f"http://{HOST}:{port}{PATH}"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PROGRAM_S, check=True).stdout
    if wrong := re.search(r"Non-2xx.*|Socket errors.*", text):
        print(f"port {port}: {wrong[0]}", file=sys.stderr)
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if found is None:
        raise SystemExit(f"wrk printed no rate:\n{text}")
    return {"full_rps": float(found[1]), "full_p50_ms": _quantile_ms(text, 50), "full_p99_ms": _quantile_ms(text, 99)}


def _quantile_ms(text: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
    return float("nan") if found is None else 1e3 * float(found[1]) * SECONDS[found[2]]


async def _closed_loop(port: int, seconds: float) -> Row:
    ends_s = time.perf_counter() + seconds
    lists = await asyncio.gather(*[_one_after_another(port, ends_s) for _ in range(CONNECTIONS)])
    latencies_ms = 1e3 * np.concatenate(lists)
    p50, p99 = (float(np.percentile(latencies_ms, percent)) for percent in (50, 99))
    return {"full_rps": latencies_ms.size / seconds, "full_p50_ms": p50, "full_p99_ms": p99}


async def _one_after_another(port: int, ends_s: float) -> np.ndarray:
    reader, writer = await asyncio.open_connection(HOST, port)
    found: list[float] = []
    async with asyncio.timeout(ends_s - time.perf_counter() + PROGRAM_S):
        while (began_s := time.perf_counter()) < ends_s:
            writer.write(REQUEST)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
            found.append(time.perf_counter() - began_s)
    writer.close()
    return np.array(found)


def _print_table(names: list[str], rounds: list[dict[str, Row]], rate_rps: float) -> None:
    print(f"{rate_rps:g} requests/s, then as many as it takes; CPU of all its processes for each request, its health checks included\n")
    print(HEADER)
    print("|---|" + "---:|" * (HEADER.count("|") - 2))
    own = next((name for name in names if name.startswith("gateway")), names[-1])
    for name in names:
        print(f"| {name} | " + " | ".join(_cells(name, own, rounds)) + " |")


def _cells(name: str, own: str, rounds: list[dict[str, Row]]) -> list[str]:
    middle = {column: statistics.median(one[name][column] for one in rounds) for column in COLUMNS}
    added = [statistics.median(one[name][column] - one["direct"][column] for one in rounds) for column in ("p50_ms", "p99_ms")]
    ratio = statistics.median(one[name]["full_rps"] / one[own]["full_rps"] for one in rounds)
    direct = name == "direct"
    shown = [middle["p50_ms"], middle["p99_ms"], *([None] * 2 if direct else added), None if direct else middle["cpu_us"]]
    shown += [middle["full_rps"], ratio, middle["full_p50_ms"], middle["full_p99_ms"]]
    shown += [None] * 2 if direct else [middle["full_cpu_us"], middle["full_cores"]]
    return ["" if value is None else number(value) for value in shown]


def _write(path: Path, rounds: list[dict[str, Row]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["round", "way", *COLUMNS])
        for place, found in enumerate(rounds):
            rows.writerows([place + 1, name, *[f"{row[column]:.6g}" for column in COLUMNS]] for name, row in found.items())


if __name__ == "__main__":
    raise SystemExit(main())

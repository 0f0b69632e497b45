"""What does the gateway add to a request's latency, and what does a request cost it?

    python tests/benchmarks/gateway_overhead.py --seconds 10 --rounds 5
    python tests/benchmarks/gateway_overhead.py --model Models/reference.pth --servers 16

Starts servers that answer at once, in a process of their own, and the gateway as people start it (agent/app.py). An open loop sends the
same requests at evenly spaced times, directly to the servers and through the gateway, in turns; latency counts from the time a request
was due. Prints p50 and p99 of both, their difference, the gateway's CPU time for each request (Linux), and how long its decisions took.
"""

import argparse
import asyncio
import contextlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from measuring import alternate, number, parser, print_machine, print_table, wait_for
from prometheus_client.parser import text_string_to_metric_families

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "agent"))

from trimtab.fleets.local import free_ports  # noqa: E402 - found through the path set above
from trimtab.problems.routing.scenario_files import load_scenario, save_scenario  # noqa: E402

HOST, CONNECTIONS = "127.0.0.1", 16
FLEET = "compose-default"  # the gateway's scenario; larger fleets repeat its servers
DECISIONS = "trimtab_gateway_decision_seconds"
BODY = b"x" * 100
REQUEST = b"GET /job/light HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
START_S, ANSWER_S, WARM_UP_S = 60.0, 10.0, 2.0
QUANTILES = ((50, "p50"), (99, "p99"))

SERVER = """
import asyncio, sys
LINES = ["HTTP/1.1 200 OK", "Content-Type: text/plain", "Date: Sat, 01 Jan 2000 00:00:00 GMT", "Server-Timing: queue;dur=0, work;dur=0.01"]
ANSWER = "\\r\\n".join(LINES + ["Content-Length: %d", "", "%s"])
class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""
    def data_received(self, data):
        *heads, self.rest = (self.rest + data).split(b"\\r\\n\\r\\n")
        self.transport.write((ANSWER % (BODY, "x" * BODY) * len(heads)).encode())
async def main(ports):
    loop = asyncio.get_running_loop()
    listeners = [await loop.create_server(Server, "127.0.0.1", port) for port in ports]
    await asyncio.gather(*[one.serve_forever() for one in listeners])
BODY = int(sys.argv[1])
asyncio.run(main([int(port) for port in sys.argv[2:]]))
"""


def main() -> int:
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--rate", type=float, default=100.0, metavar="RPS", help="requests a second (default 100)")
    who = options.add_mutually_exclusive_group()
    who.add_argument("--policy", default="sed-online", metavar="NAME", help="of the gateway (default sed-online)")
    who.add_argument("--model", type=_file, metavar="PATH", help="a checkpoint, which decides instead of a policy")
    options.add_argument("--servers", type=_count, default=4, metavar="N", help="behind the gateway (default 4)")
    return measure(options.parse_args())


def measure(args: argparse.Namespace) -> int:
    *server_ports, port = free_ports(args.servers + 1)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_process([sys.executable, "-c", SERVER, str(len(BODY)), *map(str, server_ports)]))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateway = stack.enter_context(_process([*_app(args, server_ports, folder), "--port", str(port)]))
        wait_for(f"http://{HOST}:{port}/readyz", START_S, gateway)
        runs = {"direct": Run(server_ports, args.rate), "gateway": Run([port], args.rate, gateway.pid)}
        for run in runs.values():
            run.measure(WARM_UP_S)
            run.forget()
        before = decisions(port)
        load = f"{args.rate:g} requests/s, {args.seconds:g} s x {args.rounds}, {CONNECTIONS} connections, {args.servers} servers"
        print_machine(f"Gateway, {args.model or args.policy}: {load}")
        alternate({name: (lambda one=one: one.measure(args.seconds)) for name, one in runs.items()}, args.rounds)
        _report(runs)
        print(f"decisions: {_told(before, decisions(port))}")
    return 0


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is no file; give a checkpoint, such as Models/reference.pth")
    return path


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: whole numbers from 1 up")
    return int(text)


def _app(args: argparse.Namespace, server_ports: list[int], folder: Path) -> list[str]:
    """The gateway's command, with a scenario of as many servers as there are."""
    usual = load_scenario(FLEET)
    servers = tuple(replace(usual.servers[place % len(usual.servers)], id=f"server-{place + 1}") for place in range(args.servers))
    save_scenario(folder / "fleet.toml", replace(usual, servers=servers))
    who = ["--policy", args.policy] if args.model is None else ["--model", str(args.model)]
    urls = ",".join(f"http://{HOST}:{one}" for one in server_ports)
    return [sys.executable, str(REPOSITORY / "agent" / "app.py"), *who, "--scenario", str(folder / "fleet.toml"), "--servers", urls]


def decisions(port: int) -> dict[str, dict[float, float]]:
    """Of each decider on the gateway's page: how many decisions took at most so many seconds, since it was started."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=ANSWER_S) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    found: dict[str, dict[float, float]] = defaultdict(dict)
    for sample in (one for family in families for one in family.samples if one.name == f"{DECISIONS}_bucket"):
        found[sample.labels["decider"]][float(sample.labels["le"])] = sample.value
    return dict(found)


def _told(before: Mapping[str, Mapping[float, float]], after: Mapping[str, Mapping[float, float]]) -> str:
    """Median and p99 of each decider that decided between the two readings."""
    each = ((name, {edge: many - before[name][edge] for edge, many in counts.items()}) for name, counts in after.items())
    told = [f"{name} {', '.join(_quantiles(counts))} of {counts[math.inf]:,.0f}" for name, counts in each if counts[math.inf]]
    return "; ".join(told) or "none"


def _quantiles(counts: Mapping[float, float]) -> Iterator[str]:
    for percent, name in QUANTILES:
        quantile_s = interpolated(counts, percent / 100.0)
        last = max(edge for edge in counts if edge < math.inf)
        yield f"{name} " + (f"over {1e6 * last:,.0f} us" if quantile_s is None else f"{number(1e6 * quantile_s)} us")


def interpolated(counts: Mapping[float, float], share: float) -> float | None:
    """The quantile, on a line between the bounds about it; None beyond the last. `counts` of all up to each bound, inf included."""
    wanted = share * counts[math.inf]
    for (low, below), (high, up_to) in pairwise([(0.0, 0.0), *sorted(counts.items())]):
        if up_to >= wanted and up_to > below:
            return None if high == math.inf else low + (high - low) * (wanted - below) / (up_to - below)
    return None


class Run:
    """One way to the servers, and what was seen on it."""

    def __init__(self, ports: list[int], rate_rps: float, pid: int | None = None) -> None:
        self.ports, self.rate_rps, self.pid = ports, rate_rps, pid
        self.forget()

    def forget(self) -> None:
        self.latencies_s: list[np.ndarray] = []
        self.cpu_s: list[float] = []

    def measure(self, seconds: float) -> float:
        """One round; returns the median latency in seconds."""
        before = self._cpu_s()
        latencies = asyncio.run(open_loop(self.ports, self.rate_rps, seconds))
        self.latencies_s.append(latencies)
        self.cpu_s.append((self._cpu_s() - before) / latencies.size)
        return float(np.median(latencies))

    def quantile_ms(self, percent: float) -> float:
        """Median over the rounds."""
        return 1e3 * statistics.median(float(np.percentile(one, percent)) for one in self.latencies_s)

    def _cpu_s(self) -> float:
        """CPU time of the process so far; 0 where the system does not tell."""
        stat = Path(f"/proc/{self.pid}/stat")
        if self.pid is None or not stat.exists():
            return 0.0
        fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def open_loop(ports: list[int], rate_rps: float, seconds: float) -> np.ndarray:
    """Latencies in seconds of requests that were due at evenly spaced times; used by proxies.py too."""
    free: asyncio.LifoQueue = asyncio.LifoQueue()
    for place in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection(HOST, ports[place % len(ports)]))
    count, begin = int(rate_rps * seconds), time.perf_counter() + 0.1
    dues = begin + np.arange(count) / rate_rps
    tasks = []
    for due in dues:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(_request(free, due)))
    found = await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait()[1].close()
    return np.array(found)


async def _request(free: asyncio.LifoQueue, due: float) -> float:
    async with asyncio.timeout(ANSWER_S):
        reader, writer = await free.get()
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"answered {head.splitlines()[0]!r}")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
        ended = time.perf_counter()
    free.put_nowait((reader, writer))
    return ended - due


def _report(runs: dict[str, Run]) -> None:
    rows = []
    for percent, name in QUANTILES:
        direct, through = (runs[key].quantile_ms(percent) for key in ("direct", "gateway"))
        rows.append([f"{name}, ms", number(direct), number(through), number(through - direct)])
    print_table(["", "direct", "gateway", "added"], rows)
    if any(runs["gateway"].cpu_s):
        print(f"CPU of the gateway: {1e6 * statistics.median(runs['gateway'].cpu_s):.0f} us a request, health checks included")


@contextlib.contextmanager
def _process(command: list[str]):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


if __name__ == "__main__":
    raise SystemExit(main())

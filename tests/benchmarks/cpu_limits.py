"""What do the containers' cpu limits do to work that burns CPU?

    TRIMTAB_FLEET=servers/fleet-cpu.toml docker compose up -d --build --wait
    python tests/benchmarks/cpu_limits.py

In that fleet all servers are equal: what differs is the containers' limits. Each gets the same jobs, alone and then two at once, one server
after the other, round by round. One line for each server: its limit, median service times, and their ratio to those of the first server.
"""

import argparse
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import urllib3
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(Path(__file__).parent)]

from measuring import print_machine, print_table  # noqa: E402 - found through the path set above

from trimtab.fleets.client import server_timing_s  # noqa: E402

SERVERS = {f"server-{number}": 8080 + number for number in range(1, 5)}
TIMEOUT_S = 60.0
HEADER = ("server", "cpus", "alone, ms", "ratio", "two at a time, ms", "ratio")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="jobs, or pairs of jobs, of each server (default 15)")
    parser.add_argument("--work", type=float, default=5.0, help="of a job, in units of the heavy class's mean of 80 ms (default 5)")
    args = parser.parse_args()
    print_machine(f"the same cpu work of {80 * args.work:.0f} ms under different limits")
    with urllib3.PoolManager(retries=False, timeout=TIMEOUT_S) as pool, ThreadPoolExecutor(2) as threads:
        samples: dict[tuple[str, int], list[float]] = {(name, many): [] for name in SERVERS for many in (1, 2)}
        for _ in range(args.rounds):
            for name, many in samples:
                samples[name, many] += threads.map(lambda _, name=name: job_ms(pool, SERVERS[name], args.work), range(many))
    median = {key: statistics.median(values) for key, values in samples.items()}
    print_table(HEADER, [line(name, median) for name in SERVERS])
    return 0


def job_ms(pool: urllib3.PoolManager, port: int, work: float) -> float:
    """Service time of one heavy job, as the server reports it."""
    answer = pool.request("GET", f"http://127.0.0.1:{port}/job/heavy", headers={"X-Work": f"{work}"})
    if answer.status != 200:
        sys.exit(f"port {port} answered {answer.status}; start the fleet as this program's first lines say")
    return server_timing_s(answer.headers["Server-Timing"])["work"] * 1e3


def line(name: str, median: dict[tuple[str, int], float]) -> tuple[str, ...]:
    """One row; the limit is that of the Compose file."""
    cpus = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))["services"][name]["cpus"]
    first = next(iter(SERVERS))
    cells = [(median[name, many], median[name, many] / median[first, many]) for many in (1, 2)]
    return (name, f"{cpus:g}", *(text for ms, ratio in cells for text in (f"{ms:.0f}", f"{ratio:.2f}")))


if __name__ == "__main__":
    sys.exit(main())

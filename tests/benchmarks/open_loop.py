"""What do an open and a closed loop see of a server that freezes for one second?

    python tests/benchmarks/open_loop.py --seconds 60 --rate 200

Starts one local server (load/scenarios/one-server.toml), runs Locust three times, each in a process of its own, and prints a Markdown
table: the open loop undisturbed, the open loop with a freeze in the middle, and closed-loop users with the same freeze.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "agent"))

from trimtab.fleets.local import LocalServers  # noqa: E402 - found through the path set above
from trimtab.problems.routing.scenario_files import load_scenario  # noqa: E402

SCENARIO = REPOSITORY / "load" / "scenarios" / "one-server.toml"
KINDS, QUANTILES = ("corrected", "uncorrected"), ("p50", "p99", "p99.9", "max")
FREEZE_S = 1.0
START_TIMEOUT_S = 60.0
EXTRA_S = 60.0  # Locust's own start and end, and requests that time out


def main() -> int:
    args = _parser().parse_args()
    scenario = load_scenario(str(SCENARIO))
    users = args.users or math.ceil(args.rate * sum(one.share * one.work_s for one in scenario.classes))
    closed = ["--loop", "closed", "-u", str(users), "-r", "100"]
    print(f"# One server of {scenario.servers[0].slots} slots, {args.rate:g} requests/s, {args.seconds:g} s, seed {args.seed}\n")
    with LocalServers(scenario, faults_enabled=True) as servers, tempfile.TemporaryDirectory() as folder:
        url = servers.urls[0]
        runs = [
            ("open", _run(url, Path(folder, "1.json"), args, [], freeze=False)),
            (f"open, frozen {FREEZE_S:g} s", _run(url, Path(folder, "2.json"), args, [], freeze=True)),
            (f"closed, {users} users, frozen {FREEZE_S:g} s", _run(url, Path(folder, "3.json"), args, closed, freeze=True)),
        ]
    _print_table(runs)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="length of each run (default 60)")
    parser.add_argument("--rate", type=float, default=200.0, metavar="RPS", help="of the open loop (default 200)")
    parser.add_argument("--users", type=int, default=0, metavar="N", help="of the closed loop (default: rate x mean work)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of arrivals, classes and work (default 0)")
    return parser


def _run(url: str, report: Path, args: argparse.Namespace, more: list[str], *, freeze: bool) -> dict:
    fixed = ["--headless", "--only-summary", "--scenario", str(SCENARIO), "-H", url, "--report", str(report)]
    varied = ["-t", f"{args.seconds:g}s", "--rate", f"{args.rate:g}", "--seed", str(args.seed)]
    locust = [sys.executable, "-m", "locust", "-f", str(REPOSITORY / "load" / "locustfile.py"), *fixed, *varied, *more]
    with subprocess.Popen(locust, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            if freeze:
                _freeze_in_the_middle(url, args.seconds, process)
            _, errors = process.communicate(timeout=args.seconds + EXTRA_S)
        except BaseException:
            process.kill()
            raise
    if not report.exists():
        raise SystemExit(f"Locust ended with {process.returncode} and left no report:\n{errors}")
    return json.loads(report.read_text())


def _freeze_in_the_middle(url: str, seconds: float, process: subprocess.Popen) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not _get(f"{url}/state")["in_flight"]:
        if process.poll() is not None or time.monotonic() > deadline_s:
            return  # without a report, which says more
        time.sleep(0.01)
    time.sleep(seconds / 2)
    _get(f"{url}/faults", {"kind": "freeze", "duration_s": FREEZE_S})


def _get(url: str, document: dict | None = None) -> dict:
    data = None if document is None else json.dumps(document).encode()
    with urllib.request.urlopen(url, data, timeout=5.0) as answer:
        return json.load(answer)


def _print_table(runs: list[tuple[str, dict]]) -> None:
    columns = ["offered/s", "achieved/s", "ratio", "served", "failed", "lag p99"]
    columns += [f"{kind} {name}" for kind in KINDS for name in QUANTILES]
    print("| loop | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for name, figures in runs:
        print(f"| {name} | " + " | ".join(_cells(figures)) + " |")
    print("\nLatencies of served requests and lag in ms; corrected: from the scheduled send, which a closed loop does not have.")
    for name, figures in runs:
        print("".join(f"\nWARNING, {name}: {one}" for one in figures["warnings"]), end="")


def _cells(figures: dict) -> list[str]:
    served = figures["rows"][0]
    failed = sum(row["requests"] for row in figures["rows"] if row["outcome"] != "served")
    rates = [_number(figures["offered_rps"]), _number(figures["achieved_rps"]), _percent(figures["achieved_ratio"])]
    cells = [*rates, str(served["requests"]), str(failed), _ms(figures["schedule_lag_seconds"], "p99")]
    return cells + [
        _ms(served[kind], name) for kind in ("corrected_seconds", "uncorrected_seconds") for name in ("p50", "p99", "p99.9", "max")
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _ms(times: dict | None, name: str) -> str:
    return "" if times is None or times[name] is None else f"{times[name] * 1000:,.0f}"


if __name__ == "__main__":
    raise SystemExit(main())

"""How soon is a network that learns from live traffic any good, and what do people notice of its learning?

    PYTHONPATH=agent python tests/benchmarks/live_learning.py --minutes 8
    PYTHONPATH=agent python tests/benchmarks/live_learning.py --init Models/reference.pth --beside sed-online,sed-online

Starts the fleet as local processes and a gateway that learns (`train_dqn.py --traffic gateway`), from an untrained start or from a model,
and sends it Locust's open loop. Every few seconds it keeps a copy of the model. Afterwards each copy plays the twin of the same scenario,
greedy, on the same arrivals as `sed-online` and `least-outstanding`.

With --beside, gateways of classical policies are sent the same traffic afterwards, one after the other, and learning is compared with
each over every 30 s. The first of them is compared with the others too, so that a policy that is named twice shows what is chance.

Writes `live.csv` (what clients saw, every 10 s), `models.csv` (each copy) and `live_learning.png`, and prints from when on the network
beat `least-outstanding` and matched `sed-online`: the first of three copies in a row whose mean latency, in paired episodes, was lower
(the 95 % interval of the difference below zero), or not higher (it reaches zero). Exits with 1 where more than 1 % failed in some 10 s.
"""

import argparse
import csv
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import urllib3
from scipy import stats

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent)]

from live_windows import BESIDE_S, Total, Window, read_totals, windows, worst_beside  # noqa: E402 - found through the path set above
from measuring import print_machine  # noqa: E402

from trimtab.errors import TrimtabError  # noqa: E402
from trimtab.experiments.evaluate import evaluate  # noqa: E402
from trimtab.fleets.local import free_ports  # noqa: E402
from trimtab.problems.base import Policy, Task  # noqa: E402
from trimtab.problems.routing.problem import Routing  # noqa: E402

MOST_FAILED = 0.01
IN_A_ROW = 3
RIVALS = ("sed-online", "least-outstanding")
END_S = 60.0


class Copy(NamedTuple):
    """One model, how old the traffic was when it was written, and its episodes in the twin."""

    time_s: float
    mean_latency_ms: np.ndarray  # [episodes]


def main() -> int:
    args = parsed()
    print_machine(f"learning from live traffic, from {args.init or 'an untrained start'}")
    if args.out.exists():
        if not args.overwrite:
            sys.exit(f"{args.out} exists; replace it with --overwrite, or name another folder with --out")
        shutil.rmtree(args.out)
    (args.out / "models").mkdir(parents=True)
    with learning(args) as url:
        drive(args, url)
    totals = read_totals(args.out / "locust_stats_history.csv")
    beside = [(name, totals_beside(args, name, place)) for place, name in enumerate(args.beside)]
    seen = windows(totals)
    rivals, copies = evaluated(args)
    write_csv(args.out / "live.csv", ("time_s", "requests", "failed", "mean_latency_ms"), seen)
    write_models(args.out / "models.csv", rivals, copies)
    draw(args.out / "live_learning.png", seen, rivals, copies)
    tell_beside(totals, beside)
    return told(seen, rivals, copies)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="of traffic (default 8)")
    parser.add_argument("--rate", type=float, default=None, metavar="RPS", help="requests/s (default: the scenario's)")
    parser.add_argument("--scenario", default="compose-default", metavar="ID")
    parser.add_argument("--copy-every", type=float, default=5.0, metavar="S", help="between copies of the model (default 5)")
    parser.add_argument("--episodes", type=int, default=20, help="that each copy plays in the twin (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, default=None, metavar="MODEL", help="begin with its weights (default: untrained)")
    names = "policies, with commas, that are sent the same traffic afterwards"
    parser.add_argument("--beside", type=lambda text: text.split(","), default=[], metavar="NAME,...", help=names)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="learner setting, as of train_dqn.py")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "Models" / "runs" / "live_learning", metavar="DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in --out")
    return parser.parse_args()


@contextmanager
def learning(args: argparse.Namespace) -> Iterator[str]:
    """Fleet, gateway and learner while the block runs; the gateway's address."""
    (port,) = free_ports(1)
    words = ["--traffic", "gateway", "--port", str(port), "--episodes", "1000000", "--metrics-port", "0", "--seed", str(args.seed)]
    words += ["--scenario", args.scenario, "--out", str(args.out / "run"), *(word for one in args.set for word in ("--set", one))]
    words += [] if args.init is None else ["--init", str(args.init)]
    with serving("train_dqn.py", words, port) as url:
        yield url


@contextmanager
def serving(program: str, words: Sequence[str], port: int) -> Iterator[str]:
    """A program of agent/ with a gateway at this port, while the block runs; the gateway's address."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and so would its children
    process = subprocess.Popen([sys.executable, str(REPOSITORY / "agent" / program), *words])
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
        if process.poll() is not None:
            sys.exit(f"{program} ended with {process.returncode}; see what it said above")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(END_S)


def wait_until_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    give_up_s = time.monotonic() + 2 * END_S
    while process.poll() is None and time.monotonic() < give_up_s:
        try:
            if urllib3.request("GET", f"{url}/readyz", retries=False, timeout=2.0).status == 200:
                return
        except urllib3.exceptions.HTTPError:
            time.sleep(0.2)
    sys.exit("the gateway did not get ready; see what was said above")


def drive(args: argparse.Namespace, url: str) -> None:
    """Send the traffic, and keep copies of the model, named by their time in tenths of a second."""
    live, written = args.out / "run" / "checkpoints" / "live.pth", 0
    with subprocess.Popen(locust(args, url, "locust"), cwd=REPOSITORY) as process:
        started_s = time.monotonic()
        while process.poll() is None:
            if (now := live.stat().st_mtime_ns) != written:
                written = now
                shutil.copy(live, args.out / "models" / f"{round(10 * (time.monotonic() - started_s)):06d}.pth")
            time.sleep(args.copy_every)


def locust(args: argparse.Namespace, url: str, name: str) -> list[str]:
    """The command that sends the traffic; its rows go to files that begin with `name`."""
    words = ["--headless", "--only-summary", "-t", f"{round(60 * args.minutes)}s", "--targets", url, "--scenario", args.scenario]
    words += ["--seed", str(args.seed), "--csv", str(args.out / name), "--csv-full-history", "--exit-code-on-error", "0"]
    words += [] if args.rate is None else ["--rate", str(args.rate)]
    return [sys.executable, "-m", "locust", "-f", str(REPOSITORY / "load" / "locustfile.py"), *words]


def totals_beside(args: argparse.Namespace, policy: str, place: int) -> list[Total]:
    """What the same traffic met at a gateway of that policy, over a fleet of its own."""
    (port,) = free_ports(1)
    words = ["--policy", policy, "--port", str(port), "--seed", str(args.seed), "--scenario", args.scenario]
    with serving("app.py", words, port) as url:
        subprocess.run(locust(args, url, f"beside_{place}"), cwd=REPOSITORY, check=True)
    return read_totals(args.out / f"beside_{place}_stats_history.csv")


def tell_beside(totals: Sequence[Total], beside: Sequence[tuple[str, Sequence[Total]]]) -> None:
    """Learning against each of the others, and the first of those against the rest."""
    named = [("learning", totals), *beside]
    for place, (name, mine) in enumerate(named[:2]):
        for other, theirs in named[place + 1 :]:
            found = worst_beside(mine, theirs)
            at = f"at worst {found.ratio - 1:+.1%} over {BESIDE_S:g} s, which end at {found.time_s:.0f} s"
            print(f"{name} against {other}, same traffic: mean {found.whole - 1:+.1%}; {at}")


def evaluated(args: argparse.Namespace) -> tuple[dict[str, np.ndarray], list[Copy]]:
    """Mean latencies [episodes] of the rivals and of each copy, on the same arrivals."""
    problem = Routing()
    world = problem.open(Task(args.scenario, "twin"))
    servers = problem.choices(Task(args.scenario, "twin"))

    def played(policy: Policy) -> np.ndarray:
        rows = [row for rows in evaluate(world, [policy], args.episodes, args.seed) for row in rows]
        return np.array([float(str(row["mean_latency_ms"])) for row in rows])

    rivals = {name: played(problem.build_policy(name)) for name in RIVALS}
    copies = []
    for path in sorted((args.out / "models").glob("*.pth")):
        try:
            copies.append(Copy(int(path.stem) / 10, played(problem.load_policy(path, servers))))
        except TrimtabError as error:
            sys.exit(f"error: {error}")
    return rivals, copies


def difference(copy: Copy, rival: np.ndarray) -> tuple[float, float, float]:
    """Copy minus rival over paired episodes: mean and 95 % interval (Student's t), in milliseconds."""
    gap = copy.mean_latency_ms - rival
    half = float(stats.t.ppf(0.975, gap.size - 1) * gap.std(ddof=1) / np.sqrt(gap.size))
    return float(gap.mean()), float(gap.mean()) - half, float(gap.mean()) + half


def first_time_s(copies: Sequence[Copy], holds: Sequence[bool]) -> float | None:
    """Of the first of IN_A_ROW copies for which it holds."""
    for place in range(len(copies) - IN_A_ROW + 1):
        if all(holds[place : place + IN_A_ROW]):
            return copies[place].time_s
    return None


def milestones(rivals: dict[str, np.ndarray], copies: Sequence[Copy]) -> dict[str, float | None]:
    """What is reached, and after how many seconds of traffic."""
    beats = [difference(one, rivals["least-outstanding"])[2] < 0 for one in copies]
    matches = [difference(one, rivals["sed-online"])[1] <= 0 for one in copies]
    return {"beats least-outstanding": first_time_s(copies, beats), "matches sed-online": first_time_s(copies, matches)}


def told(windows: Sequence[Window], rivals: dict[str, np.ndarray], copies: Sequence[Copy]) -> int:
    """Print the figures; the exit code."""
    for name, latencies in rivals.items():
        print(f"{name}: {latencies.mean():.2f} ms in the twin")
    print(f"the network at the end: {copies[-1].mean_latency_ms.mean():.2f} ms in the twin")
    for what, time_s in milestones(rivals, copies).items():
        print(f"{what}: {'never' if time_s is None else f'after {time_s:.0f} s of traffic'}")
    worst = max(one.failed_share for one in windows)
    print(f"{sum(one.requests for one in windows)} requests, {sum(one.failed for one in windows)} failed; at worst {worst:.2%} in 10 s")
    return 0 if worst <= MOST_FAILED else 1


def write_models(path: Path, rivals: dict[str, np.ndarray], copies: Sequence[Copy]) -> None:
    names = [f"{name}_minus_{what}_ms" for what in RIVALS for name in ("mean", "low", "high")]
    rows = [
        (one.time_s, float(one.mean_latency_ms.mean()), *(x for name in RIVALS for x in difference(one, rivals[name]))) for one in copies
    ]
    write_csv(path, ("time_s", "mean_latency_ms", *names), rows)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{cell:.6g}" for cell in row] for row in rows)


def draw(path: Path, windows: Sequence[Window], rivals: dict[str, np.ndarray], copies: Sequence[Copy]) -> None:
    """Latencies over time, with what the rivals reach and the two milestones."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 6.5), sharex=True, height_ratios=(4, 1), layout="constrained")
    above.plot(
        [one.time_s for one in windows], [one.mean_latency_ms for one in windows], color="0.6", label="clients, live, exploring (10 s)"
    )
    above.plot([one.time_s for one in copies], [one.mean_latency_ms.mean() for one in copies], ".-", label="network, greedy, in the twin")
    for (name, latencies), style in zip(rivals.items(), ("--", ":"), strict=True):
        above.axhline(float(latencies.mean()), linestyle=style, color="black", linewidth=1, label=f"{name}, in the twin")
    for (what, time_s), style in zip(milestones(rivals, copies).items(), (":", "--"), strict=True):
        if time_s is not None:
            above.axvline(time_s, color="0.6", linestyle=style, zorder=0, label=f"network {what}: after {time_s:.0f} s")
    above.set_yscale("log")
    above.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    above.yaxis.set_major_formatter("{x:g}")
    above.yaxis.set_minor_formatter(NullFormatter())
    above.set_ylabel("mean latency, ms")
    above.legend()
    below.plot([one.time_s for one in windows], [100 * one.failed_share for one in windows], color="0.6")
    below.axhline(100 * MOST_FAILED, linestyle="--", color="black", linewidth=1)
    below.set_ylabel("failed, %")
    below.set_xlabel("seconds of traffic")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())

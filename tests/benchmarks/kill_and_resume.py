"""Does a run that is killed again and again end as one that was not?

    python tests/benchmarks/kill_and_resume.py --episodes 3500 --kills 10

The same training in the twin twice: once undisturbed, once with SIGKILL at random moments, each followed by --resume. Afterwards all
tensors (weights, target, optimiser, replay), all counters and generators, and the CSV apart from wall_s must be equal.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(REPOSITORY / "tests")]

from tiny_runs import rows_without_time, same_content  # noqa: E402 - found through the path set above
from trimtab.dqn.checkpoint import load_state  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=3500, help="of each run (default 3500)")
    parser.add_argument("--kills", type=int, default=10, help="how often (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the run and of the moments (default 0)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = Path(folder, "whole"), Path(folder, "broken")
        started = time.perf_counter()
        subprocess.run(_command(whole, args), check=True, stderr=subprocess.DEVNULL)
        wall_s = time.perf_counter() - started
        print(f"undisturbed: {args.episodes} episodes in {wall_s:.0f} s", flush=True)
        _break(broken, args, wall_s)
        states = [load_state(one / "checkpoints" / "resume.pth") for one in (whole, broken)]
        same_rows = rows_without_time(whole / "metrics/training_metrics.csv") == rows_without_time(broken / "metrics/training_metrics.csv")
        equal = {key: same_content(states[0][key], states[1][key]) for key in states[0]} | {"csv": same_rows}
    for name, verdict in equal.items():
        print(f"{name:<10} {'equal' if verdict else 'DIFFERENT'}")
    return 0 if all(equal.values()) else 1


def _command(out: Path, args: argparse.Namespace, *more: str) -> list[str]:
    script = str(REPOSITORY / "agent" / "train_dqn.py")
    fixed = ["--backend", "twin", "--seed", str(args.seed), "--episodes", str(args.episodes), "--out", str(out)]
    return [sys.executable, script, *fixed, *more]


def _break(out: Path, args: argparse.Namespace, wall_s: float) -> None:
    """Kill the run `args.kills` times, then let it end."""
    moments = random.Random(args.seed)
    for number in range(args.kills):
        resume = ["--resume"] if (out / "checkpoints" / "resume.pth").exists() else ["--overwrite"]
        process = subprocess.Popen(_command(out, args, *resume), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(moments.uniform(1.0, 1.5 * wall_s / args.kills))  # so that the last kill, too, finds it running
        process.send_signal(signal.SIGKILL)
        ended = process.wait()
        rows = (
            len((out / "metrics/training_metrics.csv").read_text().splitlines()) - 1
            if (out / "metrics/training_metrics.csv").exists()
            else 0
        )
        print(f"kill {number + 1}: {rows} rows written, {'killed' if ended < 0 else 'had ended'}", flush=True)
    subprocess.run(_command(out, args, "--resume"), check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    raise SystemExit(main())

"""How far is the twin from the live servers, per server and class?

    python tests/benchmarks/twin_error.py --loads 0.5,0.7,0.9 --requests 20000

The live fleet (Compose where it answers, --servers, else local processes) is calibrated; then `weighted-round-robin` routes requests to it,
and the twin gets the same requests and sends each where the live fleet did: a difference is the model's and not a policy's. One line
for each load, server and class: requests, p50 and p99 live, and the twin's error. A quantile is blank where fewer than ten lie beyond it.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(Path(__file__).parent)]

from measuring import print_machine, print_table  # noqa: E402 - found through the path set above

from trimtab.cli.options import count, positive, url_list  # noqa: E402
from trimtab.core.metrics import quantile_or_nan  # noqa: E402
from trimtab.core.request_log import SERVED, RequestLog  # noqa: E402
from trimtab.core.scenario import Scenario, Traffic  # noqa: E402
from trimtab.experiments.loop import Choose, play  # noqa: E402
from trimtab.policies import catalogue  # noqa: E402
from trimtab.problems.base import BatchEnv  # noqa: E402
from trimtab.problems.routing.problem import open_live  # noqa: E402
from trimtab.problems.routing.scenario_files import load_scenario, save_scenario  # noqa: E402
from trimtab.problems.routing.world import LiveWorld, fixed_twin  # noqa: E402

POLICY = "weighted-round-robin"
HEADER = ("load", "server", "class", "requests", "p50 live, ms", "twin", "p99 live, ms", "twin")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="compose-default", help="id or file (default compose-default)")
    parser.add_argument("--servers", type=url_list, default=(), metavar="URL,...", help="live servers of your own, in order")
    parser.add_argument("--loads", type=lambda text: [float(one) for one in text.split(",")], default=[0.5, 0.7, 0.9], metavar="L,...")
    parser.add_argument("--requests", type=positive, default=20_000, help="measured at each load, after a tenth of it as warm-up")
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--calibrated", type=Path, default=None, metavar="FILE", help="write the calibrated scenario there")
    args = parser.parse_args()
    print_machine("twin against live servers")
    scenario = load_scenario(args.scenario)
    world = open_live(scenario, args.servers)
    try:
        measured = calibrated(world, args.calibrated)
        print(f"{world.note}; overhead {measured.overhead_s * 1e3:.2f} ms\n", flush=True)
        worst = [compare(world, measured, load, args) for load in args.loads]
    finally:
        world.close()
    print(f"largest error: p50 {max(one[0] for one in worst):.1f} %, p99 {max(one[1] for one in worst):.1f} %")
    return 0


def calibrated(world: LiveWorld, keep: Path | None) -> Scenario:
    """The scenario as the live servers are."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "calibrated.toml")
        world.calibrate(path)
        measured = load_scenario(str(path))
    if keep is not None:
        save_scenario(keep, measured, description="as measured on live servers")
    return measured


def compare(world: LiveWorld, measured: Scenario, load: float, args: argparse.Namespace) -> tuple[float, float]:
    """Print the table of one load; the largest errors of p50 and p99 in per cent."""
    # The rate is that of the scenario as written, for both: calibration moves the capacity by a little, hence what a load means.
    rate_rps = load * world.scenario.capacity_rps()
    lengths = {"traffic": Traffic(rate_rps=rate_rps), "requests": args.requests, "warmup": args.requests // 10}
    world.scenario = replace(world.scenario, **lengths)
    policy = catalogue.build(POLICY)
    policy.reset(np.zeros(1, dtype=np.int64))
    live_log, lag_s = played(world.evaluation_env(1), policy.select, args.seed)
    sent = iter(live_log.server[0].astype(np.int64))
    twin_log, _ = played(fixed_twin(replace(measured, **lengths)).evaluation_env(1), lambda _view: np.array([next(sent)]), args.seed)
    rows, errors = [], []
    for s, server in enumerate(measured.server_ids):
        for k, name in enumerate(measured.class_names):
            row, error = cell(live_log, twin_log, s, k, args.requests // 10)
            rows.append((f"{load:g}", server, name, *row))
            errors.append(error)
    print_table(HEADER, rows)
    failed = int((live_log.status != SERVED).sum())
    print(
        f"{rate_rps:.0f} requests/s; {failed} failed live; 99 % sent within {np.quantile(lag_s, 0.99) * 1e3:.1f} ms of schedule\n",
        flush=True,
    )
    return float(np.nanmax([one[0] for one in errors])), float(np.nanmax([one[1] for one in errors]))


def played(env: BatchEnv, choose: Choose, seed: int) -> tuple[RequestLog, np.ndarray]:
    """One episode to its end: the log, and how late each request was sent."""
    for _ in play(env, choose, seed, [0]):
        pass
    env.drain()
    return env.fleet.log, env.fleet.lag_s()


def cell(live: RequestLog, twin: RequestLog, server: int, kind: int, first: int) -> tuple[tuple[str, ...], tuple[float, float]]:
    """Columns of one server and class, and the twin's absolute errors of p50 and p99 in per cent."""
    chosen = np.flatnonzero((live.server[0, first:] == server) & (live.request_class[0, first:] == kind)) + first
    latency_s = [log.latency_s[0, chosen[log.status[0, chosen] == SERVED]] for log in (live, twin)]
    found = [tuple(quantile_or_nan(sample, q) * 1e3 for sample in latency_s) for q in (0.5, 0.99)]
    errors = [(twin_ms / live_ms - 1.0) * 100 for live_ms, twin_ms in found]
    texts = [
        text for (live_ms, _), error in zip(found, errors, strict=True) for text in (shown(live_ms, ".1f"), shown(error, "+.1f", " %"))
    ]
    return (str(chosen.size), *texts), (abs(errors[0]), abs(errors[1]))


def shown(value: float, form: str, unit: str = "") -> str:
    """Blank where nothing was measured."""
    return "" if np.isnan(value) else f"{value:{form}}{unit}"


if __name__ == "__main__":
    sys.exit(main())

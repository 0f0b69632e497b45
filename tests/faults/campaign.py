"""Does the gateway keep its promises when servers, clients or its own model fail?

    python tests/faults/campaign.py
    python tests/faults/campaign.py --only kill,black-hole --requests 5000 --seed 3

Starts five servers and, for each test, the gateway as people start it (agent/app.py); an open loop sends 60 % of what the servers can do,
and one thing is broken. Prints a table; exit code 1 where a figure misses its target. The seed fixes arrivals and what is broken when.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(Path(__file__).parent), str(REPOSITORY / "tests" / "benchmarks")]

import agents  # noqa: E402 - found through the path set above
import backends  # noqa: E402
import books  # noqa: E402
import clients  # noqa: E402
import soak  # noqa: E402
from measuring import print_table  # noqa: E402
from results import Result  # noqa: E402
from stage import StageError, fleet  # noqa: E402

TESTS = {
    "kill": backends.kill,
    "passive": backends.passive,
    "restart": backends.restart,
    "black-hole": backends.black_hole,
    "grey": backends.grey,
    "stop": backends.stop,
    "outage": backends.outage,
    "nan": agents.nan,
    "slow-model": agents.slow_model,
    "retries": books.retries,
    "slowloris": clients.slowloris,
    "conservation": books.conservation,
    "soak": soak.soak,
}
HEADER = ("test", "requests", "failed", "figure", "target", "verdict")


def main():
    args = _parser().parse_args()
    chosen = args.only or list(TESTS)
    if unknown := [one for one in chosen if one not in TESTS]:
        _parser().error(f"--only {unknown[0]}: allowed are {', '.join(TESTS)}")
    results = []
    with fleet() as servers:
        for name in chosen:
            began_s = time.monotonic()
            results.append(_one(name, servers, args))
            sys.stderr.write(f"{name}: {results[-1].figure} ({time.monotonic() - began_s:.0f} s)\n")
    print_table(HEADER, [_row(one) for one in results])
    return 0 if all(one.kept for one in results) else 1


def _one(name, servers, args):
    servers.repair()
    try:
        return asyncio.run(TESTS[name](servers, args))
    except StageError as error:
        return Result(name, 0, 0, f"not measured: {error}", "", kept=False)


def _row(one):
    return (one.name, f"{one.requests:,}", f"{one.failed:,}", one.figure, one.target, "kept" if one.kept else "MISSED")


def _parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,...", help=f"of {', '.join(TESTS)}")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of arrivals, gateway and faults (default 0)")
    parser.add_argument("--requests", type=int, default=20_000, metavar="N", help="of the test kill (default 20000)")
    parser.add_argument("--minutes", type=float, default=2.0, metavar="N", help="of the test soak (default 2; the long run is 30)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

"""Does the gateway keep its promises when servers, clients or its own model fail?

    python tests/faults/campaign.py
    python tests/faults/campaign.py --only kill,black-hole --requests 5000 --seed 3
    python tests/faults/campaign.py --only grey --seeds 5 --out faults.md

Starts five servers and, for each test, the gateway as people start it (agent/app.py); an open loop sends 60 % of what the servers can do,
and one thing is broken. Prints a table; exit code 1 where a figure misses its target. The seed fixes arrivals and what is broken when.
A real HAProxy is put before the same servers where `haproxy` is on the PATH; its lines are for comparison, and have no target.
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
import badclients  # noqa: E402
import books  # noqa: E402
import clients  # noqa: E402
import haproxy  # noqa: E402
import learners  # noqa: E402
import soak  # noqa: E402
from measuring import print_table  # noqa: E402
from results import HEADER, Result, row, summary, together, write_table  # noqa: E402
from stage import StageError, fleet, processor_ticks  # noqa: E402

from trimtab.errors import TrimtabError  # noqa: E402

WITHHELD = 0.05  # share of the processors from which on it is said

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
    "agent-killed": learners.agent_killed,
    "agent-hung": learners.agent_hung,
    "model-file": learners.model_file,
    "retries": books.retries,
    "slowloris": clients.slowloris,
    "bad-clients": badclients.bad_clients,
    "conservation": books.conservation,
    "haproxy-kill": haproxy.kill,
    "haproxy-black-hole": haproxy.black_hole,
    "haproxy-grey": haproxy.grey,
    "soak": soak.soak,
}


def main():
    parser = _parser()
    args = parser.parse_args()
    chosen = args.only or list(TESTS)
    if unknown := [one for one in chosen if one not in TESTS]:
        parser.error(f"--only {unknown[0]}: allowed are {', '.join(TESTS)}")
    if args.seeds < 1:
        parser.error(f"--seeds {args.seeds}: give 1 or more")
    if args.out is not None and not (args.out.suffix in {".csv", ".md"} and args.out.parent.is_dir()):
        parser.error(f"--out {args.out}: give a file that ends in .csv or .md, in a directory that exists")
    results = _run(chosen, args)
    print_table(HEADER, [row(one) for one in results])
    sys.stdout.write(f"{summary(results)}\n")
    if args.out is not None:
        write_table(args.out, results)
    return 1 if any(one.kept is False for one in results) else 0


def _run(chosen, args):
    """Every test once with each seed, a whole round after the other, so that a slow hour of the machine hits all tests."""
    runs = {name: [] for name in chosen}
    with fleet() as servers:
        for seed in range(args.seed, args.seed + args.seeds):
            args.seed = seed
            for name, found in runs.items():
                began_s, before = time.monotonic(), processor_ticks()
                found.append(_starved(_one(name, servers, args), before, processor_ticks()))
                sys.stderr.write(f"{name}: {found[-1].figure} ({time.monotonic() - began_s:.0f} s)\n")
    return [together(found) for found in runs.values()]


def _starved(result, before, after):
    """The result, with a word where a virtual machine's host gave its processors to others: latencies measured then say little."""
    withheld = (after[0] - before[0]) / max(1, after[1] - before[1])
    if withheld < WITHHELD:
        return result
    return result._replace(figure=f"{result.figure}; the host withheld {withheld:.0%} of the processors")


def _one(name, servers, args):
    """A test's result. Whatever it fails of is its own: the others go on."""
    try:
        servers.repair()
        return asyncio.run(TESTS[name](servers, args))
    except (StageError, TrimtabError, OSError) as error:
        return Result(name, 0, 0, f"not measured: {str(error) or type(error).__name__}", "", kept=False)


def _parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,...", help=f"of {', '.join(TESTS)}")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of arrivals, gateway and faults (default 0)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="run with so many seeds from --seed on; medians (default 1)")
    parser.add_argument("--requests", type=int, default=20_000, metavar="N", help="of the tests kill (default 20000)")
    parser.add_argument("--minutes", type=float, default=2.0, metavar="N", help="of the test soak (default 2; the long run is 30)")
    parser.add_argument("--out", type=Path, metavar="PATH", help="write the table there too, as .csv or .md")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

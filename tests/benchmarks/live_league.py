"""The live league: policies of ours and real proxies on live servers, then ours in the twin of those servers, as measured.

    python tests/benchmarks/live_league.py                                     five policies, 60 s a run: about 50 minutes
    python tests/benchmarks/live_league.py --policies all --seconds 25         eleven policies, as long in all
    python tests/benchmarks/live_league.py --scenarios grey-four               servers that are slow for a while, on schedule
    python tests/benchmarks/live_league.py --again                             runs that did not keep their schedule, once more

Each scenario's servers (Compose where they answer, else local processes) are calibrated, then serve one policy at a time: in each
repetition every policy once, who goes first changing, on the same arrivals and work, servers reset between. Rows go to a CSV file as
evaluate_dqn.py writes it, and files about single requests beside it; at the end come its tables, with intervals, and the twin against the
live servers with the rank correlation of the policies. A scenario's faults are played on the servers, also behind a proxy, and in the twin;
evaluation_timeline.csv shows both. Run it on a machine that does nothing else: the schedule lag tells whether it did. A run in which 1 % of
the requests were sent over 50 ms late measured the machine; --again, with the options of before, plays those once more in place of their
rows (the files about single requests stay those of the first time).
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(Path(__file__).parent)]

from measuring import print_machine  # noqa: E402 - found through the path set above

from trimtab.cli.evaluate import print_tables  # noqa: E402
from trimtab.cli.options import count, positive  # noqa: E402
from trimtab.cli.progress import Bar  # noqa: E402
from trimtab.core.scenario import Fault, Scenario  # noqa: E402
from trimtab.errors import TrimtabError, UsageError  # noqa: E402
from trimtab.experiments.csv_log import CsvLog, cell_text, write_text  # noqa: E402
from trimtab.experiments.details import Details  # noqa: E402
from trimtab.experiments.evaluate import evaluate, evaluate_again, evaluation_columns  # noqa: E402
from trimtab.fleets.local import LocalServers  # noqa: E402
from trimtab.policies.catalogue import LEARNED, PROXY_NAMES  # noqa: E402
from trimtab.problems.base import Policy, Task, World  # noqa: E402
from trimtab.problems.routing.problem import MEMBERSHIP, Routing, open_live  # noqa: E402
from trimtab.problems.routing.scenario_files import load_scenario  # noqa: E402
from trimtab.problems.routing.world import LiveWorld  # noqa: E402

SCENARIOS = "affinity-100,speeds-70"  # one where servers suit classes differently, one where they do not
# As many as fit: 2 scenarios x 5 repetitions x 5 policies x 60 s are 50 minutes.
POLICIES = f"{LEARNED},sed-online,least-outstanding,haproxy-leastconn,nginx-least-conn"
ALL = f"{LEARNED},sed-online,least-outstanding,peak-ewma,p2c,round-robin,{','.join(PROXY_NAMES)}"
Seen = tuple[CsvLog, Details]
SPARE_S = 2.0  # of each run: a proxy starts, connections open, the last requests complete
WARMUP_SHARE = 0.1
# Faults are switched by a clock that goes on when the last request is sent: one that is due later would hit the run of the next policy.
# How long a run's arrivals take is random, with a standard deviation of 1 % where there are ten thousand.
FAULTS_SHARE = 0.95
LATE_MS = 50.0  # schedule lag above which a run says more of the machine than of the policy


def main() -> int:
    args = _parser().parse_args()
    try:
        return league(args)
    except TrimtabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # the rows measured so far are in the file, and nothing runs any more
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=SCENARIOS, metavar="ID,...", help=f"ids or files (default {SCENARIOS})")
    parser.add_argument("--policies", default=POLICIES, metavar="a,b,c", help=f"names, or all: {ALL} (default {POLICIES})")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="a run, start, warm-up and drain included (default 60)")
    parser.add_argument("--repetitions", type=positive, default=5, metavar="N", help="of each policy on each scenario (default 5)")
    parser.add_argument("--model", type=Path, default=REPOSITORY / "Models" / "reference.pth", help="of dqn (default the reference)")
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--local", action="store_true", help="local processes, also where a Compose fleet answers")
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "Models" / "live_league", metavar="DIR", help="rows and calibrated scenarios"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the rows of an earlier run")
    parser.add_argument(
        "--again", action="store_true", help=f"only runs whose schedule lag was above {LATE_MS:g} ms, in place of their rows"
    )
    return parser


def league(args: argparse.Namespace) -> int:
    """Everything that can be wrong is an error before the first run."""
    if args.seconds <= SPARE_S:
        raise UsageError(f"--seconds {args.seconds:g}: allowed is more than {SPARE_S:g}, which go to starting and draining")
    names = (ALL if args.policies == "all" else args.policies).split(",")
    scenarios = [lasting(load_scenario(one), args.seconds) for one in args.scenarios.split(",")]
    fields = [(one, policies(names, one, args.model)) for one in scenarios]
    log = CsvLog(args.out / "evaluation.csv", evaluation_columns(Routing()))
    if args.again:
        return play_again(fields, args, log)
    if log.path.exists() and not args.overwrite:
        raise UsageError(f"{log.path} exists; replace it with --overwrite or write elsewhere with --out")
    print_machine("live league")
    runs = len(scenarios) * len(names) * args.repetitions
    print(f"expected: about {runs * args.seconds / 60 + len(scenarios) / 2:.0f} minutes, {runs} runs of {args.seconds:g} s\n", flush=True)
    log.create()
    details = Details(args.repetitions)
    try:
        for scenario, field in fields:
            play(scenario, field, args, (log, details))
    finally:
        details.write(log.path)
    print_tables(log.path)
    return 0


def lasting(scenario: Scenario, seconds: float) -> Scenario:
    """The scenario, long enough to fill a run of that length at its rate; faults that would outlast the arrivals end before them."""
    requests = (seconds - SPARE_S) * scenario.rate_rps()
    warmup = max(1, round(requests * WARMUP_SHARE))
    faults = tuple(ended(one, (seconds - SPARE_S) * FAULTS_SHARE) for one in scenario.faults)
    kept = tuple(one for one in faults if one.start_s < one.end_s or one.kind == "join")
    return replace(scenario, warmup=warmup, requests=max(1, round(requests) - warmup), faults=kept)


def ended(fault: Fault, latest_s: float) -> Fault:
    """The fault, over by then. A server that joins or leaves stays as it is: no server is told."""
    return fault if fault.kind in MEMBERSHIP else replace(fault, end_s=min(fault.end_s, latest_s))


def policies(names: Sequence[str], scenario: Scenario, model: Path) -> list[Policy]:
    """The policies by name; one that is unknown, or cannot run here, is an error."""
    problem = Routing()
    refused = {one.name: one.refused for one in problem.rivals(Task(scenario.id, "http")) if one.refused}
    for name in names:
        if name in refused:
            raise UsageError(f"--policies {name}: {refused[name]}")
    if len(set(names)) != len(names):
        raise UsageError(f"--policies {','.join(names)}: allowed are different names separated by commas")
    servers = len(scenario.servers)
    return [problem.load_policy(model, servers) if name == LEARNED else problem.build_policy(name) for name in names]


def play(scenario: Scenario, field: Sequence[Policy], args: argparse.Namespace, seen: Seen) -> None:
    """All runs of one scenario: live, then what the twin can play of it."""
    world = open_local(scenario) if args.local else open_live(scenario, ())
    try:
        twin = world.calibrate(args.out / f"{scenario.id}.toml")
        print(f"{scenario.id}: {world.note}", flush=True)
        lags_ms = measured(world, field, args, seen, len(field) * args.repetitions)
    finally:
        world.close()
    print(f"{scenario.id}: in the worst run 99 % of the requests were sent within {max(lags_ms):.1f} ms of their schedule\n", flush=True)
    own = [one for one in field if one.name not in PROXY_NAMES]
    if own:
        measured(twin, own, args, seen, len(own))


def play_again(fields: Sequence[tuple[Scenario, Sequence[Policy]]], args: argparse.Namespace, log: CsvLog) -> int:
    """Replace the rows of late runs, each as soon as it is measured."""
    if not log.path.exists():
        raise UsageError(f"--again: {log.path} is missing; play the league first, or name its folder with --out")
    rows = read_rows(log.path)
    for scenario, field in fields:
        late = late_runs(rows, scenario.id, field)
        print(f"{scenario.id}: {len(late)} runs of these policies were late", flush=True)
        if late:
            mend(scenario, late, rows, args, log)
    print_tables(log.path)
    return 0


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def late_runs(rows: Sequence[dict[str, str]], scenario: str, field: Sequence[Policy]) -> list[tuple[int, Policy]]:
    """Place in `rows` and policy of each live run that was late."""
    known = {one.name: one for one in field}
    live = [(place, row) for place, row in enumerate(rows) if (row["scenario"], row["backend"]) == (scenario, "http")]
    return [
        (place, known[row["policy"]]) for place, row in live if row["policy"] in known and float(row["schedule_lag_ms"] or 0.0) > LATE_MS
    ]


def mend(scenario: Scenario, late: Sequence[tuple[int, Policy]], rows: list[dict[str, str]], args: argparse.Namespace, log: CsvLog) -> None:
    world = open_local(scenario) if args.local else open_live(scenario, ())
    try:
        with Bar(f"{scenario.id}, again", len(late)) as bar:
            for done, (place, policy) in enumerate(late, start=1):
                row = evaluate_again(world, policy, int(rows[place]["episode"]), args.seed)
                rows[place] = {column: cell_text(row.get(column)) for column in log.columns}
                write_text(log.path, "".join(",".join(cells) + "\n" for cells in [log.columns, *(one.values() for one in rows)]))
                bar.update(done, policy.name)
    finally:
        world.close()


def open_local(scenario: Scenario) -> LiveWorld:
    """Server processes of its own, which take faults where the scenario has any."""
    local = LocalServers(scenario, faults_enabled=any(one.kind not in MEMBERSHIP for one in scenario.faults))
    local.start()
    try:
        return LiveWorld(scenario, local.urls, f"{len(local.urls)} local server processes", local)
    except BaseException:
        local.stop()  # also on Ctrl-C: no process is left behind
        raise


def measured(world: World, field: Sequence[Policy], args: argparse.Namespace, seen: Seen, rounds: int) -> list[float]:
    """Write the rows of all runs; the schedule lag of each."""
    log, details = seen
    lags_ms: list[float] = []
    with Bar(f"{world.scenario_id} on {world.backend}", rounds) as bar:
        for done, rows in enumerate(evaluate(world, field, args.repetitions, args.seed, details=details), start=1):
            log.append(rows)
            lags_ms += [float(row["schedule_lag_ms"] or 0.0) for row in rows]
            bar.update(done, str(rows[-1]["policy"]))
    return lags_ms


if __name__ == "__main__":
    sys.exit(main())

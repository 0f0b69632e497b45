"""Figures of an earlier simulation of the same fleets, against the twin: runs of the same length, and the same statistic of them.

    python tests/benchmarks/earlier_figures.py                                every scenario, 32 runs of each policy
    python tests/benchmarks/earlier_figures.py --only closed-forms --runs 64  the twin against formulas that are exact

The earlier simulator ran each policy for 60 s and reported the median of 8 seeds. So does this: scenarios of the suite, 60 s long and
measured from the first request on. Beside the mean over runs with its 95 % interval (BCa) stands what chance alone does to a median of 8:
the range that holds 95 % of the medians of 8 runs drawn from ours. An earlier figure inside it, its rounding included, is reproduced.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "agent"), str(Path(__file__).parent)]

import numpy as np  # noqa: E402 - found through the path set above
import numpy.typing as npt  # noqa: E402
from measuring import print_machine  # noqa: E402

from trimtab.cli.options import positive  # noqa: E402
from trimtab.core.scenario import RequestClass, Scenario, Server, Traffic  # noqa: E402
from trimtab.experiments.evaluate import evaluate  # noqa: E402
from trimtab.experiments.statistics import bootstrap_interval  # noqa: E402
from trimtab.policies import catalogue  # noqa: E402
from trimtab.problems.routing.scenario_files import load_scenario  # noqa: E402
from trimtab.problems.routing.world import fixed_twin  # noqa: E402

F64 = npt.NDArray[np.float64]
Figure = float | tuple[float, float]  # one number, or the least and the largest of several
SECONDS = 60.0
CLOSED_FORMS = "closed-forms"
SEEDS = 8  # of the earlier medians
BLACK_HOLE = "black-hole"
ERRORS = "failed_percent"
METRICS = ("mean_latency_ms", "p99_latency_ms", "p999_latency_ms")
# Mean, p99 and p99.9 in ms. Policies that the earlier study called unstable have no figures.
EARLIER: Mapping[str, Mapping[str, tuple[Figure, ...]]] = {
    "speeds-50": {
        "weighted-round-robin": (29, 194, 381),
        "p2c": (43, 332, 622),
        "least-outstanding": (29, 230, 424),
        "peak-ewma-p2c": (32, 210, 385),
        "peak-ewma": (19.5, 111, 221),
        "c3": (21, 143, 281),
        "prequal": (26, 139, 265),
        "oracle-sed": (19.7, 90, 141),
    },
    "speeds-70": {
        "weighted-round-robin": (45, 291, 613),
        "p2c": (64, 495, 861),
        "least-outstanding": (36, 281, 537),
        "peak-ewma-p2c": (48, 269, 511),
        "peak-ewma": (27, 147, 289),
        "c3": (28, 185, 375),
        "prequal": (35, 197, 370),
        "oracle-sed": (29, 121, 192),
    },
    "speeds-90": {
        "weighted-round-robin": (113, 736, 1151),
        "p2c": (165, 1126, 1821),
        "least-outstanding": (66, 485, 825),
        "peak-ewma-p2c": (116, 610, 1032),
        "peak-ewma": (53, 264, 470),
        "c3": (57, 336, 629),
        "prequal": (66, 324, 590),
        "oracle-sed": (60, 229, 349),
    },
    "slow-middle": {
        "p2c": (82, 975, 1954),
        "least-outstanding": (45, 424, 1018),
        "peak-ewma-p2c": (58, 454, 985),
        "peak-ewma": (33, 197, 461),
        "c3": (32, 253, 636),
        "prequal": (44, 325, 1018),
        "oracle-sed": (59, 1288, 2139),
    },
    "affinity-100": {
        "round-robin": (178, 861),
        "p2c": (93, 460),
        "least-outstanding": (73, 373),
        "peak-ewma": (71, 361),
        "oracle-class-split": (13, 63),
        "sed-online": (13, 67),
        "oracle-sed": (12, 59),
    },
    # Of class-aware rules together: a static split, an online learner and an oracle.
    "affinity-180": dict.fromkeys(("oracle-class-split", "sed-online", "oracle-sed"), ((17, 20),)),
    "affinity-240": dict.fromkeys(("oracle-class-split", "sed-online", "oracle-sed"), ((24, 51),)),
    # Failed requests in percent. Prequal and C3 without a sample for failures, peak-EWMA with one of 2 s, as they are here.
    BLACK_HOLE: {
        "round-robin": (20,),
        "p2c": (29.7,),
        "least-outstanding": (35.2,),
        "prequal": (66,),
        "c3": (99.8,),
        "peak-ewma": (0.06,),
        "peak-ewma-p2c": (2.4,),
    },
}


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: the earlier one, and ours."""

    scenario: str
    policy: str
    metric: str
    earlier: Figure
    runs: F64  # ours, one number a run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*EARLIER, CLOSED_FORMS]
    parser.add_argument("--only", default=",".join(EARLIER), metavar="NAME,...", help=f"of {', '.join(known)} (default all but the last)")
    parser.add_argument("--runs", type=positive, default=32, metavar="N", help="of each policy (default 32)")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="a run (default 60)")
    parser.add_argument("--skip", type=float, default=0.0, metavar="S", help="of a run's beginning, not measured (default 0)")
    parser.add_argument("--after-ms", type=float, default=None, metavar="MS", help="until the black hole fails a request")
    args = parser.parse_args()
    wanted = args.only.split(",")
    unknown = [name for name in wanted if name not in known]
    if unknown:
        parser.error(f"--only {unknown[0]!r}: allowed are {', '.join(known)}, separated by commas")
    print_machine("earlier figures")
    for name in wanted:
        if name == CLOSED_FORMS:
            print_closed_forms(args.runs)
        else:
            scenario = failing_after(lasting(load_scenario(name), args.seconds, args.skip), args.after_ms)
            print_lines(lines(scenario, EARLIER[name], args.runs))
    return 0


def lasting(scenario: Scenario, seconds: float, skip_s: float) -> Scenario:
    """The scenario with as many requests as that time has on average."""
    warmup, everything = (round(length_s * scenario.rate_rps()) for length_s in (skip_s, seconds))
    return replace(scenario, warmup=warmup, requests=everything - warmup)


def failing_after(scenario: Scenario, after_ms: float | None) -> Scenario:
    """The scenario with faults that fail requests after that time; None: as it is."""
    if after_ms is None:
        return scenario
    return replace(scenario, faults=tuple(replace(one, after_s=after_ms / 1e3) for one in scenario.faults))


def played(scenario: Scenario, policy: str, runs: int) -> dict[str, F64]:
    """Every metric of every run."""
    rows = [row for part in evaluate(fixed_twin(scenario), [catalogue.build(policy)], runs, 0) for row in part]
    measured = {metric: np.array([float(row[metric] or "nan") for row in rows]) for metric in METRICS}
    return {**measured, ERRORS: np.array([100 * float(row["error_rate"] or 0.0) for row in rows])}


def lines(scenario: Scenario, figures: Mapping[str, Sequence[Figure]], runs: int) -> Iterator[Line]:
    """All figures of a scenario."""
    metrics = (ERRORS,) if scenario.id == BLACK_HOLE else METRICS
    for policy, earlier in figures.items():
        ours = played(scenario, policy, runs)
        for metric, value in zip(metrics, earlier, strict=False):  # of some figures only the mean is known
            yield Line(scenario.id, policy, metric, value, ours[metric])


def print_lines(found: Iterable[Line]) -> None:
    print("\n| scenario | policy | figure | earlier | mean of runs | medians of 8 runs | |")
    print("|---|---|---|---:|---:|---:|---|")
    for one in found:
        low, high = medians_range(one.runs)
        mean = bootstrap_interval(one.runs)
        name = one.metric.removesuffix("_latency_ms")
        print(
            f"| {one.scenario} | {one.policy} | {name} | {text(one.earlier)} | {number(mean.estimate)} [{number(mean.low)}, "
            f"{number(mean.high)}] | {number(low)} - {number(high)} | {verdict(one.earlier, low, high)} |",
            flush=True,
        )


def medians_range(runs: F64, draws: int = 20_000) -> tuple[float, float]:
    """What 95 % of the medians of eight runs lie within."""
    sample = np.random.default_rng(0).choice(runs, (draws, SEEDS))
    low, high = np.quantile(np.median(sample, axis=1), (0.025, 0.975))
    return float(low), float(high)


def verdict(earlier: Figure, low: float, high: float) -> str:
    """Is the earlier figure, which was rounded, inside? Of several, are some?"""
    if math.isnan(low):
        return "too few requests a run"
    least, most = earlier if isinstance(earlier, tuple) else (earlier, earlier)
    half = 0.5 * 10.0 ** -len(f"{least:g}".partition(".")[2])
    if least - half <= high and low <= most + half:
        return "reproduced"
    far = least / high if least > high else most / low
    return f"{100 * (far - 1):+.1f} % beyond"


def text(earlier: Figure) -> str:
    return "-".join(f"{one:g}" for one in earlier) if isinstance(earlier, tuple) else f"{earlier:g}"


def number(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def print_closed_forms(runs: int) -> None:
    """M/M/c in the twin, from long runs that begin to be measured late."""
    print("\n| queue | load | exact mean, ms | twin, ms | exact p99, ms | twin, ms |\n|---|---:|---:|---:|---:|---:|")
    for slots in (1, 5):
        for load in (0.5, 0.7, 0.9):
            page = RequestClass("page", 1.0, 0.010, "exponential", 1.0, cpu=1, memory=1)
            server = Server("server-1", slots, {"page": 1.0}, 100_000, cpu=slots, memory=slots)
            queue = Scenario(f"mm{slots}", (page,), (server,), Traffic(load=load), requests=50_000, warmup=10_000)
            ours = played(queue, "random", runs)
            mean, p99 = bootstrap_interval(ours["mean_latency_ms"]), bootstrap_interval(ours["p99_latency_ms"])
            print(
                f"| M/M/{slots} | {load:g} | {number(exact_mean_ms(slots, load, 10.0))} | {number(mean.estimate)} "
                f"[{number(mean.low)}, {number(mean.high)}] | {number(exact_p99_ms(slots, load, 10.0))} | {number(p99.estimate)} "
                f"[{number(p99.low)}, {number(p99.high)}] |",
                flush=True,
            )


def waiting_probability(slots: int, load: float) -> float:
    """Erlang's C."""
    busy = slots * load
    last = busy**slots / math.factorial(slots) / (1 - load)
    return last / (sum(busy**n / math.factorial(n) for n in range(slots)) + last)


def exact_mean_ms(slots: int, load: float, service_ms: float) -> float:
    """Mean response time of M/M/c."""
    return service_ms * (1 + waiting_probability(slots, load) / (slots * (1 - load)))


def exact_p99_ms(slots: int, load: float, service_ms: float) -> float:
    """The time that 99 % of the responses take at most: root of the response time's tail."""
    wait, rate = waiting_probability(slots, load), slots * (1 - load)  # in services
    low, high = 0.0, 1000.0
    for _ in range(200):
        time = (low + high) / 2
        if abs(rate - 1) < 1e-9:
            tail = (1 + wait * time) * math.exp(-time)
        else:
            tail = (1 - wait) * math.exp(-time) + wait * (math.exp(-time) * rate - math.exp(-rate * time)) / (rate - 1)
        low, high = (time, high) if tail > 0.01 else (low, time)
    return low * service_ms


if __name__ == "__main__":
    sys.exit(main())

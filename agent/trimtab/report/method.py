"""How the shown numbers came about, in a paragraph that is read off the rows."""

from collections.abc import Iterable

import pandas as pd

from trimtab.report.columns import ERROR_RATE, MEAN_LATENCY
from trimtab.report.scoreboard import FAILURE_MS, catalogue_kinds

WORLDS = {"twin": "in the twin, a simulator of the servers and their queues: no real server was involved", "http": "live, over HTTP"}

# What holds for the policies alone, as they are compared: see fleets/twin_kernels.py, core/ledger.py and core/moods.py.
ALONE = (
    "Policies are compared alone: nobody checks a server's health, ejects it or tries a request again (the gateway does all three, "
    "whichever policy decides). They are told which servers belong to the fleet, not which of them work."
)
TWIN_FAILURES = (
    "In the twin a request fails at a server whose queue is full, that has crashed or that fails at once; when its server crashes under "
    "it; or after its service where a server fails a share. Nothing times out: a frozen server only delays."
)
LIVE_FAILURES = "Live, a request also fails by any other answer or a time-out, and real proxies keep their own checks and retries."
FAILURES = (
    "A failure is a sample of at least 2 s in the averages of service time and latency that policies learn from (peak-ewma, "
    "peak-ewma-p2c, c3, sed-online, thompson, class-split); sed-moods and dqn add each server's share of failures x 2 s to its expected "
    "delay, client-side-wrr lowers its weight, and prequal puts it last from 20 % on. All others look at no failure, so a server that "
    "fails at once looks idle to those that count requests in flight."
)


def method(frame: pd.DataFrame) -> str:
    """World, policies, scenarios, episodes, requests, seeds, what a failure costs, and whether policies met the same requests."""
    kinds = catalogue_kinds()
    policies = list(frame["policy"].unique())
    oracles = sum(kinds.get(name) == "oracle" for name in policies)
    worlds = " and ".join(WORLDS.get(name, f"on {name}") for name in frame["backend"].unique())
    episodes = frame.groupby(["scenario", "backend", "policy"])["episode"].size()
    told = [
        f"Measured {worlds}.",
        f"{_count(len(policies), 'policy', 'policies')}"
        + (f", {oracles} of them oracles," if oracles else "")
        + f" on {_count(frame['scenario'].nunique(), 'scenario', 'scenarios')}, {_range(episodes)} episodes of a policy on each"
        + (f", {_range(frame['requests'])} requests an episode" if "requests" in frame and frame["requests"].notna().any() else "")
        + f"; seed {', '.join(f'{seed:g}' for seed in sorted(frame['seed'].unique()))}.",
        _common(frame),
        *_failures({str(name) for name in frame["backend"]}),
    ]
    if MEAN_LATENCY.column in frame and ERROR_RATE.column in frame:
        told.append(
            f"Ranked by the mean latency, with a failed request counted as {FAILURE_MS:,.0f} ms, as in those averages: a policy that fails "
            "requests at once would look fast otherwise. p99 is over served requests."
        )
    return " ".join(told)


def _failures(backends: set[str]) -> list[str]:
    """What fails a request, and what policies make of it."""
    return [
        ALONE, *([TWIN_FAILURES] if "twin" in backends else []), *([LIVE_FAILURES] if backends - {"twin"} else []), FAILURES,
    ]  # fmt: skip


def _common(frame: pd.DataFrame) -> str:
    """Whether every policy of a scenario ran the same episodes."""
    for _, part in frame.groupby(["scenario", "backend"], sort=False):
        sets = {frozenset(zip(one["episode"], one["seed"], strict=True)) for _, one in part.groupby("policy")}
        if len(sets) > 1:
            return "Policies did not all run the same episodes, so comparisons use those that they share."
    return "An episode, by its number and seed, has the same arrivals and the same work for every policy."


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _range(values: Iterable[float]) -> str:
    found = sorted({float(value) for value in values if value == value})
    return f"{found[0]:,.0f}" if len(found) == 1 else f"{found[0]:,.0f} to {found[-1]:,.0f}"

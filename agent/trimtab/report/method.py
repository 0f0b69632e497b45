"""How the shown numbers came about, in a paragraph that is read off the rows."""

from collections.abc import Iterable

import pandas as pd

from trimtab.report.columns import ERROR_RATE, MEAN_LATENCY
from trimtab.report.scoreboard import FAILURE_MS, catalogue_kinds

WORLDS = {"twin": "in the twin, a simulator of the servers and their queues: no real server was involved", "http": "live, over HTTP"}


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
    ]
    if MEAN_LATENCY.column in frame and ERROR_RATE.column in frame:
        told.append(f"Ranked by the mean latency, with a failed request counted as {FAILURE_MS:,.0f} ms.")
    return " ".join(told)


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

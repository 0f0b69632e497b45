"""Policies for the placement game: the five rules that its authors compare with, and three that they do not.

Ties go to the first server, the smallest, as in the published figures: with uniform ties `least-connections` has a mean peak of 0.847
instead of 0.890.
"""

from typing import Final

import numpy as np

from trimtab.problems.base import F64
from trimtab.problems.lbnn.view import LbnnView, lifetime_rise, others_peak
from trimtab.problems.simulated import CyclePolicy, Entry, first_least, random_policy, scored

_TIE: Final = 1e-6  # below the resolution of reported utilisation, so that it decides between equals only


def connections(view: LbnnView) -> F64:
    """Live requests."""
    return view.connections.astype(np.float64)


def fullness(view: LbnnView) -> F64:
    """The fuller of CPU and memory, as reported."""
    return view.fullness


def both(view: LbnnView) -> F64:
    """CPU + memory, as reported."""
    return view.cpu + view.memory


def fullness_after(view: LbnnView) -> F64:
    """The fuller of CPU and memory with the request on this server, from what is reported."""
    cpu, memory = view.request
    return np.asarray(np.maximum(view.cpu + cpu, view.memory + memory))


def peak_after(view: LbnnView) -> F64:
    """The fullest server's utilisation with the request on this server; among equals the emptier server."""
    return np.asarray(np.maximum(fullness_after(view), others_peak(view.fullness)) + _TIE * view.fullness)


POLICIES: Final[tuple[Entry, ...]] = (
    Entry("random", "any server, uniformly", random_policy),
    Entry("round-robin", "each server in turn", CyclePolicy),
    scored("least-connections", "fewest live requests", connections, first_least),
    scored("least-load", "least of max(cpu, memory)", fullness, first_least),
    scored("least-sum", "least of cpu + memory: what the first generation calls the optimal decision", both, first_least),
    scored("least-load-after", "least of max(cpu, memory) with the request placed there", fullness_after, first_least),
    scored("greedy-min-peak", "least resulting peak over all servers, among equals the emptier server", peak_after, first_least),
    scored(
        "duration-aware",
        "least rise of max(cpu, memory)^20 over the request's lifetime: knows when everything expires",
        lifetime_rise,
        first_least,
    ),
)

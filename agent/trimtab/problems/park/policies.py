"""Policies for Park's game. A simulator knows every size and every remaining time; each policy says how much of that it uses."""

from typing import Final

import numpy as np

from trimtab.policies import pick
from trimtab.problems.base import F64
from trimtab.problems.park.game import TICKETS
from trimtab.problems.park.view import ParkView
from trimtab.problems.simulated import CyclePolicy, Entry, LotteryPolicy, random_policy, scored


def jobs(view: ParkView) -> F64:
    """Jobs in the server."""
    return view.jobs.astype(np.float64)


def expected_delay(view: ParkView) -> F64:
    """(jobs + 1) / rate: shortest expected delay where no size is known (Weber 1978)."""
    return (view.jobs + 1.0) / view.rate


def expected_completion(view: ParkView) -> F64:
    """(sizes in the server + own size) / rate: knows what was sent, not how far the job in service has come."""
    return (view.waiting_size + view.running_size + view.size[:, None]) / view.rate


def load(view: ParkView) -> F64:
    """What Park itself calls a server's load."""
    return view.load


def remaining_time(view: ParkView) -> F64:
    """Time until the server would be idle."""
    return view.backlog_ms


def completion_time(view: ParkView) -> F64:
    """Time until the incoming job would be done."""
    return view.completion_ms


def relative_value(view: ParkView) -> F64:
    """Completion time, and how much longer later jobs will wait for it: one step of policy iteration (Hyytia et al. 2012)."""
    return view.completion_ms + view.externality_ms


POLICIES: Final[tuple[Entry, ...]] = (
    Entry("random", "any server, uniformly", random_policy),
    Entry("round-robin", "each server in turn", CyclePolicy),
    Entry("weighted-random", "any server, in proportion to its rate", lambda: LotteryPolicy("weighted-random", TICKETS)),
    scored("p2c", "the one with fewer jobs of two at random", jobs, pick.less_of_two),
    scored("jsq", "fewest jobs, all scanned", jobs),
    scored("sed", "least (jobs + 1) / rate: knows rates, no sizes", expected_delay),
    scored("sect", "least (sizes in the server + own size) / rate: knows rates and sizes, no progress", expected_completion),
    scored("park-observation", "least load as Park reports it, sizes and time mixed", load),
    scored("least-remaining-time", "least time until the server is idle; own size ignored", remaining_time),
    scored("least-completion-time", "least time until the job itself would be done", completion_time),
    scored(
        "relative-value",
        "least completion time + estimated wait of later jobs, dearer on fast servers; two constants tuned",
        relative_value,
    ),
)

"""What a decision is worth, from outcomes alone.

Default: minus the response time of the request that the decision routed, credited to that decision when the request completes.
Option: minus the time-integral of requests in the system between decisions; the sums over an episode are equal, but one
decision's share of the integral holds everybody else's luck too, so it has far more variance.
"""

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from trimtab.core.request_log import F64, FAILED, UNMEASURED

RewardKind = Literal["response", "integral"]
REWARDS: Final[tuple[RewardKind, ...]] = ("response", "integral")
FAILURE_COST: Final = 40.0  # mean service times a failure counts as: worse than any queue worth standing in


def own_response(latency_s: F64, status: npt.NDArray[np.int8], unit_s: F64) -> tuple[F64, npt.NDArray[np.bool_]]:
    """Reward of each completed request and whether it can be learned from.

    `latency_s`, `status`, `unit_s` [M]: response time, outcome, and the fleet's mean service time, which is the unit.
    A failure costs `FAILURE_COST`, or its latency if that was longer still. An unmeasured outcome has no reward.
    """
    cost = latency_s / unit_s
    cost = np.where(status == FAILED, np.maximum(cost, FAILURE_COST), cost)
    return -cost, status != UNMEASURED


def response_cost(latency_s: float, status: int, unit_s: float) -> float:
    """Minus the reward of one served or failed request, as `own_response` has it: a single one is not worth six array operations."""
    cost = latency_s / unit_s
    return max(cost, FAILURE_COST) if status == FAILED else cost


def in_system_integral(in_system: F64, elapsed_s: F64, early_s: F64, unit_s: F64) -> F64:
    """Minus the time-integral of the number of requests in the system over one interval.  # [B]

    `in_system` requests [B] at its start, `elapsed_s` [B] its length, `early_s` [B] the sum over the requests that completed
    in it of the time from their completion to its end. In units of `unit_s` [B]. (Little's law: an episode's sum is minus
    its total response time.)
    """
    return -(in_system * elapsed_s - early_s) / unit_s

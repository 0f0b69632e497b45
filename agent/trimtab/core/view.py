"""What a policy sees when it decides: one request of each of B fleets, and what the balancer knows about the servers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from trimtab.core.ledger import Ledger
from trimtab.core.reports import Probes, Reports
from trimtab.core.request_log import F64, I32, I64

Truth = TypeVar("Truth")


@dataclass(frozen=True, slots=True)
class View(Generic[Truth]):
    """The moment of a decision. Arrays are live: read them now, copy what is to be kept."""

    now_s: F64  # [B]
    request_class: I32  # [B]
    available: npt.NDArray[np.bool_]  # [B, S] members of the fleet; at least one a fleet
    slots: I64  # [B, S] declared
    service_rate_rps: F64  # [B, S] declared: what a weighted round robin is configured with
    ledger: Ledger
    oracle: Callable[[], Truth] | None = None  # the truth, where a simulator knows it; for oracle policies alone
    reports: Callable[[], Reports] | None = None  # what servers report with their answers; kept up to date by whoever calls it
    probes: Probes | None = None  # for policies that ask servers

    @property
    def in_flight(self) -> I64:
        """Requests sent and not yet completed.  # [B, S]"""
        return self.ledger.outstanding

"""The seam between deciding and serving: what the twin and the live fleet both do, and all that anyone may ask of them."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from trimtab.core.reports import LoadLog, ProbeAnswers
from trimtab.core.request_log import F64, I64, Outcomes, RequestLog
from trimtab.core.scenario import Scenario

Mask = npt.NDArray[np.bool_]


class Episodes(NamedTuple):
    """One episode for each of B fleets: N requests in order of arrival, the same whatever policy routes them."""

    arrival_s: F64  # [B, N] from the start of the warm-up
    request_class: npt.NDArray[np.int32]  # [B, N]
    work_s: F64  # [B, N] service time at speed 1
    chance: npt.NDArray[np.uint64]  # [B] seeds what the servers themselves draw, such as which answers are errors


class Oracle(NamedTuple):
    """What only a simulator can know. Policies named `oracle-*` read it, and nothing else may."""

    mean_service_s: F64  # [B, S, K] true means, contention and faults aside
    slowness: F64  # [B, S] factor on a service that would start now
    down: Mask  # [B, S] crashed, frozen or failing fast
    delay_s: F64  # [B, S] response time of the current request if sent there


class Fleet(Protocol):
    """B copies of a fleet of S ordered servers (index = action), each with its own clock.

    A round: `wait_until` the next arrival, look at `available`, `dispatch` it. Outcomes arrive late in both worlds.
    """

    @property
    def scenarios(self) -> Sequence[Scenario]:
        """One a fleet.  # [B]"""

    @property
    def log(self) -> RequestLog:
        """Of the present episodes."""

    @property
    def realtime(self) -> bool:
        """True: time passes by itself, and whoever thinks too long is late."""

    def reset(self, episodes: Episodes) -> None:
        """Empty the servers, clear the log and set the clocks to zero."""

    def now_s(self) -> F64:
        """Time since the start of the episode.  # [B]"""

    def available(self) -> Mask:
        """Which servers belong to the fleet at this moment; a crashed one does until somebody finds out.  # [B, S]"""

    def dispatch(self, request: int, server: I64) -> None:
        """Send request number `request` of each fleet to `server` [B]. Never blocks."""

    def wait_until(self, deadline_s: F64) -> Outcomes:
        """Let time pass to `deadline_s` [B] (infinity: until nothing is in flight) and say what completed."""

    def load_reports(self) -> LoadLog:
        """What the answers to the requests completed so far say of their servers' load. Costs something only when called."""

    def probe(self, servers: I64) -> None:
        """Ask these servers [B, R] for their load, behind the request just dispatched; entries below 0 ask nobody. Never blocks.

        Once a request at most, and with the same R throughout an episode.
        """

    def probe_answers(self) -> ProbeAnswers:
        """Answers to probes that have come back since the last call."""

    def oracle(self, request: int) -> Oracle:
        """The truth about this moment, for the oracle policies."""

    def expected_best(self) -> Mask:
        """For each request sent: had its server an expected completion within 1 % of the least?  # [B, N]"""

    def lag_s(self) -> F64:
        """How late each request was sent against its schedule; zeros in the twin.  # [B, N]"""

    def close(self) -> None:
        """Let go of connections and threads."""

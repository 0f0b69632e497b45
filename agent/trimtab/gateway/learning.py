"""A model that learns from the traffic it routes, under supervision: who decides which request, and what follows if it does worse.

While the model decides, the heuristic decides about a few requests, a control group. Where the model falls behind it (`sentinel.py`), the
heuristic decides everything for REST_S. Then the model, which has learned on meanwhile, gets a growing share of the requests again.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import numpy as np

from trimtab.core.request_log import UNMEASURED
from trimtab.core.reward import response_cost
from trimtab.gateway.guard import Decider, Wrapping
from trimtab.gateway.router import Observer, Ticket
from trimtab.gateway.sentinel import CONTROL, LEARNED, Gap, Sentinel
from trimtab.policies.base import RoutingView

CONTROL_GROUP: Final = "control"  # who decided, in counts and records
State = Literal["learning", "returning", "resting", "stopped"]
CONTROL_SHARE: Final = 0.10
REST_S: Final = 60.0
SHARES: Final = (0.1, 0.5, 1.0)  # after a rest; the last less the control group
STAGE_S: Final = 30.0  # with each share at least, and until there are enough requests to tell
STOPS_ALLOWED: Final = 3  # so many in a row, and that is the end of it
STEADY_S: Final = 300.0  # so long with the last share, and the stops before are forgotten


class Learning:
    """Who decides next, and what is known about how that went. An observer of the router, from whom it hears how requests end.

    What is compared is the attempt, from the decision to its end, and each is assigned by a draw of its own; a failure counts as in
    training. What the guard took from the model counts as the model's: what it was not asked about it did not do better.
    """

    def __init__(
        self,
        control_share: float,
        classes: int,
        unit_s: float,
        generator: np.random.Generator,
        clock: Callable[[], float],
        *,
        heuristic: str,
    ) -> None:
        """`control_share` of the requests, above 0; `unit_s`: the fleet's mean service time, which training counts costs in; `heuristic`:
        who decides about the control group."""
        self.on_event: Callable[[str], None] = lambda _what: None
        self.on_passed: Callable[[], None] = lambda: None  # a decision is not the model's
        self.on_stop: Callable[[str], None] = lambda _why: None  # it fell behind
        self.behind = 0  # times that it fell behind, ever
        self.stops_in_a_row = 0
        self._shares = tuple(min(share, 1.0 - control_share) for share in SHARES)
        self._heuristic = heuristic
        self._unit_s, self._generator, self._clock = unit_s, generator, clock
        self._stage: int | None = len(SHARES) - 1  # of SHARES; None: the model does not decide
        self._began_s = clock()  # this stage, or the rest
        self._sentinel = Sentinel(classes, self._began_s)

    @property
    def state(self) -> State:
        if self._stage is None:
            return "stopped" if self.stops_in_a_row >= STOPS_ALLOWED else "resting"
        return "learning" if self._stage == len(SHARES) - 1 else "returning"

    @property
    def share(self) -> float:
        """Of the requests, those that the model decides about; 0 while it does not."""
        return 0.0 if self._stage is None else self._shares[self._stage]

    def read(self) -> Gap | None:
        """The groups over the last 30 s; None where there is nothing to compare."""
        return self._sentinel.read(self._clock())[0]

    def draw(self) -> int | None:
        """Who decides about the next request: LEARNED or CONTROL by chance; None: the heuristic, and nothing is compared."""
        group = self._group()
        if group != LEARNED:
            self.on_passed()
        return group

    def rehearse(self, view: RoutingView) -> None:
        """Nothing to compile."""

    def decided(self, ticket: Ticket, view: RoutingView) -> None:
        """What counts is how it ends."""

    def ended(self, ticket: Ticket, status: int, latency_s: float, service_s: float, queue_s: float) -> None:
        """An attempt ended; every second or so the groups are compared. One that was sent in an earlier stage is not of this one."""
        if self._stage is None or status == UNMEASURED or ticket.sent_s < self._began_s:
            return
        now_s = self._clock()
        group = CONTROL if ticket.decided_by == CONTROL_GROUP else LEARNED
        self._sentinel.ended(group, ticket.kind, self._unit_s * response_cost(latency_s, status, self._unit_s), now_s)
        if self._sentinel.is_due(now_s):
            self._judge(self._stage, now_s)

    def _group(self) -> int | None:
        if self._stage is None and not self._is_rested():
            return None
        return LEARNED if self._generator.random() < self.share else CONTROL

    def _judge(self, stage: int, now_s: float) -> None:
        gaps = self._sentinel.read(now_s)
        if (gap := next((one for one in gaps if one is not None and one.is_behind), None)) is not None:
            self._stop(gap, now_s)
        elif stage == len(SHARES) - 1:
            if now_s - self._began_s >= STEADY_S:
                self.stops_in_a_row = 0
        elif now_s - self._began_s >= STAGE_S and any(one is not None and one.is_enough for one in gaps):
            self._begin(stage + 1, now_s)

    def _stop(self, gap: Gap, now_s: float) -> None:
        self.behind += 1
        self.stops_in_a_row += 1
        self._stage, self._began_s = None, now_s
        why = gap.told(self._heuristic)
        if self.state == "stopped":
            self.on_stop(f"learning from this traffic has stopped for good, it fell behind {STOPS_ALLOWED} times in a row: {why}")
        else:
            self.on_stop(f"learning rests for {REST_S:g} s: {why}")

    def _is_rested(self) -> bool:
        """Whether the rest is over; the model then decides again."""
        now_s = self._clock()
        if self.state == "stopped" or now_s < self._began_s + REST_S:
            return False
        self._begin(0, now_s)
        return True

    def _begin(self, stage: int, now_s: float) -> None:
        self._stage, self._began_s = stage, now_s
        self._sentinel.clear(now_s)
        self.on_event(f"learning: the newest model decides {self.share:.0%} of requests")


class LearningDecider(Wrapping):
    """A decider whose model learns, the heuristic for the control group and for everything while the model rests."""

    def __init__(self, decider: Decider, heuristic: Decider, learning: Learning) -> None:
        self.inner, self._heuristic, self._learning = decider, heuristic, learning
        self.primary, self.fallback = decider.primary, heuristic.primary
        self.names = tuple(dict.fromkeys((*decider.names, heuristic.primary, CONTROL_GROUP)))

    def decide(self, view: RoutingView) -> tuple[int, str]:
        group = self._learning.draw()
        if group == LEARNED:
            return self.inner.decide(view)
        server, name = self._heuristic.decide(view)
        return server, name if group is None else CONTROL_GROUP

    def rehearse(self, view: RoutingView) -> None:
        self.inner.rehearse(view)
        self._heuristic.rehearse(view)


class Observers:
    """Several observers of one router, told in this order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def rehearse(self, view: RoutingView) -> None:
        for one in self._observers:
            one.rehearse(view)

    def decided(self, ticket: Ticket, view: RoutingView) -> None:
        for one in self._observers:
            one.decided(ticket, view)

    def ended(self, ticket: Ticket, status: int, latency_s: float, service_s: float, queue_s: float) -> None:
        for one in self._observers:
            one.ended(ticket, status, latency_s, service_s, queue_s)

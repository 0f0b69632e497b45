"""Models on trial: a shadow, which only says what it would have done, and a canary, which decides about a share of the requests.

Both are asked under a `Guard`: no request waits for their errors, and one that is late three times in a row rests.
"""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from trimtab.core.request_log import F64, FAILED, I64, UNMEASURED
from trimtab.gateway.guard import MISSING, Decider, Guard, Wrapping
from trimtab.gateway.window import SLOTS, Ring
from trimtab.policies.base import Policy, RoutingView
from trimtab.policies.load import expected_delay

CANARY: Final = "canary"
STOPPED: Final = "stopped"
AGREE, DIFFER, NO_DECISION = 0, 1, 2
RESULTS: Final = ("agree", "differ", "none")

JUDGED_S: Final = 60.0  # the canary is judged by what ended in the last minute
FEWEST_OUTCOMES: Final = 50
WORST_GAP: Final = 0.05
STANDARD_ERRORS: Final = 3.0


class Agreement(NamedTuple):
    """Of a shadow with what was routed, over the last ten seconds; None where it decided nothing."""

    ratio: float | None  # of its decisions, those that chose the server that was routed to
    gain_q_s: float | None  # mean latency a request that it would have saved, by its own Q-values; never below 0
    gain_delay_s: float | None  # the same by the expected delays of `sed-online`


class Shadow:
    """Decides about each attempt after somebody else has, and is only counted. `unit_s`: the fleet's mean service time, Q's unit."""

    def __init__(self, guard: Guard, unit_s: float, clock: Callable[[], float]) -> None:
        self.guard = guard
        self.results: I64 = np.zeros(len(RESULTS), dtype=np.int64)  # since the start, in the order of RESULTS
        self._unit_s, self._clock = unit_s, clock
        self._recent: I64 = np.zeros((SLOTS, len(RESULTS)), dtype=np.int64)
        self._gain_s: F64 = np.zeros((SLOTS, 2))  # by Q, by delay
        self._with_q: I64 = np.zeros(SLOTS, dtype=np.int64)
        self._ring = Ring(clock(), self._recent, self._gain_s, self._with_q)

    def watch(self, view: RoutingView, routed: int) -> None:
        """Decide about the view's one request, which goes to server `routed`."""
        own, reason = self.guard.ask(view)
        slot = self._ring.slot(self._clock())
        result = NO_DECISION if reason is not None else AGREE if own == routed else DIFFER
        self.results[result] += 1
        self._recent[slot, result] += 1
        if result != NO_DECISION and (q := self.guard.q) is not None:
            self._with_q[slot] += 1
            self._gain_s[slot, 0] += self._unit_s * float(q[own] - q[routed])
        if result == DIFFER:
            delay_s = expected_delay(view)[0]
            self._gain_s[slot, 1] += float(delay_s[routed] - delay_s[own])

    def read(self) -> Agreement:
        """What the last ten seconds showed."""
        self._ring.slot(self._clock())
        agree, differ, _ = self._recent.sum(axis=0).tolist()
        decided, with_q = agree + differ, int(self._with_q.sum())
        by_q, by_delay = self._gain_s.sum(axis=0).tolist()
        return Agreement(agree / decided if decided else None, by_q / with_q if with_q else None, by_delay / decided if decided else None)


class Canary:
    """Decides about a random `share` of attempts, until it does harm.

    The rule: over the last JUDGED_S = 60 s, once at least FEWEST_OUTCOMES = 50 of its attempts were served or failed, it stops where its
    failed share exceeds that of everybody else's attempts in the same time by more than WORST_GAP = 5 points, and by more than
    STANDARD_ERRORS = 3 standard errors of that difference, so that chance alone seldom stops a good one. It stays stopped until another
    model is put in its place.
    """

    def __init__(self, guard: Guard, share: float, generator: np.random.Generator, clock: Callable[[], float]) -> None:
        self.guard, self.share = guard, share
        self.on_stop: Callable[[str], None] = lambda _why: None
        self._generator, self._clock = generator, clock
        self._stopped = False
        self._clear()

    @property
    def state(self) -> str:
        """STOPPED, or what its guard says."""
        return STOPPED if self._stopped else self.guard.state

    def takes(self) -> bool:
        """Draw whether it decides about the next attempt."""
        drawn = bool(self._generator.random() < self.share)
        return drawn and not self._stopped and self.guard.state != MISSING

    def replace(self, policy: Policy) -> None:
        """Try this one from now on, with a clean sheet."""
        self.guard.replace(policy)
        self._stopped = False
        self._clear()

    def ended(self, decider: str, status: int, now_s: float) -> None:
        """An attempt ended that `decider` sent; may stop the canary. Pays no heed to what is UNMEASURED."""
        if status == UNMEASURED:
            return
        own, failed = int(decider == CANARY), int(status == FAILED)
        self._outcomes[self._ring.slot(now_s), own, failed] += 1
        if own and failed and not self._stopped and (why := harm(self._outcomes.sum(axis=0))) is not None:
            self._stopped = True
            self.on_stop(why)

    def _clear(self) -> None:
        self._outcomes: I64 = np.zeros((SLOTS, 2, 2), dtype=np.int64)  # [slots, others or canary, served or failed]
        self._ring = Ring(self._clock(), self._outcomes, slot_s=JUDGED_S / SLOTS)


def harm(outcomes: I64) -> str | None:
    """Where a canary fails clearly more often than the others, what to say; see `Canary`.  # [others or canary, served or failed]"""
    (others, others_failed), (own, own_failed) = (_ended(row) for row in outcomes)
    if own < FEWEST_OUTCOMES or others == 0:
        return None
    own_share, others_share, pooled = own_failed / own, others_failed / others, (own_failed + others_failed) / (own + others)
    chance = STANDARD_ERRORS * math.sqrt(pooled * (1.0 - pooled) * (1.0 / own + 1.0 / others))
    if own_share - others_share <= max(WORST_GAP, chance):
        return None
    return f"{own_failed} of its {own} requests failed ({own_share:.1%}), {others_share:.1%} of the others"


def _ended(row: I64) -> tuple[int, int]:
    served, failed = row.tolist()
    return served + failed, failed


class TrialDecider(Wrapping):
    """A decider with a shadow beside it, a canary before it, or both; `fallback` decides where the canary cannot."""

    def __init__(self, decider: Decider, fallback: Decider, shadow: Shadow | None = None, canary: Canary | None = None) -> None:
        self.inner, self._fallback, self._shadow, self._canary = decider, fallback, shadow, canary
        self.primary, self.fallback = decider.primary, decider.fallback
        others = () if canary is None else (CANARY, fallback.primary)
        self.names = tuple(dict.fromkeys((*decider.names, *others)))

    def decide(self, view: RoutingView) -> tuple[int, str]:
        if self._canary is not None and self._canary.takes():
            server, by = self._canarys(self._canary, view)
        else:
            server, by = self.inner.decide(view)
        if self._shadow is not None:
            self._shadow.watch(view, server)
        return server, by

    def rehearse(self, view: RoutingView) -> None:
        self.inner.rehearse(view)
        self._fallback.rehearse(view)
        for trial in (self._shadow, self._canary):
            if trial is not None:
                trial.guard.rehearse(view)
        expected_delay(view)

    def _canarys(self, canary: Canary, view: RoutingView) -> tuple[int, str]:
        server, reason = canary.guard.ask(view)
        return (server, CANARY) if reason is None else self._fallback.decide(view)

"""The slots of a server as a first-in-first-out gate, and the clock that services run on.

Everyone who waits here, for a slot or for the end of a service, waits on a baton of their own. So the one at the head is woken and
nobody else, a newcomer cannot overtake, and a crash or freeze reaches each of them at once.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable

FOREVER = float("inf")
LONGEST_NAP_S = 3600.0  # Lock.acquire refuses very long timeouts; the caller loops
# A sleeping thread wakes this much after its timer: scheduling, and getting the interpreter lock back. Naps are asked to end that much
# earlier, following the lateness seen, so that service times are right on average. The bound keeps a busy machine's delays out of it.
LATENESS_GAIN = 0.05
LATENESS_MAX_S = 0.00015


class QueueFullError(Exception):
    """As many requests wait as the server lets wait."""


class RefusedError(Exception):
    """The server is crashed and takes nothing in."""


class CrashedError(Exception):
    """The server crashed while this request was inside."""


class Ticket:
    """One request's place: its class, its slot and the baton it waits on."""

    __slots__ = ("_baton", "busy", "failed", "granted_s", "kind")

    def __init__(self, kind: int) -> None:
        self.kind = kind  # index of the request class
        self.busy = 0  # busy slots when this service started, this one included
        self.granted_s = 0.0  # when the slot became this request's
        self.failed = False
        self._baton = threading.Lock()
        self._baton.acquire()

    def wake(self) -> None:
        """Ends this ticket's nap, or its next one. Only the gate calls this, under its mutex."""
        if self._baton.locked():
            self._baton.release()

    def nap(self, duration_s: float) -> None:
        """Waits until woken or `duration_s` is over. Raises CrashedError when the ticket has failed."""
        if duration_s == FOREVER:
            self._baton.acquire()
        else:
            self._baton.acquire(timeout=min(max(duration_s, 0.0), LONGEST_NAP_S))
        if self.failed:
            raise CrashedError


class Gate:
    """`slots` services at a time, `queue_limit` waiting, first in first out by direct hand-over."""

    def __init__(self, slots: int, queue_limit: int, kinds: int) -> None:
        self.slots, self.queue_limit = slots, queue_limit
        self.serving_by_kind = [0] * kinds  # requests in a slot, by class  # [K]
        self._mutex = threading.Lock()
        self._serving: set[Ticket] = set()
        self._lingering: set[Ticket] = set()
        self._waiting: deque[Ticket] = deque()
        self._frozen_until_s = self._crashed_until_s = -FOREVER
        self._lateness_s = 0.0

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Requests inside: in a slot or waiting for one."""
        return len(self._serving) + len(self._waiting)

    @property
    def crashed(self) -> bool:
        return time.monotonic() < self._crashed_until_s

    def enter(self, kind: int) -> Ticket:
        """Waits for a slot in order of arrival. Raises QueueFullError or RefusedError at once, CrashedError while waiting."""
        ticket = Ticket(kind)
        with self._mutex:
            now_s = time.monotonic()
            if now_s < self._crashed_until_s:
                raise RefusedError
            if len(self._serving) < self.slots:
                self._seat(ticket, now_s)
                return ticket
            if len(self._waiting) >= self.queue_limit:
                raise QueueFullError
            self._waiting.append(ticket)
        self._await_slot(ticket)
        return ticket

    def _await_slot(self, ticket: Ticket) -> None:
        try:
            while not ticket.busy:  # a thaw or freeze may wake a ticket that has no slot yet
                ticket.nap(FOREVER)
        except CrashedError:
            self.leave(ticket)  # it may have got a slot just before the crash
            raise

    def _seat(self, ticket: Ticket, now_s: float) -> None:
        self._serving.add(ticket)
        self.serving_by_kind[ticket.kind] += 1
        ticket.granted_s = now_s
        ticket.busy = len(self._serving)

    def leave(self, ticket: Ticket) -> None:
        """Gives the slot to the longest waiting request. A ticket without a slot changes nothing."""
        with self._mutex:
            if ticket not in self._serving:
                return
            self._serving.remove(ticket)
            self.serving_by_kind[ticket.kind] -= 1
            if self._waiting:
                successor = self._waiting.popleft()
                self._seat(successor, time.monotonic())
                successor.wake()

    def hold(self, ticket: Ticket, duration_s: float, since_s: float) -> None:
        """Returns when `duration_s` of unfrozen time has passed since `since_s` (monotonic). Raises CrashedError promptly."""
        remaining_s = duration_s - (time.monotonic() - since_s)
        while remaining_s > self._lateness_s:
            self.checkpoint(ticket)
            started_s = time.monotonic()
            asked_s = remaining_s - self._lateness_s
            ticket.nap(asked_s)
            passed_s = time.monotonic() - started_s
            remaining_s -= passed_s
            self._learn_lateness(passed_s - asked_s)

    def _learn_lateness(self, late_s: float) -> None:
        if late_s >= 0:  # negative: woken by a freeze
            self._lateness_s += LATENESS_GAIN * (min(late_s, LATENESS_MAX_S) - self._lateness_s)

    def checkpoint(self, ticket: Ticket) -> None:
        """Blocks while the server is frozen. Raises CrashedError."""
        if ticket.failed:
            raise CrashedError
        while (frozen_s := self._frozen_until_s - time.monotonic()) > 0:
            ticket.nap(frozen_s)

    def linger(self, duration_s: float) -> None:
        """Waits `duration_s` without a slot, subject to freeze and crash like a service. Raises RefusedError, CrashedError."""
        ticket = Ticket(0)
        with self._mutex:
            now_s = time.monotonic()
            if now_s < self._crashed_until_s:
                raise RefusedError
            self._lingering.add(ticket)
        try:
            self.hold(ticket, duration_s, now_s)
        finally:
            with self._mutex:
                self._lingering.discard(ticket)

    def freeze(self, until_s: float) -> None:
        """Stops all services until `until_s` (monotonic) or `restore`."""
        with self._mutex:
            self._frozen_until_s = max(self._frozen_until_s, until_s)
            self._wake(self._serving | self._lingering)

    def crash(self, until_s: float) -> None:
        """Fails everything inside, and refuses newcomers until `until_s` (monotonic) or `restore`."""
        with self._mutex:
            self._crashed_until_s = max(self._crashed_until_s, until_s)
            inside = self._serving | self._lingering | set(self._waiting)
            self._waiting.clear()
            for ticket in inside:
                ticket.failed = True
            self._wake(inside)

    def restore(self) -> None:
        """Ends freeze and crash; what a crash failed stays failed."""
        with self._mutex:
            self._frozen_until_s = self._crashed_until_s = -FOREVER
            self._wake(self._serving | self._lingering)

    @staticmethod
    def _wake(tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            ticket.wake()

"""One deadline for each phase of an exchange, and who is at fault when it passes."""

import asyncio
import math
from enum import Enum


class Phase(Enum):
    """What an exchange waits for. The value says whose delay it is."""

    CONNECT = ("server", "to be reached")
    UPLOAD = ("server", "to take the request's body")
    FIRST_BYTE = ("server", "to answer")
    ANSWER = ("server", "to go on with its answer")
    BODY = ("client", "to go on with its body")
    DELIVERY = ("client", "to take the answer")

    @property
    def is_clients(self) -> bool:
        """The client is waited for, so a delay says nothing about the server."""
        return self in {Phase.BODY, Phase.DELIVERY}

    def __str__(self) -> str:
        return f"waited too long for the {self.value[0]} {self.value[1]}"


class Deadlines:
    """The timer of all exchanges on one event loop.

    A timer for each phase would be a tenth of a request's cost. There is one, set for the earliest deadline that it has heard of; when it
    goes off, it looks whose deadline still holds, and sets itself for the earliest that is left: about once a second under steady traffic.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now_s = loop.time  # the loop's clock
        self._loop = loop
        self._open: set[Phases] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, phases: "Phases") -> None:
        """Its deadline is new. To be called for each that may be the earliest; later ones are found in time."""
        self._open.add(phases)
        if self._timer is None or phases.due_s < self._timer.when():
            self._set(phases.due_s)

    def leave(self, phases: "Phases") -> None:
        """It has no deadline any more. The timer stays: the next exchange will want one."""
        self._open.discard(phases)

    def _set(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self._look)

    def _look(self) -> None:
        self._timer, now_s = None, self.now_s()
        for one in [one for one in self._open if one.due_s <= now_s]:
            one.pass_deadline(now_s)
        due_s = min((one.due_s for one in self._open), default=math.inf)
        if due_s < math.inf:
            self._set(due_s)


class Phases:
    """The phase an exchange is in. Entering one ends the deadline of the one before."""

    def __init__(self, timeout: asyncio.Timeout, deadlines: Deadlines) -> None:
        """`timeout` ends the exchange; `close` must be called before its block is left."""
        self.current = Phase.CONNECT
        self.due_s = math.inf  # on the loop's clock
        self._timeout, self._deadlines = timeout, deadlines

    def enter(self, phase: Phase, patience_s: float) -> None:
        """Wait for `phase` at most `patience_s` seconds from now."""
        before_s, self.current = self.due_s, phase
        self.due_s = self._deadlines.now_s() + patience_s
        if self.due_s < before_s:
            self._deadlines.watch(self)

    def close(self) -> None:
        """No deadline from here on."""
        self._deadlines.leave(self)

    def pass_deadline(self, now_s: float) -> None:
        """It is over, unless it has been told so before."""
        self.due_s = math.inf
        if not self._timeout.expired():
            self._timeout.reschedule(now_s)

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


class Phases:
    """The phase an exchange is in. Entering one ends the deadline of the one before.

    A timer for each phase would be a tenth of a request's cost: there is one timer, which looks whether the deadline it was set for still
    holds, and sets itself again if not.
    """

    def __init__(self, timeout: asyncio.Timeout) -> None:
        """`timeout` ends the exchange; `close` must be called before its block is left."""
        self.current = Phase.CONNECT
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._due_s = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, phase: Phase, patience_s: float) -> None:
        """Wait for `phase` at most `patience_s` seconds from now."""
        self.current = phase
        self._due_s = self._loop.time() + patience_s
        if self._timer is None or self._due_s < self._timer.when():
            self._set()

    def close(self) -> None:
        """No deadline from here on."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self) -> None:
        self.close()
        self._timer = self._loop.call_at(self._due_s, self._look)

    def _look(self) -> None:
        now_s = self._loop.time()
        if now_s < self._due_s:
            self._set()
        elif not self._timeout.expired():
            self._timeout.reschedule(now_s)

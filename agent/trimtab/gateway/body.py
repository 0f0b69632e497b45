"""A request's body: read from the client once, as fast as a server takes it, and kept while it is short, so that it can be sent again."""

import math
from collections.abc import Callable

from aiohttp import web

from trimtab.gateway.limits import Limits, Timeouts
from trimtab.gateway.phases import Phase, Phases
from trimtab.gateway.retries import KEPT_BODY_BYTES

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientFaultError(Exception):
    """The client sent what cannot be passed on; `status` is what it is told."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class RequestBody:
    """The body of one request, for as many attempts as there are."""

    def __init__(self, request: web.BaseRequest, limits: Limits) -> None:
        self.present = request.body_exists
        self.gone = False  # longer than what is kept, and partly sent: no server can be sent it again
        self.fault: ClientFaultError | None = None  # why it broke off, where that was the client's doing
        self._request, self._limit = request, limits.body_bytes
        self.waited_s = 0.0  # for the client, in attempts that have ended
        self._kept: list[bytes] = []
        self._read = 0
        self._awaits_continue = "Expect" in request.headers and request.version >= (1, 1)

    def for_server(self, phases: Phases, timeouts: Timeouts, clock: Callable[[], float]) -> "Feed | None":
        """The body from its beginning, for one attempt; None where there is none."""
        return Feed(self, phases, timeouts, clock) if self.present else None

    async def piece(self, place: int) -> bytes:
        """Piece number `place`, which is either kept or the next of the stream; b"" at the end. Raises ClientFaultError."""
        if place < len(self._kept):
            return self._kept[place]
        if self.fault is not None:
            raise self.fault
        self._say_continue()
        piece = await self._next()
        self._read += len(piece)
        if self._read > self._limit:
            raise self._broken(413, f"the body is longer than {self._limit} bytes, which is all that is allowed")
        if self._read <= KEPT_BODY_BYTES:
            self._kept.append(piece)
        else:
            self.gone = True
            self._kept.clear()
        return piece

    async def _next(self) -> bytes:
        try:
            return await self._request.content.readany()
        except web.RequestPayloadError as error:
            raise self._broken(400, "the body is not framed as its headers say") from error

    def _say_continue(self) -> None:
        if self._awaits_continue and self._request.transport is not None:
            self._request.transport.write(CONTINUE)
        self._awaits_continue = False

    def _broken(self, status: int, reason: str) -> ClientFaultError:
        self.fault = ClientFaultError(status, reason)
        return self.fault


class Feed:
    """One attempt's way through the body. Tells the phases whom it waits for, and how long that was the client."""

    def __init__(self, body: RequestBody, phases: Phases, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        self.waited_s = 0.0  # for the client
        self._body, self._timeouts, self._clock = body, timeouts, clock
        self._phases: Phases | None = phases
        self._place = 0
        self._since_s = math.inf  # the client is waited for

    def detach(self) -> None:
        """The answer has begun: from now on the deadline is the answer's, even if the server still reads, and the time is the server's."""
        self._waited()
        self._phases = None
        self._body.waited_s += self.waited_s

    def __aiter__(self) -> "Feed":
        return self

    async def __anext__(self) -> bytes:
        self._since_s = self._clock()
        self._enter(Phase.BODY, min(self._timeouts.body_idle_s, self._left_s()))
        piece = await self._body.piece(self._place)
        self._waited()
        self._place += 1
        if not piece:
            self._enter(Phase.FIRST_BYTE, self._timeouts.first_byte_s)
            raise StopAsyncIteration
        self._enter(Phase.UPLOAD, self._timeouts.idle_s)
        return piece

    def _left_s(self) -> float:
        return max(0.0, self._timeouts.body_s - self._body.waited_s - self.waited_s)

    def _waited(self) -> None:
        if self._phases is not None and self._since_s < math.inf:
            self.waited_s += self._clock() - self._since_s
        self._since_s = math.inf

    def _enter(self, phase: Phase, patience_s: float) -> None:
        if self._phases is not None:
            self._phases.enter(phase, patience_s)

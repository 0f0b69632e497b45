"""A client's connection: aiohttp's parser and protocol, with a deadline for heads, limits in bytes, and plain refusals.

aiohttp has no time-out for a head: its keep-alive timer starts with the connection or the last answer. The subclass here counts from the
first byte of each head. It reads five private attributes (`_messages`, `_request_count`, `_request_in_progress`, `_current_request`,
`_force_close`), for which there is no public way; the version is pinned, and tests/gateway/test_connection.py and test_half_close.py fail
where they change their meaning.
"""

import asyncio
import logging
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, LineTooLong
from aiohttp.streams import StreamReader

from trimtab.gateway.headers import NAME
from trimtab.gateway.limits import Limits, Timeouts
from trimtab.gateway.message_ends import MessageEnds

LINGER_S: Final = 2.0  # a refused client may still be sending: to close at once could reset the connection before it reads why
READ_BYTES: Final = 64 * 1024  # of a body wait here at most before the client is held up
FULL_RETRY_AFTER_S: Final = 1
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_LOG: Final = logging.getLogger(__name__)
_REQUEST_LINE: Final = re.compile(rb"(?:\r\n)*[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.[01]\r\n")
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time


def plain(status: int, reason: str, *, retry_after_s: int | None = None, close: bool = False) -> web.Response:
    """An answer of the gateway's own: one line of text."""
    headers = {"Server": NAME}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if close:
        headers["Connection"] = "close"  # aiohttp answers what it could not parse as HTTP/1.0, and would leave it out
    response = web.Response(status=status, text=f"{status} {reason}\n", headers=headers)
    if close:
        response.force_close()
    return response


def break_off(transport: asyncio.BaseTransport | None) -> None:
    """End a connection by a reset, so that half an answer cannot pass for a whole one; an orderly end could, where no length was given."""
    if transport is None:
        return
    channel = transport.get_extra_info("socket")
    if channel is not None:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


class ClientConnection(web.RequestHandler):
    """One connection of one client."""

    def __init__(self, manager: "ClientServer", limits: Limits, timeouts: Timeouts, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._server, self._limits, self._timeouts = manager, limits, timeouts
        self._refused = manager.refused
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._ends = MessageEnds()
        self._body: StreamReader | None = None
        self._unknown_method = False
        self._given_up = False
        self._last_words = False  # the client sends nothing more; its requests are still answered
        self._leaving: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """No request is being read, waits or is being answered."""
        return self._deadline is None and not self._messages and not self._request_in_progress and not self._force_close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """One connection more; where there is no room for it, it is told so and ended."""
        if self._server.make_room() or not isinstance(transport, asyncio.WriteTransport):
            super().connection_made(transport)
            return
        self._given_up = True
        self._refused(503)
        self._server.full()
        transport.write(_bare(503, "Service Unavailable", f"Retry-After: {FULL_RETRY_AFTER_S}\r\n"))
        transport.close()

    def data_received(self, data: bytes) -> None:
        """Bytes of heads and bodies; which of them belong to a head is known by what the parser made of them."""
        if self._given_up:
            return
        in_body, heads = self._in_body(), self._request_count
        super().data_received(data)
        fresh = self._request_count - heads
        if fresh:
            self._head_ended(data)
        if in_body or fresh:
            if self._ends.is_beyond(data, self._headers_of(fresh)) and not self._in_body():
                self._head_goes_on(b"")  # its first bytes came with the end of the request before
        elif self._deadline is not None or data.strip(b"\r\n"):  # empty lines between requests begin no head (RFC 9112, 2.2)
            self._head_goes_on(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's contract, which aiohttp narrows to None
        """The client sends no more: it has left, or only closed its sending half (RFC 9112, 9.6), which looks the same from here.

        What is whole is answered if the answer begins within `half_close_s`; NGINX and Envoy take every end for a client that left, and a
        gateway that took none for it would keep servers busy for nobody. True keeps the connection.
        """
        if self._given_up or self._in_body() or not (self._messages or self._request_in_progress):
            return None
        self._stop_deadline()  # what there is of a head will never be whole
        self._last_words = True
        if self._leaving is None:
            self._leaving = self._loop.call_later(self._timeouts.half_close_s, self._leave)
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer, if it is the gateway's own and not written by now, to a client that must take it in time."""
        if isinstance(resp, web.Response):
            try:
                async with asyncio.timeout(self._timeouts.idle_s):
                    written = await super().finish_response(request, resp, start_time)
            except TimeoutError:
                break_off(self.transport)
                return resp, True
        else:  # a server's answer has been relayed under the deadlines of its exchange
            written = await super().finish_response(request, resp, start_time)
        if self._last_words and not self._messages:
            self.close()
        self._watch_rest()
        return written

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone; aiohttp cancels what is done for it."""
        self._stop_deadline()
        if self._leaving is not None:
            self._leaving.cancel()
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what could not be parsed, or to an error of the gateway's own; the connection ends with it."""
        status, reason = self._refusal(status, exc, message)
        if status == 500:
            _LOG.error("a request ended in an error of the gateway", exc_info=exc)
        else:
            self._refused(status)
        if request.writer.output_size > 0:
            break_off(self.transport)
            raise ConnectionError("an answer has begun, so no other can be sent")
        return plain(status, reason, close=True)

    def _refusal(self, status: int, exc: BaseException | None, message: str | None) -> tuple[int, str]:
        if isinstance(exc, LineTooLong) or (isinstance(exc, BadHttpMessage) and "Too many headers" in exc.message):
            return 431, f"allowed are {self._limits.header_bytes} bytes and {self._limits.headers} headers"
        if self._unknown_method and isinstance(exc, BadHttpMethod):
            return 501, "this method is unknown here"
        if isinstance(exc, BadHttpMessage):
            return 400, exc.message.partition(":\n")[0].partition("\n")[0]
        return status, "the gateway failed" if status == 500 else message or ""

    def _headers_of(self, fresh: int) -> list[Mapping[str, str]]:
        """Of the last requests that were parsed; none for what could not be, with which the connection ends."""
        return [getattr(message, "headers", {}) for message, _ in islice(self._messages, max(0, len(self._messages) - fresh), None)]

    def _in_body(self) -> bool:
        return self._body is not None and not self._body.is_eof()

    def _head_ended(self, data: bytes) -> None:
        self._stop_deadline()
        if not self._messages:
            return
        message, payload = self._messages[-1]
        error = getattr(message, "exc", None)
        if error is None:
            self._body = payload
            return
        self._unknown_method = _REQUEST_LINE.match(data) is not None
        if self._body is not None and self._in_body():
            # The parser drops a body whose framing is broken without a word; whoever waits for it would wait in vain.
            self._body.set_exception(web.RequestPayloadError(str(error)))
            self._body.feed_eof()  # else aiohttp would go on to read it

    def _head_goes_on(self, data: bytes) -> None:
        if self._deadline is None:
            self._deadline = self._loop.call_later(self._timeouts.header_s, self._give_up, 408, "Request Timeout")
        self._ends.in_head(data)
        self._head_bytes += len(data)
        if self._head_bytes > self._limits.header_bytes:
            self._give_up(431, "Request Header Fields Too Large")

    def _stop_deadline(self) -> None:
        self._head_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self, status: int, phrase: str) -> None:
        """End a connection in the middle of a head."""
        self._stop_deadline()
        self._given_up = True  # what still comes is thrown away: an end at once could reset the connection, and the answer with it
        if self._request_in_progress or self._messages:
            self._last_words = True  # the requests before this one are answered
            return
        self._refused(status)
        self.close()
        if self.transport is not None:
            self.transport.write(_bare(status, phrase))
            self.transport.write_eof()
            self._deadline = self._loop.call_later(LINGER_S, self.force_close)

    def _leave(self) -> None:
        """The client closed its sending half and no answer has begun: most likely it has left. One that left amid an answer is noticed
        by the system, which answers further bytes with a reset."""
        self._leaving = None
        answered = self._current_request is not None and self._current_request.writer.output_size > 0
        if answered:
            self._leaving = self._loop.call_later(self._timeouts.half_close_s, self._leave)
        elif self.transport is not None:
            self.transport.close()

    def _watch_rest(self) -> None:
        """The end of an answer may wait in this machine for a client that does not take it, even once the connection is closed."""
        transport = self.transport
        if isinstance(transport, asyncio.Transport) and transport.get_write_buffer_size():
            self._loop.call_later(self._timeouts.idle_s, self._drop_rest, transport)

    def _drop_rest(self, transport: asyncio.Transport) -> None:
        if transport.get_write_buffer_size() and not self._request_in_progress:  # which else has a deadline, and this watch after it
            break_off(transport)


def _bare(status: int, phrase: str, headers: str = "") -> bytes:
    """An answer without a body, for a connection that ends with it."""
    return f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\n{headers}Content-Length: 0\r\n\r\n".encode()


class ClientServer(web.Server):
    """Makes a `ClientConnection` of every connection; a client that leaves cancels its handler."""

    def __init__(
        self, handler: Handler, limits: Limits, timeouts: Timeouts, refused: Callable[[int], None], full: Callable[[], None]
    ) -> None:
        """`refused` is told the status of each request that ends before it reaches `handler`, `full` of each connection without room."""
        super().__init__(handler, handler_cancellation=True)
        self.refused, self.full = refused, full
        self._limits, self._timeouts = limits, timeouts

    def __call__(self) -> ClientConnection:
        return ClientConnection(
            self,
            self._limits,
            self._timeouts,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._timeouts.keep_alive_s,
            lingering_time=LINGER_S,
            max_line_size=self._limits.header_bytes,
            max_field_size=self._limits.header_bytes,
            max_headers=self._limits.headers,
            read_bufsize=READ_BYTES,
            auto_decompress=False,  # bodies pass as they are
            access_log=None,
            logger=_LOG,
        )

    def make_room(self) -> bool:
        """Whether one connection more may stay. Where there are as many as allowed, the oldest that waits for nothing is ended for it.

        NGINX (worker_connections) likewise ends idle connections first; it drops the newest where none is, which here is told 503.
        """
        connections = self.connections
        if len(connections) < self._limits.connections:
            return True
        idle = next((one for one in connections if isinstance(one, ClientConnection) and one.is_idle), None)
        if idle is not None:
            idle.force_close()
        return idle is not None

    def close_idle(self) -> None:
        """End connections that wait for nothing."""
        for one in self.connections:
            if isinstance(one, ClientConnection) and one.is_idle:
                one.force_close()

"""A client's connection: aiohttp's parser and protocol, with a deadline for heads, limits in bytes, and plain refusals.

aiohttp has no time-out for a head: its keep-alive timer starts with the connection or the last answer. The subclass here counts from the
first byte of each head. It reads three private attributes (`_messages`, `_request_count`, `_request_in_progress`), for which there is no
public way; the version is pinned, and tests/gateway/test_connection.py fails where they change their meaning.
"""

import asyncio
import logging
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, LineTooLong
from aiohttp.streams import StreamReader

from trimtab.gateway.headers import NAME
from trimtab.gateway.limits import Limits, Timeouts

LINGER_S: Final = 2.0  # a refused client may still be sending: to close at once could reset the connection before it reads why
READ_BYTES: Final = 64 * 1024  # of a body wait here at most before the client is held up
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
        self._limits, self._header_s = limits, timeouts.header_s
        self._refused = manager.refused
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._body: StreamReader | None = None
        self._unknown_method = False
        self._given_up = False

    @property
    def is_idle(self) -> bool:
        """No request is being read, waits or is being answered."""
        return self._deadline is None and not self._messages and not self._request_in_progress

    def data_received(self, data: bytes) -> None:
        """Bytes of heads and bodies; which of them belong to a head is known by what the parser made of them."""
        if self._given_up:
            return
        in_body, heads = self._in_body(), self._request_count
        super().data_received(data)
        if self._request_count != heads:
            self._head_ended(data)
        elif not in_body and data.strip(b"\r\n"):  # empty lines between requests begin no head (RFC 9112, 2.2)
            self._head_goes_on(len(data))

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone; aiohttp cancels what is done for it."""
        self._stop_deadline()
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

    def _head_goes_on(self, size: int) -> None:
        if self._deadline is None:
            self._deadline = self._loop.call_later(self._header_s, self._give_up, 408, "Request Timeout")
        self._head_bytes += size
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
            self.close()  # once the requests before this one are answered
            return
        self._refused(status)
        self.close()
        if self.transport is not None:
            self.transport.write(f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
            self.transport.write_eof()
            self._deadline = self._loop.call_later(LINGER_S, self.force_close)


class ClientServer(web.Server):
    """Makes a `ClientConnection` of every connection; a client that leaves cancels its handler."""

    def __init__(self, handler: Handler, limits: Limits, timeouts: Timeouts, refused: Callable[[int], None]) -> None:
        """`refused` is told the status of each request that ends before it reaches `handler`."""
        super().__init__(handler, handler_cancellation=True)
        self.refused = refused
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

    def close_idle(self) -> None:
        """End connections that wait for nothing."""
        for one in self.connections:
            if isinstance(one, ClientConnection) and one.is_idle:
                one.force_close()

"""An answer on its way from a server to a client, written as the server wrote it."""

from email.utils import formatdate
from typing import cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

from trimtab.gateway.answer import Answer
from trimtab.gateway.connection import break_off
from trimtab.gateway.headers import response_head, response_headers

LAST_CHUNK = b"0\r\n\r\n"


class Reply(web.StreamResponse):
    """One relayed answer. aiohttp's own response would add headers and send the head in a packet of its own."""

    def __init__(self, request: web.BaseRequest, answer: Answer, identity: str, *, close: bool) -> None:
        """Raises ValueError for an answer that cannot be passed on."""
        super().__init__(status=answer.status)
        self.broken = False
        self._client, self._writer = request, cast(StreamWriter, request.writer)
        self.bodyless = request.method == "HEAD" or answer.status in {204, 304}
        if answer.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
            raise ValueError("the answer is coded for this connection, and the gateway undoes chunks only")
        length_known = "Content-Length" in answer.headers and "Transfer-Encoding" not in answer.headers and answer.status != 204
        modern = request.version >= (1, 1)
        self._chunks = not self.bodyless and not length_known and modern
        until_close = not self.bodyless and not length_known and not modern
        unread = not request.content.is_eof()  # what the client still sends is not read for the sake of its next request
        self._keeps = request.keep_alive and not close and not until_close and not unread
        self._waiting = self._head(answer, identity, keep_length=length_known, modern=modern)

    @property
    def keep_alive(self) -> bool:
        """Whether the client may send another request."""
        return self._keeps

    @property
    def started(self) -> bool:
        """Bytes have gone out."""
        return not self._waiting

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing: everything has been written when aiohttp asks."""
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing, likewise."""

    @property
    def held_up(self) -> bool:
        """The client takes the answer more slowly than it comes: nothing more should be written before `until_taken`."""
        protocol = self._client.protocol
        return protocol is not None and protocol.writing_paused

    async def until_taken(self) -> None:
        """Return once the client has room for more."""
        await self._writer.drain()

    async def relay(self, piece: bytes) -> None:
        """Pass a piece of the body on, with the head before the first."""
        await self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunks else piece)

    async def send_head(self) -> None:
        """Let the client see the head although no body is there yet."""
        if not self.started:
            await self._write(b"")

    async def finish(self) -> None:
        """The body is complete."""
        if self._chunks:
            await self._write(LAST_CHUNK)
        else:
            await self.send_head()

    def break_off(self) -> None:
        """The body will never be complete: the client must notice."""
        self._keeps = False
        self.broken = True
        break_off(self._client.transport)

    async def _write(self, data: bytes) -> None:
        head, self._waiting = self._waiting, b""
        # Whoever waits for the client does so by `until_taken`, for that time is not the server's.
        await self._writer.write(head + data if head else data, drain=False)

    def _head(self, answer: Answer, identity: str, *, keep_length: bool, modern: bool) -> bytes:
        version = "1.1" if answer.version is None else f"{answer.version.major}.{answer.version.minor}"
        headers = response_headers(answer.raw_headers, version, identity, keep_length=keep_length)
        if "Date" not in answer.headers:
            headers.append((b"Date", formatdate(usegmt=True).encode()))
        if self._chunks:
            headers.append((b"Transfer-Encoding", b"chunked"))
        if not self._keeps:
            headers.append((b"Connection", b"close"))
        elif not modern:
            headers.append((b"Connection", b"keep-alive"))
        return response_head(answer.status, answer.reason or "", headers)

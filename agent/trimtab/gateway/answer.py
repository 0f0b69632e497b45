"""A server's answer: its head, and its body as it comes."""

import asyncio
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

HEADER_BYTES: Final = 64 * 1024  # of one header of an answer
_SWITCHING: Final = 101


def expect_answer(protocol: ResponseHandler, method: str) -> None:
    """Make a connection ready to parse one answer to a request with this method."""
    protocol.set_response_params(
        skip_payload=method == "HEAD",
        read_until_eof=True,
        auto_decompress=False,  # bodies pass as they are
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
    )


async def answer_on(connection: Connection, protocol: ResponseHandler, upload: "asyncio.Task[None] | None") -> "Answer":
    """The answer once its head is here; interim ones (1xx but 101) are skipped. Raises ClientError; the connection is closed then."""
    try:
        while True:
            message, content = await protocol.read()
            if not 100 <= message.code < 200 or message.code == _SWITCHING:
                return Answer(connection, message, content, upload)
    except BaseException as error:
        if upload is not None:
            upload.cancel()
        connection.close()
        if isinstance(error, HttpProcessingError):
            raise aiohttp.ClientPayloadError(error.message) from error
        raise


class Answer:
    """One answer. Whoever has it must read `content` to its end or call `close`."""

    __slots__ = ("_connection", "_upload", "content", "headers", "raw_headers", "reason", "status", "version")

    def __init__(
        self, connection: Connection, message: RawResponseMessage, content: StreamReader, upload: "asyncio.Task[None] | None"
    ) -> None:
        self.status, self.reason, self.version = message.code, message.reason, message.version
        self.headers, self.raw_headers = message.headers, message.raw_headers
        self.content = content
        self._connection: Connection | None = connection
        self._upload = upload  # of the request's body, which may still go on
        content.on_eof(self._complete)

    def close(self) -> None:
        """Give up what is left of the answer, and its connection. Nothing, after the answer's end: the pool has the connection."""
        self._end(reusable=False)

    def _complete(self) -> None:
        self._end(reusable=True)

    def _end(self, *, reusable: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._upload is not None and not self._upload.done():
            # The rest of the body has no reader; the next request on this connection would be taken for it.
            self._upload.cancel()
            reusable = False
        if reusable:
            connection.release()
        else:
            connection.close()

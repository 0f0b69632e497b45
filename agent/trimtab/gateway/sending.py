"""A request on its way to a server: the bytes of its head, the framing of its body, and the body as the client sends it."""

import asyncio
import re
from collections.abc import Sequence
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter

from trimtab.gateway.body import Feed

LAST_CHUNK: Final = b"0\r\n\r\n"
Headers = Sequence[tuple[str, str]]
_CHUNKED: Final[Headers] = (("Transfer-Encoding", "chunked"),)
_EMPTY: Final[Headers] = (("Content-Length", "0"),)
# RFC 9110, 8.6: a request of these has no body where none is announced; of any other, a server may wait for one.
_BODYLESS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_BREAKS_LINES: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def send(protocol: ResponseHandler, method: str, target: str, headers: Headers, body: Feed | None) -> "asyncio.Task[None] | None":
    """Write a request; of one with a body, the task that goes on with it. Raises ValueError for a head that cannot be written."""
    named = {name.lower() for name, _ in headers}
    added = () if "content-length" in named else _framing(method, has_body=body is not None)
    head = request_head(method, target, [*headers, *added])
    if body is None:
        if protocol.transport is not None:  # else it is lost, which the reader of the answer is told
            protocol.transport.write(head)
        return None
    return asyncio.create_task(_upload(protocol, head, body, chunked=added == _CHUNKED))


def _framing(method: str, *, has_body: bool) -> Headers:
    """What is added where the client has not said how long the body is, so that the server knows where the request ends."""
    if has_body:
        return _CHUNKED
    return () if method in _BODYLESS else _EMPTY


def request_head(method: str, target: str, headers: Headers) -> bytes:
    """Request line and headers, up to and including the empty line. Raises ValueError for a character that would break the lines."""
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers]]
    if _BREAKS_LINES.search("".join(lines)) is not None:
        raise ValueError("a control character in a request's head: it could end a line there, and begin a header or a request of its own")
    return "\r\n".join([*lines, "\r\n"]).encode()


async def _upload(protocol: ResponseHandler, head: bytes, body: Feed, *, chunked: bool) -> None:
    """Send head and body, as fast as the server takes them and the client gives them.

    Whatever goes wrong is told to `protocol`: the answer may have begun before the request is complete, and its reader is who waits.
    """
    writer = StreamWriter(protocol, asyncio.get_running_loop())
    try:
        async for piece in body:
            await writer.write(head + (b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece))
            head = b""
        await writer.write(head + (LAST_CHUNK if chunked else b""))
        await writer.drain()
    except OSError as error:
        protocol.set_exception(aiohttp.ClientOSError(error.errno, f"the request's body could not be sent: {error}"), error)
    except Exception as error:  # noqa: BLE001 -- of the client's body, too; raised where the answer is waited for
        protocol.set_exception(aiohttp.ClientConnectionError(f"the request's body broke off: {error}"), error)

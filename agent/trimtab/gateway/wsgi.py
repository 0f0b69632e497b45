"""Serves a WSGI app on the gateway's port for the paths that belong to it, in a few threads of its own.

Only for small answers that are quickly made: bodies are not streamed either way, so that no thread is held by a slow client.
"""

import asyncio
import io
import logging
import sys
from collections.abc import Awaitable, Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from aiohttp import web

from trimtab.gateway.body import CONTINUE
from trimtab.gateway.connection import plain
from trimtab.gateway.headers import NAME
from trimtab.gateway.refusals import origin_form

THREADS: Final = 4
BODY_BYTES: Final = 64 * 1024
PATIENCE_S: Final = 5.0

_LOG: Final = logging.getLogger(__name__)
_UNPREFIXED: Final = {"CONTENT-TYPE": "CONTENT_TYPE", "CONTENT-LENGTH": "CONTENT_LENGTH"}
_FRAMING: Final = frozenset({"connection", "transfer-encoding", "keep-alive", "server"})

Headers = list[tuple[str, str]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None
StartResponse = Callable[[str, Headers, ExcInfo], Callable[[bytes], object]]
WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Answer(NamedTuple):
    status: int
    headers: Headers
    body: bytes


class WsgiServer:
    """Runs one app. `close` it when no request is under way."""

    def __init__(self, app: WsgiApp, own: Container[str], threads: int = THREADS) -> None:
        """`own`: the paths that the app answers; all others are passed on to servers."""
        self._app, self._own = app, own
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="control")

    def reserved(self, path: str) -> Handler | None:
        """The handler of a path that belongs to the app, else None."""
        return self.handle if path in self._own else None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Ask the app in a thread. 413 for a body beyond BODY_BYTES, 503 where it takes too long."""
        body = await _read(request)
        if body is None:
            return plain(413, f"allowed are {BODY_BYTES} bytes", close=True)
        call = asyncio.get_running_loop().run_in_executor(self._pool, _call, self._app, _environ(request, body))
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await call
        except TimeoutError:
            return plain(503, f"no answer within {PATIENCE_S:g} s", retry_after_s=1)
        except Exception:  # noqa: BLE001 -- an error of the app is its own; the data path goes on
            _LOG.exception("the control API failed at %s %s", request.method, request.raw_path)
            return plain(500, "the control API failed")
        length = "" if request.method == "HEAD" else "content-length"  # aiohttp counts it; of HEAD's answer only the app knows it
        headers = [(name, value) for name, value in answer.headers if name.lower() not in {*_FRAMING, length}]
        return web.Response(status=answer.status, headers=[*headers, ("Server", NAME)], body=answer.body)

    def close(self) -> None:
        """Let running calls end; queued ones are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _read(request: web.BaseRequest) -> bytes | None:
    """The body, or None for one that is too long or too slow."""
    if int(request.headers.get("Content-Length", 0)) > BODY_BYTES:
        return None
    if "Expect" in request.headers and request.version >= (1, 1) and request.transport is not None:
        request.transport.write(CONTINUE)
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while piece := await request.content.readany():
                body += piece
                if len(body) > BODY_BYTES:
                    return None
    except (TimeoutError, web.RequestPayloadError):
        return None
    return bytes(body)


def _environ(request: web.BaseRequest, body: bytes) -> dict[str, Any]:
    """The request as PEP 3333 wants it: bytes in the disguise of Latin-1 text."""
    path, _, query = origin_form(request.raw_path)[1].partition("?")
    host, _, port = request.headers.get("Host", "").rpartition(":")
    environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": host or "localhost",
        "SERVER_PORT": port if port.isdigit() else "80",
        "SERVER_PROTOCOL": f"HTTP/{request.version.major}.{request.version.minor}",
        "REMOTE_ADDR": request.remote or "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        key = _UNPREFIXED.get(name.upper(), f"HTTP_{name.upper().replace('-', '_')}")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ["CONTENT_LENGTH"] = str(len(body))
    return environ


def _call(app: WsgiApp, environ: dict[str, Any]) -> _Answer:
    """Run the app to the end of its answer, in a thread of the pool."""
    started: list[tuple[str, Headers]] = []
    written = io.BytesIO()

    def start(status: str, headers: Headers, exc_info: ExcInfo = None) -> Callable[[bytes], object]:
        started[:] = [(status, headers)]  # with exc_info the second call replaces the first: nothing has been sent yet
        return written.write

    pieces = app(environ, start)
    try:
        for piece in pieces:
            written.write(piece)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
    status, headers = started[0]
    return _Answer(int(status.split(" ", 1)[0]), headers, written.getvalue())

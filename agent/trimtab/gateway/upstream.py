"""The servers' side: pools of connections that are kept alive, and requests that are sent exactly once."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final
from weakref import WeakSet

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from yarl import URL

from trimtab.fleets.client import check_url
from trimtab.gateway.body import Feed
from trimtab.gateway.limits import Timeouts

# A connection that has been idle for longer is not used again. Servers close idle connections too, and a request that is sent while that
# happens is lost: this is well below what common servers wait (75 s in servers/gunicorn.conf.py).
POOL_IDLE_S: Final = 15.0
HEADER_BYTES: Final = 64 * 1024  # of one header of an answer
# Added by the client library where a request lacks them; a gateway adds nothing in the client's name.
_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")

OnSend = Callable[[bool], None]


class BrokenError(Exception):
    """The connection could not be made, or broke before an answer's head was complete. `str` says how."""


class _StaleError(Exception):
    """A pooled connection holds bytes that nobody asked for; nothing was sent on it."""


class SingleRequest(ClientRequest):
    """A request that tells when it is about to go out, and whether on a connection that has carried one before."""

    on_send: OnSend | None = None
    _used: ClassVar["WeakSet[Any]"] = WeakSet()

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Called by the session with a connection; everything before is connecting."""
        if conn.protocol is None or conn.protocol.should_close:
            # What a server sends unasked would be taken for the answer to this request, and every later answer for the next one's.
            raise _StaleError
        if self.on_send is not None:
            self.on_send(conn.protocol in self._used)
        self._used.add(conn.protocol)
        return await super().send(conn)


class Upstream:
    """Connections to S servers. To be made and closed on the event loop."""

    def __init__(self, urls: Sequence[str], timeouts: Timeouts) -> None:
        self.urls = tuple(check_url(url) for url in urls)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect_s)
        self._pooled = self._session(aiohttp.TCPConnector(limit=0, keepalive_timeout=POOL_IDLE_S))
        self._single = self._session(aiohttp.TCPConnector(limit=0, force_close=True))

    async def ask(
        self, server: int, method: str, target: str, headers: list[tuple[str, str]], body: Feed | None, on_send: OnSend, *, fresh: bool
    ) -> aiohttp.ClientResponse:
        """Send a request once and return when the answer's head is here; `fresh` demands a connection that was never used.

        Raises BrokenError, or another of aiohttp's ClientError. Whoever gets an answer must read it to its end or close it.
        """

        async def once(request: ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
            if isinstance(request, SingleRequest):
                request.on_send = on_send
            try:
                return await send(request)
            except aiohttp.ConnectionTimeoutError:
                raise
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                # The session would send an idempotent request again by itself when it sees one of these: no budget, no books.
                raise BrokenError(str(error)) from error

        session = self._single if fresh else self._pooled
        url = URL(self.urls[server] + target, encoded=True)
        while True:
            try:
                return await session.request(method, url, headers=headers, data=body, allow_redirects=False, middlewares=(once,))
            except _StaleError:
                session = self._single  # a new connection has nothing on it
            except UnicodeError as error:  # a host name that the resolver cannot spell
                raise BrokenError(str(error)) from error

    async def is_healthy(self, server: int, timeout_s: float) -> bool:
        """Whether `GET /health` is answered 2xx within `timeout_s`, on a connection of its own: a new one can be made, too."""
        limit = aiohttp.ClientTimeout(total=timeout_s)
        try:
            # Its body is not read: it could be of any length.
            async with self._single.get(f"{self.urls[server]}/health", timeout=limit, allow_redirects=False) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError):
            return False

    async def close(self) -> None:
        await self._pooled.close()
        await self._single.close()

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            request_class=SingleRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_ADDED,
            auto_decompress=False,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
        )

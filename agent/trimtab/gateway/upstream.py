"""The servers' side: pools of connections that are kept alive, and requests that are sent exactly once.

aiohttp's pool, parser and flow control, without its ClientSession: cookies, redirects, middleware and a request object that copies the
headers are a good part of what a request costs (tests/benchmarks/proxies.py --parts), and the session sends a request again by itself
when its connection breaks. `ResponseHandler` and `TCPConnector.connect` are not documented for this use; the version is pinned, and
tests/gateway/test_upstream.py fails where they change.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection
from yarl import URL

from trimtab.fleets.client import check_url
from trimtab.gateway.answer import HEADER_BYTES, Answer, answer_on, expect_answer
from trimtab.gateway.body import Feed
from trimtab.gateway.limits import Timeouts
from trimtab.gateway.phases import Deadlines
from trimtab.gateway.sending import Headers, send

# A connection that has been idle for longer is not used again. Servers close idle connections too, and a request that is sent while that
# happens is lost: this is well below what common servers wait (75 s in servers/gunicorn.conf.py).
POOL_IDLE_S: Final = 15.0
_CLOSE: Final[Headers] = (("Connection", "close"),)

OnSend = Callable[[bool], None]
OnSent = Callable[[], None]


class BrokenError(Exception):
    """The connection could not be made, or broke before an answer's head was complete. `str` says how."""


class _Place(ClientRequest):
    """Where to connect to: all that the connector asks of a request. It is never sent."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        """There it is made anew for every request."""
        return super().connection_key


class _Line(NamedTuple):
    connection: Connection
    protocol: ResponseHandler
    headers: Headers  # that a request on it needs


class Upstream:
    """Connections to S servers. To be made and closed on the event loop."""

    def __init__(self, urls: Sequence[str], timeouts: Timeouts) -> None:
        self.urls = tuple(check_url(url) for url in urls)
        self._paths = tuple(urlsplit(url).path for url in self.urls)
        loop = asyncio.get_running_loop()
        self._places = tuple(_Place("GET", URL(url, encoded=True), loop=loop) for url in self.urls)
        self._hosts = tuple(place.url.host_port_subcomponent or "" for place in self._places)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect_s)
        self._pooled = aiohttp.TCPConnector(limit=0, keepalive_timeout=POOL_IDLE_S)
        self._single = aiohttp.TCPConnector(limit=0, force_close=True)
        self._used: WeakSet[Any] = WeakSet()  # connections that have carried a request
        self.deadlines = Deadlines(loop)  # of the requests sent
        self._checks = aiohttp.ClientSession(
            connector=self._single,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
            auto_decompress=False,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
        )

    async def ask(
        self,
        server: int,
        method: str,
        target: str,
        headers: list[tuple[str, str]],
        body: Feed | None,
        on_send: OnSend,
        on_sent: OnSent = lambda: None,
        *,
        fresh: bool,
    ) -> Answer:
        """Send a request once and return when the answer's head is here; `fresh` demands a connection that was never used.

        `on_send` is told when it is about to go out, and whether on a connection that has carried one before; all before that is
        connecting. `on_sent` is called once it is on its way, before anything of an answer is read: for what the server need not wait
        for. Raises BrokenError, or another of aiohttp's ClientError. Whoever gets an answer must read it to its end or close it.
        """
        try:
            line = await self._connect(server, fresh=fresh)
            try:
                reused = line.protocol in self._used
                on_send(reused)
                sending = send(line.protocol, method, self._paths[server] + target, self._complete(server, headers, line), body)
                # The server works by now. Nothing is read before the loop turns: what an answer needs may be made ready after the request.
                expect_answer(line.protocol, method)
                on_sent()
                if not reused:
                    self._used.add(line.protocol)
            except BaseException:
                line.connection.close()
                raise
            return await answer_on(line.connection, line.protocol, sending)
        except aiohttp.ConnectionTimeoutError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, UnicodeError) as error:
            # UnicodeError: a host name that the resolver cannot spell.
            raise BrokenError(str(error)) from error

    async def is_healthy(self, server: int, path: str, timeout_s: float) -> bool:
        """Whether `GET` of this path is answered 2xx within `timeout_s`, on a connection of its own: a new one can be made, too."""
        limit = aiohttp.ClientTimeout(total=timeout_s)
        try:
            # Its body is not read: it could be of any length.
            async with self._checks.get(f"{self.urls[server]}{path}", timeout=limit, allow_redirects=False) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError):
            return False

    async def close(self) -> None:
        await self._checks.close()  # and `_single` with it
        await self._pooled.close()

    def _complete(self, server: int, headers: Headers, line: _Line) -> Headers:
        """With the Host that HTTP/1.1 demands, where an older client gave none, and what the connection needs."""
        host = () if any(name == "Host" for name, _ in headers) else (("Host", self._hosts[server]),)
        return [*host, *headers, *line.headers]

    async def _connect(self, server: int, *, fresh: bool) -> _Line:
        for pool in (self._single,) if fresh else (self._pooled, self._single):
            try:
                connection = await pool.connect(self._places[server], [], self._timeout)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError(f"no connection to {self.urls[server]} in time") from error
            protocol = connection.protocol
            if protocol is not None and not protocol.should_close:
                return _Line(connection, protocol, _CLOSE if pool is self._single else ())
            # What a server sends unasked would be taken for the answer to this request, and every later answer for the next one's.
            connection.close()
        raise BrokenError("the server closes new connections, or speaks before it is asked")

"""The gateway as a server: listens, refuses, hands over, drains. What happens to a request that is passed on is in forward.py."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from aiohttp import web

from trimtab.errors import UsageError
from trimtab.gateway.connection import ClientServer, plain
from trimtab.gateway.forward import Balancer, Exchange
from trimtab.gateway.limits import Limits, Timeouts
from trimtab.gateway.probes import Prober
from trimtab.gateway.refusals import Head, head_size, path_of, refusal
from trimtab.gateway.telemetry import CONNECTIONS_FULL
from trimtab.gateway.upstream import Upstream

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Reserved = Callable[[str], Handler | None]
BACKLOG: Final = 1024  # connections that may wait for the loop; 100, asyncio's own, is one burst
CUT_OFF_S: Final = 0.05  # for connections to end once the time to drain is over


class _Running(NamedTuple):
    listener: asyncio.Server
    server: ClientServer
    upstream: Upstream
    prober: Prober


class Gateway:
    """One HTTP balancer. Everything but the constructor belongs to one event loop."""

    def __init__(
        self, balancer: Balancer, urls: Sequence[str], limits: Limits, timeouts: Timeouts, reserved: Reserved = lambda _path: None
    ) -> None:
        """`urls` of the servers in the scenario's order; `reserved` names the handler of a path that is not passed on."""
        self.balancer, self.urls, self.limits, self.timeouts, self.reserved = balancer, tuple(urls), limits, timeouts, reserved
        self.draining = False
        self._active = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._running: _Running | None = None

    @property
    def port(self) -> int:
        """Where it listens: the port that was asked for, or the one that the system chose for 0. Raises UsageError before `start`."""
        if self._running is None:
            raise UsageError("the gateway has no port yet; start it first")
        return int(self._running.listener.sockets[0].getsockname()[1])

    async def start(self, host: str, port: int) -> None:
        """Listen, and begin to check the servers. Raises UsageError where the port cannot be had."""
        upstream = Upstream(self.urls, self.timeouts)
        full = partial(self.balancer.counts.refused, CONNECTIONS_FULL)
        server = ClientServer(partial(self._handle, upstream), self.limits, self.timeouts, self._count_refusal, full)
        try:
            listener = await asyncio.get_running_loop().create_server(server, host, port, backlog=BACKLOG)
        except (OSError, OverflowError) as error:
            await upstream.close()
            raise UsageError(f"cannot listen on {host} port {port}: {error}; give another port or host") from error
        prober = Prober(upstream, self.balancer.health, self.balancer.clock)
        prober.start()
        self._running = _Running(listener, server, upstream, prober)

    async def stop(self) -> None:
        """Say that it ends, go on for `lame_duck_s`; then take no new connections, let requests in flight end for up to `drain_s`, and cut
        off what is left."""
        self.draining = True
        if self._running is not None:
            await asyncio.sleep(self.timeouts.lame_duck_s)
        running, self._running = self._running, None
        if running is None:
            return
        running.listener.close()
        running.server.close_idle()
        await self._wait_until_quiet()
        await running.server.shutdown(CUT_OFF_S)
        await running.prober.stop()
        await running.upstream.close()

    async def _wait_until_quiet(self) -> None:
        try:
            async with asyncio.timeout(self.timeouts.drain_s):
                await self._quiet.wait()
        except TimeoutError:
            return

    async def _handle(self, upstream: Upstream, request: web.BaseRequest) -> web.StreamResponse:
        self._active += 1
        self._quiet.clear()
        try:
            response = await self._answer(upstream, request)
        finally:
            self._active -= 1
            if self._active == 0:
                self._quiet.set()
        if self.draining:
            response.force_close()
        return response

    async def _answer(self, upstream: Upstream, request: web.BaseRequest) -> web.StreamResponse:
        target, (major, minor) = request.raw_path, request.version
        size = head_size(request.method, target, request.raw_headers)
        refused = refusal(Head(request.method, target, (major, minor), request.headers, size), self.limits)
        if refused is not None:
            self._count_refusal(refused.status)
            return plain(refused.status, refused.reason, close=True)
        own = self.reserved(path_of(target))
        if own is not None:
            return await own(request)
        # What follows an asked-for change of protocol is parsed apart, without the deadline for heads: such a connection ends here.
        ends = "Upgrade" in request.headers
        exchange = Exchange(self.balancer, upstream, request, self.limits, self.timeouts, lambda: ends or self.draining)
        return await exchange.run()

    def _count_refusal(self, status: int) -> None:
        self.balancer.counts.answered(None, None, status)

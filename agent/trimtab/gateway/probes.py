"""Active checks: every server is asked for its health all the time, traffic or not."""

import asyncio
from collections.abc import Callable

from trimtab.gateway.health import HealthBook
from trimtab.gateway.upstream import Upstream


class Prober:
    """Asks every server as often as the health book wants, and tells the book."""

    def __init__(self, upstream: Upstream, health: HealthBook, clock: Callable[[], float]) -> None:
        self._upstream, self._health, self._clock = upstream, health, clock
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, one task a server: a server that hangs must not delay the check of another."""
        self._tasks = [asyncio.create_task(self._check(server)) for server in range(len(self._upstream.urls))]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _check(self, server: int) -> None:
        config = self._health.config
        await asyncio.sleep(config.check_interval_s * server / len(self._upstream.urls))  # not all in the same moment
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            ok = await self._upstream.is_healthy(server, config.check_path, config.check_timeout_s)
            self._health.probed(server, ok, self._clock())
            await asyncio.sleep(max(0.0, began_s + self._health.next_check_s(server) - loop.time()))

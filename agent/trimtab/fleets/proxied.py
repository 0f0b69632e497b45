"""The live fleet behind a real proxy, which chooses the servers itself: who answered is read from the answer."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from trimtab.core.request_log import F64, I64, Outcomes
from trimtab.core.scenario import Scenario
from trimtab.errors import UsageError
from trimtab.fleets.base import Episodes, Mask
from trimtab.fleets.client import ServerClient
from trimtab.fleets.http import CONCURRENCY, Done, HttpFleet
from trimtab.fleets.proxy_process import ProxyProcess

UNKNOWN: Final = -1  # in the log's `server`: not answered yet, or answered by the proxy itself


class ProxiedFleet(HttpFleet):
    """As HttpFleet, but every request goes to the proxy, and `log.server` is known with the answer only.

    The proxy runs from `reset` to the end of the episode (`wait_until` infinity): each episode starts with a fresh one, and none that
    idles sends health checks while another policy is measured.
    """

    def __init__(self, scenario: Scenario, urls: Sequence[str], name: str, *, concurrency: int = CONCURRENCY) -> None:
        self._process = ProxyProcess(name, urls)
        super().__init__(scenario, urls, concurrency=concurrency)
        self._concurrency = concurrency
        self._place: Mapping[str, int] = {}
        self._episodes: Episodes

    def reset(self, episodes: Episodes) -> None:
        """Wait for stragglers, start a fresh proxy, then the clock. Raises FleetError."""
        if self._in_flight:
            self._take_answers(math.inf)
        self._stop_proxy()
        self._place = places(self.client.states())
        self._process.start()
        self._sender = ServerClient([self._process.url], self._concurrency)
        self._episodes = episodes
        super().reset(episodes)

    def dispatch(self, request: int, server: I64) -> None:
        """Send to the proxy; `server` is not looked at."""
        self._send(request, 0)

    def wait_until(self, deadline_s: F64) -> Outcomes:
        outcomes = self._take_answers(float(deadline_s[0]))
        if math.isinf(deadline_s[0]):
            self._process.require_alive()
            self._stop_proxy()
        return outcomes

    def expected_best(self) -> Mask:
        """Estimated with the model of the fleet, which is told after the episode what went where; unknown servers are left out."""
        self._shadow.reset(self._episodes)
        for request in range(self.log.server.shape[1]):
            server = self.log.server[:, request].astype(np.int64)
            if server[0] != UNKNOWN:
                self._shadow.wait_until(self.log.scheduled_s[:, request].copy())
                self._shadow.dispatch(request, server)
        return self._shadow.expected_best()

    def close(self) -> None:
        self._stop_proxy()  # first: what is still in flight fails at once
        super().close()

    def _record(self, done: Done) -> None:
        super()._record(done)
        self.log.server[0, done[2]] = self._place.get(answering_server(done[4].body), UNKNOWN)

    def _stop_proxy(self) -> None:
        self._process.stop()
        if self._sender is not self.client:
            self._sender.close()
            self._sender = self.client


def answering_server(body: bytes) -> str:
    """The id in a server's answer; empty where the body is not a server's."""
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    found = document.get("server") if isinstance(document, dict) else None
    return found if isinstance(found, str) else ""


def places(states: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Server ids, as the servers state them, to their places. Raises UsageError where two have one id."""
    found = {str(state.get("id")): place for place, state in enumerate(states)}
    if len(found) < len(states):
        raise UsageError(
            f"{len(states)} servers state {len(found)} different ids, so no answer tells who gave it; set another SERVER_ID on each"
        )
    return found

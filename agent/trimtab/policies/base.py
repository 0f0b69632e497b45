"""The one protocol for everything that decides: classical, oracle and learned."""

from typing import Protocol

from trimtab.core.request_log import I64
from trimtab.core.view import View
from trimtab.fleets.base import Oracle

RoutingView = View[Oracle]


class Policy(Protocol):
    """Chooses a server for one request of each of B fleets. A learned policy is deployed as the very object evaluated."""

    name: str

    def reset(self, seeds: I64) -> None:
        """Forget everything; fleet b's own chance (ties, exploration) follows from seeds[b] alone.  # [B]"""

    def select(self, view: RoutingView) -> I64:
        """The server for each fleet's request.  # [B], each available"""

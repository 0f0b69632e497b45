"""Plays a scenario's faults on live servers: each is switched on and off at its time by one thread."""

import logging
import threading
import time
from typing import Any, Final

from trimtab.core.scenario import Fault, Scenario
from trimtab.errors import FleetError
from trimtab.fleets.client import ServerClient

_SERVER_SIDE: Final = frozenset({"slowdown", "fail_fast", "error_share", "freeze", "crash"})  # leave and join are the balancer's


def fault_body(fault: Fault) -> dict[str, Any]:
    """The JSON that `POST /faults` takes."""
    extra = {"slowdown": {"factor": fault.factor}, "fail_fast": {"after_ms": fault.after_s * 1e3}, "error_share": {"share": fault.share}}
    return {"kind": fault.kind, **extra.get(fault.kind, {})}


class FaultTimeline:
    """Does nothing, and starts no thread, for a scenario without server-side faults."""

    def __init__(self, scenario: Scenario, client: ServerClient) -> None:
        index = {server: i for i, server in enumerate(scenario.server_ids)}
        self._faults = [(index[one.server], one) for one in scenario.faults if one.kind in _SERVER_SIDE]
        self._client = client
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, zero_s: float) -> None:
        """Play from `zero_s` on the monotonic clock."""
        if not self._faults:
            return
        self._clear(self._faults)
        self._stopping.clear()
        self._thread = threading.Thread(target=self._play, args=(zero_s,), name="faults", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop playing and switch every fault off."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join()
        self._thread = None
        self._clear(self._faults)

    def _play(self, zero_s: float) -> None:
        edges = sorted({edge for _, fault in self._faults for edge in (fault.start_s, fault.end_s)})
        for edge in edges:
            if self._stopping.wait(min(max(0.0, zero_s + edge - time.monotonic()), threading.TIMEOUT_MAX)):
                return
            self._switch(edge)

    def _switch(self, edge: float) -> None:
        """Set what is on from this moment."""
        for server in {server for server, fault in self._faults if edge in (fault.start_s, fault.end_s)}:
            try:
                self._set(server, edge)
            except FleetError as error:  # a server that died by itself; the other servers' faults must still be played
                logging.getLogger(__name__).warning("fault of server %d not switched: %s", server + 1, error)

    def _set(self, server: int, edge: float) -> None:
        """Servers know faults as a set, so it is cleared and set anew."""
        self._client.clear_faults(server)
        for index, fault in self._faults:
            if index == server and fault.start_s <= edge < fault.end_s:
                self._client.set_fault(server, fault_body(fault))

    def _clear(self, faults: list[tuple[int, Fault]]) -> None:
        for server in sorted({server for server, _ in faults}):
            self._client.clear_faults(server)

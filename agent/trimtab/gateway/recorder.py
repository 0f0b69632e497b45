"""Tells a decision log of every attempt of a gateway; the format is that of `experiments/decision_log.py`."""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import numpy as np

from trimtab.core.observation import FEATURES, observation
from trimtab.core.scenario import Scenario
from trimtab.errors import ResultsError
from trimtab.experiments.decision_log import (
    HEADER,
    MARK,
    Header,
    check_same,
    decisions_in,
    header_of,
    read_deciders,
    read_header,
    segments,
    write_header,
)
from trimtab.experiments.log_lock import hold
from trimtab.gateway.log_writer import LogWriter
from trimtab.gateway.router import Ticket
from trimtab.policies.base import RoutingView

LIMIT_BYTES: Final = 2 * 1024 * 1024 * 1024


class Recorder:
    """A router's observer: it fills in records, and leaves it to a thread to write them. Its methods belong to the event loop's thread.

    `explored` tells of each decision of the policy named `learner` whether chance or a heuristic took it.
    """

    def __init__(
        self,
        folder: Path,
        scenario: Scenario,
        capacity: int,
        limit_bytes: int = LIMIT_BYTES,
        learner: str = "",
        explored: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take over the log in `folder`, or begin one. Raises ResultsError: of another scenario, written by somebody else, no room."""
        header = header_of(scenario, FEATURES)
        self._lock = _claimed(folder, header)
        self.decisions_before = decisions_in(folder, header.record)
        self._explored, self._learner, self._clock = explored, learner, clock
        self._names = read_deciders(folder)
        before = segments(folder)
        session = before[-1].number + 1 if before else 1
        self._writer = LogWriter(folder, header.record.itemsize, limit_bytes, session, self.decisions_before)
        self._open = np.zeros(capacity, dtype=header.record)  # by slot of the router
        self._open["mark"], self._open["session"] = MARK, session
        self._next = 0
        self._in_flight: deque[int] = deque()  # ids by age, with some that have ended behind the oldest
        self._ended: set[int] = set()  # those

    @property
    def lost(self) -> int:
        """Decisions that could not be written."""
        return self._writer.lost

    def rehearse(self, view: RoutingView) -> None:
        """Compile what a decision needs, before a request waits for it."""
        observation(view)

    def decided(self, ticket: Ticket, view: RoutingView) -> None:
        """A decision was made; the view is still that in which it was made."""
        row = self._open[ticket.slot]
        row["id"], row["sent_s"], row["kind"], row["server"] = self._next, ticket.sent_s, ticket.kind, ticket.server
        row["decided_by"] = self._index(ticket.decided_by)
        row["explored"] = self._explored() and ticket.decided_by == self._learner
        row["mask"], row["seen"] = view.available[0], observation(view)[0]
        self._in_flight.append(self._next)
        self._next += 1

    def ended(self, ticket: Ticket, status: int, latency_s: float, service_s: float, queue_s: float) -> None:
        """That attempt has ended."""
        row = self._open[ticket.slot]
        row["status"], row["wall_s"] = status, self._clock()
        row["latency_s"], row["service_s"], row["queue_s"] = latency_s, service_s, queue_s
        row["oldest"] = self._oldest_after(int(row["id"]))
        self._writer.put(row.tobytes())

    def close(self) -> None:
        """Write what is left and give the log back. Attempts still in flight are not part of it."""
        self._writer.close()
        self._lock.close()

    def _oldest_after(self, ended: int) -> int:
        """The oldest id in flight, now that `ended` is not any more; the next one where none is."""
        self._ended.add(ended)
        while self._in_flight and self._in_flight[0] in self._ended:
            self._ended.remove(self._in_flight.popleft())
        return self._in_flight[0] if self._in_flight else self._next

    def _index(self, name: str) -> int:
        if name not in self._names:
            self._names.append(name)
            self._writer.name(tuple(self._names))
        return self._names.index(name)


def _claimed(folder: Path, header: Header) -> IO[str]:
    """The lock of a log that can take decisions with this header; its header is written where there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = hold(folder)
    except OSError as error:
        raise ResultsError(f"cannot record into {folder}: {error.strerror}; name another folder with --record") from error
    try:
        if (folder / HEADER).exists():
            check_same(folder, read_header(folder), header)
        else:
            write_header(folder, header)
    except ResultsError:
        lock.close()
        raise
    return lock

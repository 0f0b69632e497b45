"""Reads a decision log while it is written, and hands its decisions out in the order in which they were made.

Records stand in the order in which attempts ended. A decision is settled when it and all earlier ones of its session have ended, which
the records say themselves; so what is handed out, and where the breaks are, depends on the log alone, not on when it is read.
"""

import base64
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from trimtab.experiments.decision_log import Header, Records, Segment, records_in, segments

AT_ONCE: Final = 512  # records read in one go
# Settled or not, the oldest of so many that wait is handed out: one answer that trickles for an hour would otherwise hold up all learning.
MOST_WAITING: Final = 4096


class Step(NamedTuple):
    """One decision. `broken`: it does not follow the one before; a session began, or decisions between them were lost."""

    record: np.void
    broken: bool


class LogReader:
    """Where one learner stands in one log. The state it saves is complete: nothing is read twice, nothing left out."""

    def __init__(self, folder: Path, header: Header) -> None:
        self.late = 0  # decisions that ended after MOST_WAITING later ones; they are left out
        self.missed = 0  # decisions that were deleted before they were read
        self._folder, self._record = folder, header.record
        self._segment, self._place = 0, 0  # the next record to be read; the first segment is number 1
        self._session, self._next, self._oldest = 0, 0, 0  # of this session: the next id to be handed out, all below `_oldest` have ended
        self._follows = False  # the next one handed out follows the last
        self._gone = 0  # decisions of the log up to here, deleted ones included
        self._waiting: dict[int, np.void] = {}
        self._ready: deque[Step] = deque()

    def next(self) -> Step | None:
        """The next decision in order; None where none has been settled yet."""
        while not self._ready:
            records = self._more()
            if not len(records):
                return None
            for record in records:
                self._take(record)
        return self._ready.popleft()

    def finish(self) -> None:
        """Nobody writes any more: what has not ended was lost, and the rest is settled."""
        self._settle(until=None)

    def rewind(self) -> None:
        """Begin again at the first record that is still there, in a new stream. Only after `finish`, when `next` has given all."""
        self._segment, self._place, self._session, self._next, self._oldest, self._gone = 0, 0, 0, 0, 0, 0
        self._follows = False

    def state_dict(self) -> dict[str, Any]:
        """A copy in plain values."""
        numbers = (self._segment, self._place, self._session, self._next, self._oldest, self._follows, self._gone, self.late, self.missed)
        return {
            "numbers": [int(one) for one in numbers],
            "waiting": packed(self._waiting.values()),
            "ready": packed(step.record for step in self._ready),
            "broken": [step.broken for step in self._ready],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._segment, self._place, self._session, self._next, self._oldest, follows, self._gone, self.late, self.missed = state["numbers"]
        self._follows = bool(follows)
        self._waiting = {int(one["id"]): one for one in unpacked(state["waiting"], self._record)}
        ready = unpacked(state["ready"], self._record)
        self._ready = deque(Step(record, broken) for record, broken in zip(ready, state["broken"], strict=True))

    def _more(self) -> Records:
        """The next records of the log, of one segment. A segment is left when a later one was there before it gave nothing more."""
        while True:
            later = [one for one in segments(self._folder) if one.number >= self._segment]
            if not later:
                return np.empty(0, dtype=self._record)
            if later[0].number != self._segment:
                self._enter(later[0])
            records = records_in(later[0], self._record, self._place, AT_ONCE)
            self._place += len(records)
            self._gone += len(records)
            if len(records) or len(later) == 1:
                return records
            self._enter(later[1])

    def _enter(self, segment: Segment) -> None:
        if self._segment or self._gone:  # not at the very first one: what was deleted before that, nobody missed
            self.missed += max(0, segment.before - self._gone)
        self._segment, self._place, self._gone = segment.number, 0, segment.before

    def _take(self, record: np.void) -> None:
        session, number = int(record["session"]), int(record["id"])
        if session != self._session:
            self.finish()
            self._session, self._next, self._oldest, self._follows = session, 0, 0, False
        if number < self._next:
            self.late += 1
        else:
            self._waiting[number] = record
        self._oldest = max(self._oldest, int(record["oldest"]))
        self._settle(until=self._oldest)

    def _settle(self, until: int | None) -> None:
        """Make ready what waits below the id `until` (None: everything), lowest first, and more where too much waits."""
        while self._waiting:
            if until is not None and self._next >= until and len(self._waiting) <= MOST_WAITING:
                return
            # Ids are given in order, so the next one is there but after a loss.
            number = self._next if self._next in self._waiting else min(self._waiting)
            if until is not None and number >= until and len(self._waiting) <= MOST_WAITING:
                return
            broken = not (self._follows and number == self._next)
            self._ready.append(Step(self._waiting.pop(number), broken))
            self._next, self._follows = number + 1, True


def packed(records: Iterable[np.void]) -> str:
    """Records as text, which a weights-only load accepts."""
    return base64.b64encode(b"".join(one.tobytes() for one in records)).decode("ascii")


def unpacked(text: str, record: np.dtype[np.void]) -> Records:
    """The reverse of `packed`."""
    return np.frombuffer(base64.b64decode(text), dtype=record)

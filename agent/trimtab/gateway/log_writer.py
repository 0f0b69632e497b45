"""Writes records into the segments of a decision log, in a thread: a disk may be slow, and the event loop must not wait for it.

Where the disk refuses, records wait for the next try and, beyond MOST_BUFFERED, are lost and counted; a reader sees the gap by the ids.
"""

import contextlib
import os
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final

from trimtab.errors import ResultsError
from trimtab.experiments.decision_log import Segment, segments, write_deciders

FLUSH_S: Final = 0.1  # a kill costs the decisions that ended since
SEGMENT_BYTES: Final = 64 * 1024 * 1024
FEWEST_SEGMENTS: Final = 4  # of a log at its limit: deleting the oldest must not take most of what there is
MOST_BUFFERED: Final = 20_000  # records, seven megabytes for four servers
RETRY_S: Final = 5.0  # after a write that failed
END_S: Final = 10.0  # for the last records


class LogWriter:
    """The segments of one session. `put`, `name` and `close` belong to one thread, which never waits but in `close`."""

    def __init__(self, folder: Path, record_bytes: int, limit_bytes: int, number: int, before: int) -> None:
        """`number` of the first segment, `before` which `before` decisions were recorded; the log is kept to about `limit_bytes`."""
        self._folder, self._size, self._limit = folder, record_bytes, limit_bytes
        self._room = max(1, min(SEGMENT_BYTES, limit_bytes // FEWEST_SEGMENTS) // record_bytes)  # records in a segment
        self._number, self._before = number, before
        self._file: int | None = None
        self._written = 0  # records of the present segment
        self._queue: deque[bytes] = deque()
        self._names: tuple[str, ...] | None = None  # still to be written
        self._overflown, self._left = 0, 0
        self._retry_s, self._told, self._pruned = 0.0, False, False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Records that were not and will not be written."""
        return self._overflown + self._left

    def put(self, record: bytes) -> None:
        """Write this record within about FLUSH_S, after all before it."""
        if len(self._queue) >= MOST_BUFFERED:
            self._overflown += 1
        else:
            self._queue.append(record)

    def name(self, names: tuple[str, ...]) -> None:
        """Write these names of deciders before any record that comes later."""
        self._names = names

    def close(self) -> None:
        """Write what is left, for END_S at most."""
        self._over.set()
        self._thread.join(END_S)
        self._left = len(self._queue)
        if self.lost:
            _say(f"{self.lost} decisions could not be recorded in {self._folder}")

    def _run(self) -> None:
        while not self._over.wait(FLUSH_S):
            if time.monotonic() >= self._retry_s:
                self._flush()
        self._flush()
        self._leave()

    def _flush(self) -> None:
        try:
            while self._queue:
                self._write()
        except (OSError, ResultsError) as error:
            self._retry_s = time.monotonic() + RETRY_S
            self._leave()
            if not self._told:
                self._told = True
                reason = (error.strerror if isinstance(error, OSError) else None) or error
                _say(f"cannot record decisions in {self._folder}: {reason}; routing goes on, and recording is tried again")

    def _write(self) -> None:
        """Write what fits into the present segment, or begin the next one."""
        if self._file is None or self._written >= self._room:
            self._begin()
        count = min(len(self._queue), self._room - self._written)
        records = [self._queue[place] for place in range(count)]  # they stay in the queue until they are on the disk
        if self._names is not None:  # after the records were looked at: a name is set before its first record is put
            names, self._names = self._names, None
            try:
                write_deciders(self._folder, names)
            except ResultsError:
                self._names = self._names or names
                raise
        self._append(b"".join(records))
        for _ in range(count):
            self._queue.popleft()
        self._written += count

    def _append(self, content: bytes) -> None:
        """All of it or, as far as the disk can still cut a file, nothing."""
        assert self._file is not None  # noqa: S101 -- `_write` has opened it
        try:
            while content:
                content = content[os.write(self._file, content) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._written * self._size)
            raise

    def _begin(self) -> None:
        self._leave()
        path = Segment.at(self._folder, self._number, self._before).path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._number += 1
        self._prune()

    def _leave(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._before, self._written = None, self._before + self._written, 0

    def _prune(self) -> None:
        """Delete the oldest segments until the new one fits."""
        found = segments(self._folder)
        sizes = [one.path.stat().st_size for one in found]
        total = sum(sizes) + self._room * self._size
        for one, size in zip(found[:-1], sizes, strict=False):
            if total <= self._limit:
                return
            one.path.unlink(missing_ok=True)
            total -= size
            if not self._pruned:
                self._pruned = True
                _say(f"{self._folder} has reached {self._limit / 1024**2:g} MiB; its oldest decisions are deleted from now on")


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more: no reason to stop recording
        sys.stderr.write(f"note: {text}\n")
        sys.stderr.flush()

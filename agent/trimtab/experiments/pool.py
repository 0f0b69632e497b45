"""Work spread over processes: results as they come, and nothing left behind by Ctrl-C, an error or a dead process."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from trimtab.errors import TrimtabError

Unit = TypeVar("Unit")
Result = TypeVar("Result")


def in_processes(work: Callable[[Unit], Result], units: Sequence[Unit], jobs: int) -> Generator[tuple[int, Result], None, None]:
    """(place in `units`, `work(unit)`) in the order of completion, `jobs` at a time, begun in the order of `units`.

    `work` is a function of a module, and units and results can be pickled: the processes are new ones, which share no state with this
    one (a fork would copy locks that threads hold). Close the iterator to end them. Raises TrimtabError where a process died.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(jobs, max(1, len(units))), multiprocessing.get_context("spawn"), _settle)
    places: dict[Future[Result], int] = {}
    try:
        _submit(pool, work, units, places)
        for future in as_completed(places):
            yield places[future], future.result()
    except BrokenProcessPool as error:
        step = "look for a lack of memory in the system's log, and try again with --jobs 1"
        raise TrimtabError(f"one of {jobs} worker processes died; {step}") from error
    finally:
        if not all(future.done() for future in places):
            _abandon(places, set(multiprocessing.active_children()) - others)
        pool.shutdown()


class Workers:
    """Processes that are given one piece of work after the other; use it as a context manager, which ends them."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._others = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _settle)
        self._given: list[Future[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not all(one.done() for one in self._given):
            _abandon(self._given, set(multiprocessing.active_children()) - self._others)
        self._pool.shutdown()

    def give(self, work: Callable[[Unit], Result], unit: Unit) -> Callable[[], Result]:
        """Begin `work(unit)`, terms as for `in_processes`; calling what is returned waits for the result."""
        with _without_interrupts(), self._in_one_line():
            future = self._pool.submit(work, unit)
            self._given = [*(one for one in self._given if not one.done()), future]
        return lambda: self._result(future)

    def _result(self, future: Future[Result]) -> Result:
        with self._in_one_line():
            return future.result()

    @contextmanager
    def _in_one_line(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool as error:
            raise TrimtabError(f"one of {self._jobs} worker processes died; look for a lack of memory in the system's log") from error


def _abandon(waiting: Iterable[Future[Result]], processes: Iterable[multiprocessing.process.BaseProcess]) -> None:
    """End work that nobody waits for any more; a piece of it may have taken a minute yet."""
    for future in waiting:
        future.cancel()
    for process in processes:
        process.terminate()


def _submit(pool: ProcessPoolExecutor, work: Callable[[Unit], Result], units: Sequence[Unit], places: dict[Future[Result], int]) -> None:
    """Fill `places`, which must be known when Ctrl-C, put off until now, arrives."""
    with _without_interrupts():
        for place, unit in enumerate(units):
            places[pool.submit(work, unit)] = place


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, not even while they are still importing; here it is only put off."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _settle() -> None:
    """In a new process: Ctrl-C is the parent's, which ends its workers, and no worker outlives a parent that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)

"""Questions from other threads to what the event loop's thread owns: asked there, answered here, with a time limit."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any, Final, TypeVar

from trimtab.gateway.control import StateUnavailableError

PATIENCE_S: Final = 1.0  # the page gives up after two
Answer = TypeVar("Answer")


class LoopState:
    """`control.StateSource` of a running gateway: `build` runs on the loop's thread, so it sees no half-written books."""

    def __init__(self, loop: asyncio.AbstractEventLoop, build: Callable[[], dict[str, Any]]) -> None:
        self._loop, self._build = loop, build

    def snapshot(self) -> dict[str, Any]:
        return ask(self._loop, self._build)


def ask(loop: asyncio.AbstractEventLoop, question: Callable[[], Answer], patience_s: float = PATIENCE_S) -> Answer:
    """The answer of `question`, run on the loop's thread; never call it there. Raises `StateUnavailableError`, and what it raises."""
    answer: concurrent.futures.Future[Answer] = concurrent.futures.Future()

    def run() -> None:
        if not answer.set_running_or_notify_cancel():
            return  # nobody waits any more
        try:
            answer.set_result(question())
        except Exception as error:  # noqa: BLE001 -- it belongs to the thread that asked
            answer.set_exception(error)

    try:
        loop.call_soon_threadsafe(run)
        return answer.result(patience_s)
    except TimeoutError as error:
        answer.cancel()
        raise StateUnavailableError(f"the gateway did not say its state within {patience_s:g} s; ask again") from error
    except RuntimeError as error:
        if loop.is_closed():
            raise StateUnavailableError("the gateway has ended; start it again") from error
        raise

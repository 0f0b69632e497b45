"""Progress for people: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S: Final = 10.0  # plain lines this far apart: a log of a long run stays readable


class Bar:
    """`update(done, text)` as work goes on; writes to stderr, so that stdout holds results alone."""

    def __init__(self, title: str, total: int, *, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        console = Console(stderr=True)
        self._progress: Progress | None = None
        self._title, self._total, self._clock = title, total, clock
        self._before, self._before_s, self._said_s = done, clock(), -LINE_EVERY_S  # where the last line was
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._progress = Progress(*columns, console=console)
            self._task = self._progress.add_task(title, total=total, completed=done, text="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, text: str) -> None:
        """`done` of the total are done; `text` says how it goes."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, text=text)
            return
        now = self._clock()
        if done < self._total and now - self._said_s < LINE_EVERY_S:
            return
        # From the pace since the last line: a run that goes on over live servers is a hundred times slower than in the twin.
        left = (now - self._before_s) / max(1, done - self._before) * (self._total - done)
        self._before, self._before_s, self._said_s = done, now, now
        print(f"{self._title} {done}/{self._total}  {text}  about {left:.0f} s left", file=sys.stderr, flush=True)


def training_text(row: Mapping[str, str | int | float | None]) -> str:
    """Reward and whatever else the row measured, in a few words."""
    parts = [f"phase {row['phase']}", f"reward {row['average_reward']:.2f}"]
    for name, label in (("mean_latency_ms", "mean {:.1f} ms"), ("p99_latency_ms", "p99 {:.0f} ms"), ("epsilon", "epsilon {:.2f}")):
        value = row.get(name)
        if isinstance(value, float) and value == value:
            parts.append(label.format(value))
    return "  ".join(parts)

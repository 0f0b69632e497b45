"""Progress for people: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S: Final = 10.0  # plain lines this far apart: a log of a long run stays readable


class Bar:
    """`update(done, text)` as work goes on; writes to stderr, so that stdout holds results alone.

    `costs`: about how long each part takes in relation to the others, in the order in which they are done; left out, all the same.
    """

    def __init__(
        self, title: str, total: int, *, done: int = 0, clock: Callable[[], float] = time.monotonic, costs: Sequence[float] = ()
    ) -> None:
        console = Console(stderr=True)
        self._progress: Progress | None = None
        self._title, self._total, self._clock = title, total, clock
        self._costs = tuple(costs) or (1.0,) * total
        self._work = (0.0, *accumulate(self._costs))  # [total + 1] of so many parts
        self._is_even = not costs
        self._before, self._before_s, self._said_s = done, clock(), -LINE_EVERY_S  # where the last line was
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[count]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._progress = Progress(*columns, console=console)
            self._task = self._progress.add_task(title, total=self._work[total], text="", count="")
            self._progress.update(self._task, completed=self._work[done])

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
            self._progress.update(self._task, completed=self._work[done], text=text, count=f"{done}/{self._total}")
            return
        now = self._clock()
        if done < self._total and now - self._said_s < LINE_EVERY_S:
            return
        worked = max(self._work[done] - self._work[self._before], min(self._costs, default=1.0))
        left = (now - self._before_s) / worked * (self._work[-1] - self._work[done])
        self._said_s = now
        if self._is_even:  # the pace since the last line: a run that goes on over live servers is a hundred times slower than in the twin
            self._before, self._before_s = done, now
        print(f"{self._title} {done}/{self._total}  {text}  about {left:.0f} s left", file=sys.stderr, flush=True)


def training_text(row: Mapping[str, str | int | float | None]) -> str:
    """Reward and whatever else the row measured, in a few words."""
    parts = [f"phase {row['phase']}", f"reward {row['average_reward']:.2f}"]
    for name, label in (("mean_latency_ms", "mean {:.1f} ms"), ("p99_latency_ms", "p99 {:.0f} ms"), ("epsilon", "epsilon {:.2f}")):
        value = row.get(name)
        if isinstance(value, float) and value == value:
            parts.append(label.format(value))
    return "  ".join(parts)

"""Progress for people: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S: Final = 10.0  # plain lines this far apart: a log of a long run stays readable
SHORT_S, LONG_S = 30.0, 86_400.0  # over which a bar's pace is taken: the latest, or the whole run's where parts differ much


class Bar:
    """`update(done, text)` as work goes on; writes to stderr, so that stdout holds results alone.

    `work`, where parts differ much: the sum of about how long each takes in relation to the others; `update` is then told of how much of it
    is done, too.
    """

    def __init__(
        self, title: str, total: int, *, done: int = 0, clock: Callable[[], float] = time.monotonic, work: float | None = None
    ) -> None:
        console = Console(stderr=True)
        self._progress: Progress | None = None
        self._title, self._total, self._clock = title, total, clock
        self._work, self._is_even = (float(total), True) if work is None else (work, False)
        self._before, self._before_s, self._said_s = float(done), clock(), -LINE_EVERY_S  # where the last line was
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[count]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
            )
            period_s = SHORT_S if self._is_even else LONG_S
            self._progress = Progress(*columns, console=console, speed_estimate_period=period_s)
            self._task = self._progress.add_task(title, total=self._work, text="", count=f"{done}/{total}")
            self._progress.update(self._task, completed=self._before)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, text: str, worked: float | None = None) -> None:
        """`done` of the total are done, `worked` of the work; `text` says how it goes."""
        so_far = float(done) if worked is None else worked
        if self._progress is not None:
            self._progress.update(self._task, completed=so_far, text=text, count=f"{done}/{self._total}")
            return
        now = self._clock()
        if done < self._total and now - self._said_s < LINE_EVERY_S:
            return
        since = so_far - self._before
        left = (now - self._before_s) / (since if since > 0.0 else 1.0) * max(0.0, self._work - so_far)
        self._said_s = now
        if self._is_even:  # the pace since the last line: a run that goes on over live servers is a hundred times slower than in the twin
            self._before, self._before_s = so_far, now
        print(f"{self._title} {done}/{self._total}  {text}  about {left:.0f} s left", file=sys.stderr, flush=True)


def training_text(row: Mapping[str, str | int | float | None]) -> str:
    """Reward and whatever else the row measured, in a few words."""
    parts = [f"phase {row['phase']}", f"reward {row['average_reward']:.2f}"]
    for name, label in (("mean_latency_ms", "mean {:.1f} ms"), ("p99_latency_ms", "p99 {:.0f} ms"), ("epsilon", "epsilon {:.2f}")):
        value = row.get(name)
        if isinstance(value, float) and value == value:
            parts.append(label.format(value))
    return "  ".join(parts)

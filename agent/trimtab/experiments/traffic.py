"""A run that learns from recorded decisions: of a gateway that routes live traffic meanwhile, or of one that has ended."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from trimtab.dqn.checkpoint import save_checkpoint
from trimtab.errors import ResultsError, UsageError
from trimtab.experiments.decision_log import Header, decisions_in, read_header
from trimtab.experiments.log_lock import holder
from trimtab.experiments.log_reader import LogReader
from trimtab.experiments.log_training import EPISODE, LogTrainer
from trimtab.experiments.runs import RunFolder
from trimtab.experiments.session import RunSession, Settings
from trimtab.experiments.train import Row
from trimtab.problems.base import Problem, Task

PUBLISH_S: Final = 2.0  # between models that the gateway is given


class RecordedSession(RunSession):
    """Goes through the log of `settings.log`, `settings.epochs` times. Needs no servers, and with the same seed always learns the same."""

    trainer: LogTrainer

    def __init__(self, problem: Problem, settings: Settings, folder: RunFolder, device: torch.device | str) -> None:
        if settings.log is None:
            raise UsageError("no log is named; allowed: a folder that app.py --record wrote; give it with --from-log")
        self.log = Path(settings.log)
        self._header = read_header(self.log)
        self._total = settings.epochs * -(-decisions_in(self.log, self._header.record) // EPISODE)
        super().__init__(problem, settings, folder, len(self._header.servers), device)
        _check(problem, settings, self.log, self._header, self._choices)
        self._epoch = 0
        self.trainer = LogTrainer(self.agent, problem.training_metrics)
        self._reader = LogReader(self.log, self._header)
        self.trainer.open(self._header)

    @property
    def where(self) -> str:
        return f"decisions recorded in {self.log}"

    @property
    def total(self) -> int:
        """Episodes at the end of the run, as far as the log is known."""
        return max(self._total, self.trainer.episode)

    def _prepare(self) -> None:
        """The log is open already."""

    def _batches(self) -> Iterator[list[Row]]:
        while self._epoch < self.settings.epochs:
            yield from self._settled()
            self._reader.finish()
            yield from self._settled()
            row = self.trainer.rest()
            self._epoch += 1
            self._reader.rewind()
            if row is not None:
                yield [row]

    def _settled(self) -> Iterator[list[Row]]:
        while (step := self._reader.next()) is not None:
            row = self.trainer.take(step)
            if row is not None:
                yield [row]

    def _position(self) -> dict[str, Any]:
        return {"reader": self._reader.state_dict(), "trainer": self.trainer.state_dict(), "epoch": self._epoch}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._reader.load_state_dict(state["reader"])
        self.trainer.load_state_dict(state["trainer"], self._header)
        self._epoch = state["epoch"]


class TrafficSession(RunSession):
    """Learns from the log of a gateway while that routes, and gives it the newer model every PUBLISH_S.

    `idle` is called where the log holds nothing new: it waits a moment, and raises where nothing will come any more.
    """

    trainer: LogTrainer

    def __init__(
        self, problem: Problem, settings: Settings, folder: RunFolder, device: torch.device | str, idle: Callable[[], None]
    ) -> None:
        super().__init__(problem, settings, folder, problem.choices(Task(settings.scenario, "http")), device)
        self.trainer = LogTrainer(self.agent, problem.training_metrics)
        self.at = ""  # where requests are to be sent
        self._idle = idle
        self._reader: LogReader | None = None
        self._stored: Mapping[str, Any] | None = None  # of the run that is resumed, until the log can be read
        self._published_s, self._published = 0.0, -1  # when, and how many gradient steps it had seen

    @property
    def where(self) -> str:
        return f"the traffic of the gateway at {self.at}"

    @property
    def total(self) -> int:
        return self.settings.episodes

    def start(self, *, overwrite: bool) -> None:
        super().start(overwrite=overwrite)
        self.publish()

    def resume(self) -> None:
        super().resume()
        self.publish()

    def publish(self) -> None:
        """Give the gateway the present model."""
        save_checkpoint(self.folder.live, self.checkpoint())
        self._published_s, self._published = time.monotonic(), self.agent.updates

    def _prepare(self) -> None:
        """The gateway comes later: it needs the first model, and that a folder."""

    def _make_room(self, *, overwrite: bool) -> None:
        _forget_log(self.folder, overwrite=overwrite)

    def _batches(self) -> Iterator[list[Row]]:
        reader = self._open_log()
        while self.trainer.episode < self.total:
            if self.agent.updates != self._published and time.monotonic() - self._published_s > PUBLISH_S:
                self.publish()
            step = reader.next()
            if step is None:
                self._idle()
                continue
            row = self.trainer.take(step)
            if row is not None:
                self._tell_lost(reader)
                yield [row]
        self.publish()

    def _open_log(self) -> LogReader:
        header = read_header(self.folder.decisions)
        _check(self.problem, self.settings, self.folder.decisions, header, self._choices)
        self._reader = LogReader(self.folder.decisions, header)
        self.trainer.open(header)
        if self._stored is not None:
            self._reader.load_state_dict(self._stored["reader"])
            self.trainer.load_state_dict(self._stored["trainer"], header)
        return self._reader

    def _tell_lost(self, reader: LogReader) -> None:
        if reader.missed:
            self.notes.append(
                f"{reader.missed} decisions were deleted before they were learned from; learning is too slow for this traffic"
            )
            reader.missed = 0

    def _position(self) -> dict[str, Any]:
        if self._reader is None:
            return {} if self._stored is None else {key: self._stored[key] for key in ("reader", "trainer")}
        return {"reader": self._reader.state_dict(), "trainer": self.trainer.state_dict()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._stored = state if "reader" in state else None


def _check(problem: Problem, settings: Settings, log: Path, header: Header, choices: int) -> None:
    """Raises where the log's decisions are not of this problem's kind, or are to be rewarded by what it does not hold."""
    if header.features != problem.features or len(header.servers) != choices:
        found = f"{len(header.servers)} servers and {len(header.features)} features"
        raise ResultsError(
            f"{log} holds decisions with {found}; wanted {choices} and those of {problem.id}; name another log or record anew"
        )
    if settings.reward not in ("", "response"):
        raise UsageError(f"reward {settings.reward!r} cannot be told from recorded decisions; allowed: response; leave --reward out")


def _forget_log(folder: RunFolder, *, overwrite: bool) -> None:
    """Delete the decisions of a run that is replaced. Raises ResultsError where that is not asked for, or a gateway still writes them."""
    if not folder.decisions.exists():
        return
    writer = holder(folder.decisions)
    if writer is not None:
        raise ResultsError(f"{folder.decisions} is being written by process {writer}; end that one, or go on with --resume")
    if not overwrite:
        remedies = "learn from them with --from-log, delete them with --overwrite, or choose another folder with --out"
        raise ResultsError(f"{folder.decisions} holds recorded decisions; {remedies}")
    shutil.rmtree(folder.decisions, ignore_errors=True)

"""A training run as the user sees it: new or resumed, saved on the way, finished with a final checkpoint."""

import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import torch

from trimtab.core.tally import Tallies
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.checkpoint import Checkpoint, load_checkpoint, load_network, load_state, save_checkpoint, save_state
from trimtab.dqn.config import DQNConfig
from trimtab.errors import CheckpointError, UsageError
from trimtab.experiments.csv_log import CsvLog
from trimtab.experiments.curriculum import CHECKPOINT_EVERY, EPISODES
from trimtab.experiments.log_training import LIVE_PHASE
from trimtab.experiments.rollouts import RolloutTrainer
from trimtab.experiments.runs import RunFolder, hardware
from trimtab.experiments.train import Row, Stage, Trainer, training_columns
from trimtab.problems.base import Policy, Problem, Task, World

SAVE_EVERY_S: Final = 15.0  # between resume states: sixty megabytes a save, and a kill costs no more work than this


@dataclass(frozen=True, slots=True)
class Settings:
    """What makes two runs the same run. `episodes` and `live_episodes` say only how far it goes."""

    problem: str = "routing"
    scenario: str = "compose-default"
    backend: str = "hybrid"
    servers: tuple[str, ...] = ()
    seed: int = 0
    reward: str = ""  # what is rewarded; empty: the problem's default
    heuristic: str | None = None
    episodes: int = EPISODES
    live_episodes: int = 20
    decisions: int | None = None  # of every episode; None: the curriculum's
    learning: str = "td"  # in the twin: td, from rewards, or rollouts
    learner: DQNConfig = field(default_factory=DQNConfig)
    log: str | None = None  # folder of recorded decisions that are learned from; None: decisions of its own
    epochs: int = 1  # how often the log is gone through
    init: str | None = None  # checkpoint whose weights it begins with; None: weights of chance

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"servers": list(self.servers), "learner": self.learner.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        learner = DQNConfig.from_dict(values["learner"])
        return cls(**{**values, "servers": tuple(values["servers"]), "learner": learner})


def resumed_settings(folder: RunFolder, changes: Mapping[str, Any]) -> Settings:
    """The settings of the run in `folder`; `changes` may only say how far it goes and where its servers are.

    Others may be named as they are stored; of the learner's, some of them.
    """
    if not folder.resume_state.exists():
        raise CheckpointError(f"nothing to resume in {folder.root}: {folder.resume_state} is missing; start a run without --resume")
    stored = Settings.from_dict(load_state(folder.resume_state)["settings"]).to_dict()  # complete, where an older version wrote it
    free = {"episodes", "live_episodes", "servers", "epochs"}
    for key, value in changes.items():
        found, named = stored.get(key), value
        if key == "learner":  # some of many: only what differs is worth saying
            named = {name: one for name, one in value.items() if stored[key].get(name) != one}
            found = {name: stored[key].get(name) for name in named}
        if key not in free and named != found:
            raise UsageError(f"--resume continues a run with {key} = {found!r}, not {named!r}; leave the option out or start a new run")
    return Settings.from_dict({**stored, **{key: value for key, value in changes.items() if key in free}})


class Training(Protocol):
    """What makes rows of episodes, as a session and its watchers see it."""

    episode: int  # episodes done
    tallies: Tallies
    world: World | None


class RunSession(ABC):
    """Owns the agent and the files of one run; use it as a context manager. Where decisions come from is the subclass's."""

    trainer: Training

    def __init__(self, problem: Problem, settings: Settings, folder: RunFolder, choices: int, device: torch.device | str) -> None:
        torch.set_num_threads(1)  # the learner halves its batches over threads of its own; torch's would spin beside them
        self.problem = problem
        self.settings = settings
        self.folder = folder
        self.agent = DQNAgent(settings.learner, len(problem.features), choices, settings.seed, device)
        self.notes: list[str] = []
        self._choices = choices
        self._log = CsvLog(folder.metrics, training_columns(problem))
        self._closing = contextlib.ExitStack()
        self._saved_s = 0.0
        self._is_ours = False

    @property
    @abstractmethod
    def where(self) -> str:
        """What it trains on, in a few words."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Episodes at the end of the run."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._is_ours and error is not None and not isinstance(error, KeyboardInterrupt):
            self._log_error(error)  # not before: what was refused must not leave traces in a folder of another run
        self._closing.close()

    def start(self, *, overwrite: bool) -> None:
        """Claim the folder for a new run and save its first state. Nothing is touched where that is refused or no server answers."""
        if self.settings.learner.kept > 0 and self.settings.init is None:
            found = f"learner setting kept is {self.settings.learner.kept:g} and the run begins with no model to hold to"
            raise UsageError(f"{found}; name one with --init, or leave kept at 0")
        self.folder.require_free(overwrite=overwrite)
        self._prepare()
        if self.settings.init is not None:
            self._begin_with(Path(self.settings.init))
        self._make_room(overwrite=overwrite)
        self.folder.claim(overwrite=overwrite)
        self._is_ours = True
        self.folder.write_config({**self.settings.to_dict(), **self._described()})
        self.save()  # before the CSV: a run killed in between can be resumed, one killed earlier has left nothing
        self._log.create()

    def resume(self) -> None:
        """Become the run that the folder's state describes, and cut its CSV to it."""
        self._prepare()
        state = load_state(self.folder.resume_state)
        self._is_ours = True
        self.agent.load_state_dict(state["agent"])
        self.trainer.episode = state["episode"]
        self._restore(state)
        self._log.cut(state["episode"])
        for key, here in hardware().items():
            if state["hardware"][key] != here:
                found = f"the run had {key} = {state['hardware'][key]}, now {here}"
                self.notes.append(f"{found}: it goes on, but not bit for bit as it would have")

    def run(self) -> Iterator[list[Row]]:
        """Train to the end. Rows are on disk before they are yielded, and Ctrl-C at any moment keeps the last state."""
        for rows in self._batches():
            self._log.append(rows)
            if self.trainer.episode % CHECKPOINT_EVERY == 0:
                save_checkpoint(self.folder.checkpoint(self.trainer.episode), self.checkpoint())
            if time.monotonic() - self._saved_s > SAVE_EVERY_S:
                self.save()
            yield rows
        self.save()
        save_checkpoint(self.folder.final, self.checkpoint())

    def save(self) -> None:
        """Replace resume.pth by the present state: everything that going on needs."""
        state = {"settings": self.settings.to_dict(), "episode": self.trainer.episode, "agent": self.agent.state_dict()}
        save_state(self.folder.resume_state, {**state, **self._position(), "hardware": hardware()})
        self._saved_s = time.monotonic()

    def checkpoint(self) -> Checkpoint:
        """The present policy, small enough to keep many."""
        return Checkpoint(
            problem=self.problem.id,
            observation=self.problem.features,
            servers=self._choices,
            config=self.settings.learner,
            episode=self.trainer.episode,
            network=self.agent.policy_network.state_dict(),
            optimizer=self.agent.optimizer_state,
        )

    @abstractmethod
    def _prepare(self) -> None:
        """Open what decisions come from, or refuse; files are not touched yet."""

    def _make_room(self, *, overwrite: bool) -> None:  # noqa: B027 -- most runs keep nothing beside their folder's own files
        """Delete what a run that is replaced has left, or refuse."""

    @abstractmethod
    def _batches(self) -> Iterator[list[Row]]:
        """Rows as they come. The state may be saved at every yield."""

    def _begin_with(self, path: Path) -> None:
        """Raises CheckpointError where the model there is none of this problem, or of another shape."""
        found = load_checkpoint(path, problem=self.problem.id, observation=self.problem.features)
        self.agent.adopt(load_network(found, self._choices))

    def _described(self) -> dict[str, Any]:
        """What config.json says of where decisions come from."""
        return {}

    def _position(self) -> dict[str, Any]:
        """What resume.pth holds beside the agent."""
        return {}

    def _restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027 -- a run that goes on from the agent alone needs none
        """The reverse of `_position`."""

    def _log_error(self, error: BaseException) -> None:
        """Append the traceback to logs/training_errors.log."""
        self.folder.errors.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(self.folder.errors, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger = logging.Logger("trimtab.training")
        logger.addHandler(handler)
        logger.error("episode %d", self.trainer.episode, exc_info=error)
        handler.close()


class TrainingSession(RunSession):
    """A run that makes its own traffic: in the twin, over live servers, or in the one and then the other."""

    trainer: Trainer

    def __init__(self, problem: Problem, settings: Settings, folder: RunFolder, device: torch.device | str) -> None:
        self._task = Task(settings.scenario, "twin" if settings.backend == "twin" else "http", settings.servers, settings.reward)
        super().__init__(problem, settings, folder, problem.choices(self._task), device)
        hint = None if settings.heuristic is None else problem.build_policy(settings.heuristic)
        self.trainer = self._trainer(problem, hint)
        self._world: World

    def _begin_with(self, path: Path) -> None:
        super()._begin_with(path)
        self.trainer.refresh()

    @property
    def where(self) -> str:
        return self._world.note

    @property
    def total(self) -> int:
        """Episodes at the end of the run, live ones included."""
        return self.settings.episodes + (self.settings.live_episodes if self.settings.backend == "hybrid" else 0)

    def _prepare(self) -> None:
        self._world = self._open(self._task)
        if self.settings.backend == "twin":
            self.trainer.require(self._world)

    def _batches(self) -> Iterator[list[Row]]:
        return self.trainer.run(self._stages())

    def _described(self) -> dict[str, Any]:
        return {"world": dict(self._world.describe())}

    def _position(self) -> dict[str, Any]:
        return {"trainer": self.trainer.state_dict()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.trainer.load_state_dict(state["trainer"])

    def _trainer(self, problem: Problem, hint: Policy | None) -> Trainer:
        settings = self.settings
        if settings.learning == "rollouts":
            return RolloutTrainer(problem, self.agent, settings.seed, self._choices, settings.decisions)
        return Trainer(problem, self.agent, settings.seed, hint, settings.decisions)

    def _stages(self) -> list[Stage]:
        settings, world = self.settings, self._world
        rollouts = settings.learning == "rollouts"
        if settings.backend != "hybrid":
            return [Stage(world, settings.episodes, task=self._task if rollouts else None)]
        twin = self._twin_of(world)
        task = self._twin_task if rollouts else None
        return [Stage(twin, settings.episodes, task=task), Stage(world, self.total, LIVE_PHASE)]

    @property
    def _twin_task(self) -> Task:
        return Task(str(self.folder.calibrated), "twin", reward=self.settings.reward)

    def _twin_of(self, live: World) -> World:
        """The calibrated twin; measured once a run, since a resumed run must go on in the same twin."""
        path = self.folder.calibrated
        if path.exists():
            return self._open(self._twin_task)
        self.notes.append(f"calibrated the twin on {live.note}: {path}")
        return live.calibrate(path)

    def _open(self, task: Task) -> World:
        world = self.problem.open(task)
        self._closing.callback(world.close)
        return world


def default_model(folder: RunFolder, reference: Path) -> Path:
    """The final checkpoint of a run, else the committed reference model."""
    for path in (folder.final, reference):
        if path.exists():
            return path
    raise CheckpointError(
        f"no model: neither {folder.final} nor {reference} exists; train one, name one with --model, or leave dqn out of --policies"
    )

"""What problems that exist in a simulator alone share: their world, their list of policies, and policies of a score and a pick rule."""

import difflib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, cast

import numpy as np
import numpy.typing as npt

from trimtab.errors import UsageError
from trimtab.policies import pick
from trimtab.policies.catalogue import LEARNED
from trimtab.problems.base import F32, F64, I64, BatchEnv, Mask, Policy, RivalProgram, Task, View

U64 = npt.NDArray[np.uint64]
Score = Callable[[Any], F64]
PickRule = Callable[[F64, Mask, U64, U64, I64], None]

BACKEND: Final = "twin"


@dataclass
class ScoredPolicy:
    """Scores every choice [B, S], least is best, and picks by a rule of `policies.pick`; ties are broken uniformly."""

    name: str
    score: Score
    rule: PickRule = pick.least
    _seeds: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)
    _draws: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)

    def reset(self, seeds: I64) -> None:
        self._seeds = seeds.astype(np.uint64)
        self._draws = np.zeros(seeds.size, dtype=np.uint64)

    def select(self, view: View) -> I64:
        return self._pick(self.score(view), view.available)

    def _pick(self, load: F64, available: Mask) -> I64:
        chosen = np.empty(len(load), dtype=np.int64)
        self.rule(load, available, self._seeds, self._draws, chosen)
        return chosen


class LotteryPolicy(ScoredPolicy):
    """Random, choice s with probability tickets[s] / sum(tickets). For problems whose choices are always all open."""

    def __init__(self, name: str, tickets: tuple[int, ...]) -> None:
        super().__init__(name, _nothing, pick.any_of_all)
        self._owner = np.repeat(np.arange(len(tickets)), tickets)

    def select(self, view: View) -> I64:
        shape = (len(view.available), len(self._owner))
        drawn = self._pick(np.zeros(shape), np.ones(shape, dtype=np.bool_))
        return np.asarray(self._owner[drawn], dtype=np.int64)


class CyclePolicy:
    """Choices in turn, the first one first. For problems whose choices are always all open."""

    def __init__(self, name: str = "round-robin") -> None:
        self.name = name
        self._turn = 0

    def reset(self, seeds: I64) -> None:
        self._turn = 0

    def select(self, view: View) -> I64:
        episodes, choices = view.available.shape
        chosen = np.full(episodes, self._turn % choices, dtype=np.int64)
        self._turn += 1
        return chosen


def first_least(load: F64, available: Mask, seeds: U64, draws: U64, chosen: I64) -> None:
    """A pick rule without chance: the least, ties to the first. For rules whose published figures are those of an argmin."""
    chosen[:] = np.where(available, load, np.inf).argmin(axis=1)


def random_policy() -> ScoredPolicy:
    """Any choice, uniformly."""
    return ScoredPolicy("random", _nothing, pick.any_of_all)


def _nothing(view: View) -> F64:
    return np.zeros(view.available.shape)


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy of a problem: its name, what it does, how it is made."""

    name: str
    summary: str
    build: Callable[[], Policy]


def scored(name: str, summary: str, score: Score, rule: PickRule = pick.least) -> Entry:
    """The entry of a policy that scores and picks."""
    return Entry(name, summary, lambda: ScoredPolicy(name, score, rule))


class SimulatedProblem(ABC):
    """The part of `problems.base.Problem` that does not depend on the game."""

    id: ClassVar[str]
    features: ClassVar[tuple[str, ...]]
    policies: ClassVar[tuple[Entry, ...]]
    backends = (BACKEND,)
    learner_defaults: Mapping[str, Any] = MappingProxyType({})
    rollout_defaults: Mapping[str, Any] = MappingProxyType({})
    branches = False

    @property
    def default_policies(self) -> tuple[str, ...]:
        """All that need no model."""
        return tuple(one.name for one in self.policies)

    @abstractmethod
    def observe(self, view: Any) -> F32:
        """What a network sees.  # [B, S, F]"""

    def check_scenario(self, path: str) -> str:
        raise UsageError(f"problem {self.id!r} has no scenario files, found {path}; its scenarios are fixed, see --scenario list")

    def build_policy(self, name: str) -> Policy:
        for one in self.policies:
            if one.name == name:
                return one.build()
        names = [*(one.name for one in self.policies), LEARNED]
        close = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"unknown policy {name!r}: {hint}allowed: {', '.join(names)}; list them with --policies list")

    def load_policy(self, model: Path, choices: int) -> Policy:
        # By name: torch takes a second to import, and only learned policies need it.
        learned = importlib.import_module("trimtab.policies.learned")
        return cast(Policy, learned.load_policy(model, self.id, choices, features=self.features, observe=self.observe))

    def rivals(self, task: Task) -> list[RivalProgram]:
        return []

    def policy_list(self) -> list[tuple[str, str]]:
        return [(LEARNED, "learned: the model of --model"), *((one.name, one.summary) for one in self.policies)]

    def require_twin(self, task: Task) -> None:
        """Raise `UsageError` for a task that asks for live servers."""
        if task.backend != BACKEND or task.servers:
            wanted = f"--servers {','.join(task.servers)}" if task.servers else f"--backend {task.backend}"
            raise UsageError(f"problem {self.id!r} is a simulation, found {wanted}; use --backend {BACKEND} without --servers")


@dataclass(frozen=True)
class SimulatedWorld:
    """See `problems.base.World`: where a simulated game is played."""

    scenario_id: str
    note: str
    training: Callable[[int, int], BatchEnv]  # decisions, batch
    evaluation: Callable[[int], BatchEnv]  # batch
    backend = BACKEND

    def training_env(self, decisions: int, batch: int) -> BatchEnv:
        return self.training(decisions, batch)

    def evaluation_env(self, batch: int) -> BatchEnv:
        return self.evaluation(batch)

    def rival_env(self, name: str) -> None:
        """A game that is simulated has no servers to stand before."""

    def episode_s(self) -> float:
        return 0.0

    def calibrate(self, path: Path) -> "SimulatedWorld":
        raise UsageError(f"calibration measures live servers, and {self.note} has none; use --backend {BACKEND}")

    def describe(self) -> Mapping[str, Any]:
        return {"backend": self.backend, "scenario": self.scenario_id}

    def close(self) -> None:
        """Nothing to let go of."""


def allowed(name: str, names: tuple[str, ...], what: str, option: str) -> str:
    """`name`, or the first of `names` for an empty one. Raises `UsageError`."""
    if name not in {"", *names}:
        raise UsageError(f"unknown {what} {name!r}; allowed: {', '.join(names)}; choose one with {option}")
    return name or names[0]

"""What every problem offers, so that one agent and one experiment code serve them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from trimtab.core.tally import Tallies

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


TRAINING_OFFSET: Final = 1_000_000  # training episodes are numbered from here, so that evaluation never replays one


class Credits(NamedTuple):
    """Rewards that have become known, each with the decision that earned it, oldest first in each episode."""

    episode: I64  # [M] place in the batch
    decision: I64  # [M] number among the episode's learnable decisions, from 0
    reward: F64  # [M]
    valid: Mask  # [M] False: the outcome could not be measured, nothing can be learned from it


class View(Protocol):
    """The moment of a decision; policies of the problem know what else it holds."""

    @property
    def available(self) -> Mask:
        """Which choices are open.  # [B, S]"""


class Policy(Protocol):
    """Chooses; the same protocol for classical, oracle and learned."""

    @property
    def name(self) -> str: ...

    def reset(self, seeds: I64) -> None: ...

    def select(self, view: Any) -> I64: ...


class BatchEnv(Protocol):
    """B episodes side by side, in step. Rewards come late: `credits` says which decisions they belong to.

    `reset`, then `step` with actions [B] until it returns None; `closing` is the view after the last decision; `drain` waits for
    the last rewards. Decisions made while `warming` is true are not learned from and not measured.
    """

    @property
    def batch(self) -> int: ...

    @property
    def realtime(self) -> bool: ...

    @property
    def warming(self) -> bool: ...

    def count_into(self, tallies: Tallies, policy: str) -> None:
        """From the next reset on, decisions and outcomes are counted there under the policy's name."""

    def reset(self, seed: int, episodes: Sequence[int]) -> Any: ...

    def step(self, actions: I64) -> Any | None: ...

    def closing(self) -> Any: ...

    def credits(self) -> Credits: ...

    def drain(self) -> None: ...

    def metrics(self) -> list[dict[str, float]]: ...

    def close(self) -> None: ...


class Branching(BatchEnv, Protocol):
    """Episodes that can be copied: simulations alone."""

    @property
    def left(self) -> int:
        """Decisions for which arrivals are at hand, the present one included."""

    def costs_of_choices(self, tried: Mask, policy: "Policy", decisions: int, exponent: float = 1.0) -> F64:
        """Costs of the present decision and those after it, `decisions` in all, if the present one is each of `tried` [B, S].

        The cost of one is minus its reward, to the power `exponent`. `policy` makes the others, in copies of the episodes, which themselves
        stay as they are. Not a number where not tried.  # [B, S]
        """


@dataclass(frozen=True, slots=True)
class Task:
    """Which environment is wanted."""

    scenario: str  # id, path, or family:NAME
    backend: str  # twin or http
    servers: tuple[str, ...] = ()  # URLs of a live fleet; empty: find or start one
    reward: str = ""  # one of the problem's `rewards`; empty: its default


class RivalProgram(NamedTuple):
    """A program of others, as a policy of one task."""

    name: str
    summary: str
    refused: str  # why not in this task, and what to do; empty where it can


class Problem(Protocol):
    """One folder under `problems/`, one line in its catalogue."""

    @property
    def id(self) -> str: ...

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the F numbers of one choice."""

    @property
    def training_metrics(self) -> tuple[str, ...]:
        """Metric columns of training_metrics.csv."""

    @property
    def evaluation_metrics(self) -> tuple[str, ...]:
        """Metric columns of evaluation.csv."""

    @property
    def rewards(self) -> tuple[str, ...]:
        """Names of what may be rewarded, the default first."""

    @property
    def backends(self) -> tuple[str, ...]:
        """Where it can be trained, the default first: hybrid (twin, then live), twin, http."""

    @property
    def default_scenario(self) -> str: ...

    @property
    def default_policies(self) -> tuple[str, ...]: ...

    @property
    def learner_defaults(self) -> Mapping[str, Any]:
        """Learner settings of this problem that differ from the learner's own defaults."""

    @property
    def yardsticks(self) -> tuple[str, ...]:
        """Policies whose latency is measured beside training, the strongest classical one first."""

    @property
    def branches(self) -> bool:
        """Whether simulated episodes of this problem can be copied (`Branching`)."""

    @property
    def rollout_defaults(self) -> Mapping[str, Any]:
        """What differs from `learner_defaults` where the network learns from rollouts."""

    def choices(self, task: Task) -> int:
        """Number of choices S of one decision."""

    def scenario_ids(self) -> list[tuple[str, str]]:
        """(id, one line) of every scenario."""

    def check_scenario(self, path: str) -> str:
        """One line about a valid scenario file; an invalid one raises `ScenarioError`."""

    def observe(self, view: Any) -> F32:
        """What a network sees.  # [B, S, F]"""

    def build_policy(self, name: str) -> Policy:
        """A policy of this problem by name, or a `UsageError`."""

    def rivals(self, task: Task) -> list[RivalProgram]:
        """Programs of others that may decide in front of live servers, such as proxies."""

    def load_policy(self, model: Path, choices: int) -> Policy:
        """The learned policy of a checkpoint, for decisions among `choices`."""

    def policy_list(self) -> list[tuple[str, str]]:
        """(name, one line) of every policy."""

    def open(self, task: Task) -> "World":
        """A place where episodes run; close it after use."""


class World(Protocol):
    """Where episodes run: the twin or a live fleet."""

    @property
    def backend(self) -> str: ...

    @property
    def scenario_id(self) -> str: ...

    @property
    def note(self) -> str:
        """One line for the user: what this is and where."""

    def training_env(self, decisions: int, batch: int) -> BatchEnv:
        """`batch` training episodes of `decisions` each, warm from the start; fewer where the world has but one fleet."""

    def evaluation_env(self, batch: int) -> BatchEnv:
        """`batch` measured episodes of the scenario's own length."""

    def rival_env(self, name: str) -> BatchEnv | None:
        """Measured episodes that the rival of that name decides, whatever the actions; None for any other policy."""

    def episode_s(self) -> float:
        """Expected wall-clock length of one evaluation episode; 0 in the twin."""

    def calibrate(self, path: Path) -> "World":
        """Measure a live fleet, write its scenario to `path`, and return the twin of it."""

    def describe(self) -> Mapping[str, Any]:
        """What a run's config.json says about it."""

    def close(self) -> None: ...

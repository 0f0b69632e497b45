"""Rollouts of architectures.py: one set of moments, choices and copies, each priced by every cost.

What a copy costs does not change how it goes on, so all costs are of the same copies.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple
from zipfile import BadZipFile

import numpy as np

from trimtab.core.observation import FEATURES
from trimtab.core.reward import own_response
from trimtab.dqn.checkpoint import load_checkpoint, load_network
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.rollouts import Rollouts
from trimtab.errors import ResultsError
from trimtab.experiments.curriculum import batch_at
from trimtab.experiments.loop import play
from trimtab.experiments.rollouts import Player, Unit
from trimtab.experiments.seeding import TRAINING_OFFSET
from trimtab.policies.learned import use_one_thread
from trimtab.problems.base import Task
from trimtab.problems.routing.env import RoutingEnv
from trimtab.problems.routing.problem import Routing

TAIL: Final = "worst tenth"
EXPONENTS: Final[Mapping[str, float]] = {"exponent 1": 1.0, "exponent 1.4": 1.4, "exponent 2": 2.0}
COSTS: Final = (*EXPONENTS, TAIL)
TAIL_SHARE: Final = 0.1  # of the requests of a copy
EPSILON: Final = 0.05  # of random decisions on the way, as a training begins with
BATCH: Final = 50  # episodes side by side, and in a file


@dataclass(frozen=True)
class Harvest:
    """What is played, and with which model."""

    scenario: str
    model: str
    episodes: int
    decisions: int  # of an episode, the warm-up aside
    every: int  # decisions between moments, on average
    horizon: int  # requests of a copy
    seed: int

    @property
    def held_out(self) -> int:
        """The first of the episodes that nothing is learned from: the last tenth, one at least."""
        return self.episodes - max(1, self.episodes // 10)


@dataclass(frozen=True)
class Piece:
    """Episodes that are played side by side, and the file that keeps what came of them."""

    harvest: Harvest
    first: int
    size: int
    path: Path


class Priced(NamedTuple):
    """N states with S choices of F features each."""

    obs: Any  # [N, S, F]
    mask: Any  # [N, S]
    tried: Any  # [N, S]
    cost: Any  # [C, N, S], in the order of COSTS; anything where not tried
    episode: Any  # [N]

    def rollouts(self, cost: str, rows: Any) -> Rollouts:
        """Some of them, priced by one cost."""
        return Rollouts(self.obs[rows], self.mask[rows], self.tried[rows], self.cost[COSTS.index(cost)][rows])


class PricedEnv:
    """A training environment that prices copies by every cost. `priced` has an entry for each question, of the episodes that had one."""

    def __init__(self, env: RoutingEnv) -> None:
        self.priced: list[tuple[Any, Any]] = []  # costs [C, N, S], place of the episode in the batch [N]
        self._env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def costs_of_choices(self, tried: Any, policy: Any, decisions: int, exponent: float = 1.0) -> Any:
        """See `problems.base.Branching`; the costs of the first kind."""
        episode, choice = np.nonzero(tried)
        branch = self._env.branch(episode, decisions)
        policy.reset(episode)
        view = branch.step(choice)
        while view is not None:
            view = branch.step(policy.select(view))
        costs = np.zeros((len(COSTS), *tried.shape), dtype=np.float32)
        costs[:, episode, choice] = prices(self._paid(branch, decisions))
        some = np.flatnonzero(tried.any(axis=1))
        self.priced.append((costs[:, some], some))
        return costs[0]

    def _paid(self, branch: RoutingEnv, decisions: int) -> Any:
        """Cost of each request of each copy, in units of the reward.  # [R, decisions]"""
        log, first = branch.fleet.log, self._env.plan.arrivals - self._env.left
        unit_s = np.array([one.fleet_service_s() for one in branch.fleet.scenarios])[:, None]
        sent = slice(first, first + decisions)
        return -own_response(log.latency_s[:, sent], log.status[:, sent], unit_s)[0]


def prices(paid: Any) -> Any:
    """Every cost of copies whose requests cost so much each.  # [R, N] -> [C, R]"""
    worst = ceil(TAIL_SHARE * paid.shape[1])
    powers = [(paid**exponent).sum(axis=1) for exponent in EXPONENTS.values()]
    return np.stack([*powers, np.sort(paid, axis=1)[:, -worst:].sum(axis=1)])


def pieces(harvest: Harvest, folder: Path) -> Iterator[Piece]:
    """All of a harvest, finished or not."""
    first = 0
    while first < harvest.episodes:
        size = batch_at(first, harvest.episodes, BATCH)
        yield Piece(harvest, first, size, folder / f"rollouts_{first:05d}.npz")
        first += size


def gather(piece: Piece) -> int:
    """Play a piece and write its file; how many states it holds. A function of a module, so that another process can."""
    use_one_thread()
    priced = _played(piece)
    temporary = piece.path.with_suffix(".partial")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **priced._asdict())
        temporary.replace(piece.path)
    except OSError as error:
        raise ResultsError(f"cannot write {piece.path}: {error.strerror}; free some space or name another --out") from error
    return len(priced.obs)


def _played(piece: Piece) -> Priced:
    harvest, problem, task = piece.harvest, Routing(), Task(piece.harvest.scenario, "twin")
    checkpoint = load_checkpoint(Path(harvest.model), problem=problem.id, observation=FEATURES)
    changes = {"rollout_every": harvest.every, "rollout_horizon": harvest.horizon}
    config = DQNConfig.from_dict({**checkpoint.config.to_dict(), **changes})
    choices = problem.choices(task)
    world = problem.open(task)
    env = PricedEnv(world.training_env(harvest.decisions, piece.size))
    unit = Unit(problem.id, task, harvest.seed, piece.first, piece.size, harvest.decisions, choices, config.to_dict(), EPSILON, {})
    player = Player(problem, env, config, load_network(checkpoint, choices), unit)
    for _ in play(env, player.choose, harvest.seed, [TRAINING_OFFSET + piece.first + i for i in range(piece.size)]):
        pass
    world.close()
    return _together(player.rollouts, env.priced, piece)


def _together(rollouts: Sequence[Rollouts], priced: Sequence[tuple[Any, Any]], piece: Piece) -> Priced:
    if not rollouts:
        found = f"episodes {piece.first} to {piece.first + piece.size - 1} had no moment with two choices to try"
        raise ResultsError(f"{found}; raise --episodes or --decisions, or lower --every")
    obs, mask, tried, _ = (np.concatenate(column) for column in zip(*rollouts, strict=True))
    cost = np.concatenate([costs for costs, _ in priced], axis=1)
    return Priced(obs, mask, tried, cost, piece.first + np.concatenate([episodes for _, episodes in priced]))


@lru_cache(maxsize=1)
def load(paths: tuple[Path, ...]) -> tuple[Priced, ...]:
    """What is in these files, in their order. Raises ResultsError for one that is missing or no such file."""
    return tuple(_read(path) for path in paths)


def _read(path: Path) -> Priced:
    try:
        with path.open("rb") as file, np.load(file) as stored:  # np.load leaves a damaged file open that it opened itself
            return Priced(*(stored[name] for name in Priced._fields))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ResultsError(f"{path} is missing or damaged ({error}); delete it and run the same command again") from error

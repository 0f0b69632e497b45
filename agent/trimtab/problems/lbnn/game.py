"""The two generations of the game as data, and the requests of an episode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from trimtab.errors import UsageError
from trimtab.problems.base import F64, I64

SERVERS: Final = 3
CPU: Final = np.array([1500.0, 3500.0, 5000.0])  # [S]
MEMORY: Final = np.array([2000.0, 3200.0, 3000.0])  # [S]

_SIZES_KEY: Final = (3,)  # spawn key of the durations: they take their normal numbers from a stream apart
_PLACES_KEY: Final = (4,)  # spawn key of the random placements before a training episode


class Requests(NamedTuple):
    """One request a tick."""

    cpu: F64  # [B, T]
    memory: F64  # [B, T]
    duration: I64  # [B, T] ticks, at least 1


@dataclass(frozen=True, slots=True)
class Game:
    """One generation."""

    id: str
    summary: str
    reward: str
    max_duration: int  # ticks
    random_ticks: int  # before a training episode, placed at random and not part of it
    warmup: int  # ticks before the measured ones of an evaluation episode, placed by the policy
    ticks: int  # measured ones of an evaluation episode
    draw: Callable[[np.random.Generator, np.random.Generator, int], Requests]  # uniform stream, normal stream, count; [T] each


_V1: Final = np.array([(50, 30, 2), (150, 100, 4), (300, 200, 6)])  # cpu, memory, ticks of light, medium, heavy
# Of the second generation, each inclusive: cpu from, to; memory from, to; duration mean, spread, from, to.
_V2: Final = np.array([(150, 200, 100, 125, 5, 2, 1, 9), (350, 400, 300, 350, 10.5, 2.5, 5, 16), (400, 500, 400, 450, 16.5, 2, 12, 21)])


def _draw_v1(uniform: np.random.Generator, _normal: np.random.Generator, count: int) -> Requests:
    kind = _V1[uniform.integers(0, len(_V1), count)]
    return Requests(kind[:, 0].astype(np.float64), kind[:, 1].astype(np.float64), kind[:, 2].astype(np.int64))


def _draw_v2(uniform: np.random.Generator, normal: np.random.Generator, count: int) -> Requests:
    kind, cpu, memory = uniform.random((count, 3)).T
    low_cpu, high_cpu, low_memory, high_memory, mean, spread, least, most = _V2[(kind * len(_V2)).astype(np.int64)].T
    duration = np.clip(np.round(mean + spread * normal.standard_normal(count)), least, most)
    return Requests(_between(cpu, low_cpu, high_cpu), _between(memory, low_memory, high_memory), duration.astype(np.int64))


def _between(uniform: F64, low: F64, high: F64) -> F64:
    """Whole numbers, both ends included."""
    return low + np.floor(uniform * (high - low + 1.0))


GAMES: Final = (
    Game(
        "lbnn-v2",
        "second generation: wide request mix of about 45 % load, minus the squared peak utilisation after placement",
        reward="peak",
        max_duration=21,
        random_ticks=40,
        warmup=150,
        ticks=5000,
        draw=_draw_v2,
    ),
    Game(
        "lbnn-v1",
        "first generation: three fixed requests of about 8 % load, rewarded by how idle the chosen server was before placement",
        reward="gradient",
        max_duration=6,
        random_ticks=0,
        warmup=0,
        ticks=200,
        draw=_draw_v1,
    ),
)


def find_game(scenario: str) -> Game:
    """The generation of that id. Raises `UsageError`."""
    for one in GAMES:
        if one.id == scenario:
            return one
    raise UsageError(f"unknown scenario {scenario!r} of problem 'lbnn'; allowed: {', '.join(one.id for one in GAMES)}; see --scenario list")


def draw_requests(game: Game, seed: int, episodes: Sequence[int], count: int) -> Requests:
    """The first `count` requests of each episode; those of a longer episode begin with the same.  # [B, T]"""
    drawn = [game.draw(_stream(seed, one), _stream(seed, one, _SIZES_KEY), count) for one in episodes]
    return Requests(*(np.stack(column) for column in zip(*drawn, strict=True)))


def draw_places(seed: int, episodes: Sequence[int], count: int) -> I64:
    """Random servers for the ticks before a training episode.  # [B, T]"""
    return np.stack([_stream(seed, one, _PLACES_KEY).integers(0, SERVERS, count) for one in episodes])


def _stream(seed: int, episode: int, key: tuple[int, ...] = ()) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, episode], spawn_key=key))

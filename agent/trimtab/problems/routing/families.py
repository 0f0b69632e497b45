"""Families: named ways to draw a random scenario, for training and for tests on fleets never seen before."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from trimtab.core.scenario import F64, Fault, RequestClass, Scenario, Server, Traffic
from trimtab.errors import UsageError
from trimtab.problems.routing.general import SHAPES, draw_general

# Sets these draws apart from the traffic of the same seed and number, which has no spawn key.
_SPAWN_KEY = (0x7472_696D,)
# Long enough for the queues that unstable policies build up; refusals at once would hide them behind errors.
_QUEUE_LIMIT = 1000
_CLASSES = (
    RequestClass("light", 0.6, 0.010, "lognormal", 0.5, cpu=50, memory=30),
    RequestClass("medium", 0.3, 0.030, "lognormal", 0.5, cpu=120, memory=80),
    RequestClass("heavy", 0.1, 0.080, "lognormal", 0.5, cpu=300, memory=200),
)
_FLEET_SIZE = 4
EPISODES_A_SHAPE: Final = 100  # training plays episodes in batches that end at multiples of this
_REQUESTS, _WARMUP = 2000, 200
# A large fleet needs more requests to be full once, and gets fewer for each server: an episode's cost grows with both.
_WARMUP_A_SERVER, _REQUESTS_A_SERVER, _MOST_REQUESTS = 3, 50, 5_000

_SLOWDOWN_FACTOR = 6.0
_SLOW_S, _SOUND_S = 4.0, 36.0  # mean lengths of slow spells and of the time between them: slow a tenth of the time


@dataclass(frozen=True, slots=True)
class Family:
    """One line of documentation, and the draw: (id, fleet size, generator) -> scenario."""

    doc: str
    draw: Callable[[str, int, np.random.Generator], Scenario]
    shapes: tuple[tuple[int, int], ...] = ()  # (servers, classes) of training episodes, a hundred at a time; empty: always the same


def draw_named(text: str, seed: int, index: int) -> Scenario:
    """Scenario `index` of what a user wrote behind `family:`, NAME or NAME:SERVERS such as `grey:16`. Raises UsageError."""
    name, colon, size = text.partition(":")
    if colon and not (size.isascii() and size.isdigit()):
        raise UsageError(f"family {text!r} has the fleet size {size!r}; allowed: 1 or more servers; write --scenario family:{name}:16")
    return draw_family(name, seed, index, fleet_size=int(size) if colon else _FLEET_SIZE)


def draw_family(name: str, seed: int, index: int, *, fleet_size: int = _FLEET_SIZE) -> Scenario:
    """Scenario `index` of a family: the same for the same arguments, and independent of the traffic drawn under this seed.

    Raises UsageError for a family that does not exist or a fleet without a server.
    """
    if name not in FAMILIES:
        raise UsageError(f"no family is called {name!r}; allowed: {', '.join(FAMILIES)}; write --scenario family:NAME")
    if fleet_size < 1:
        raise UsageError(f"fleet size is {fleet_size}; allowed: 1 or more servers; name another size")
    return FAMILIES[name].draw(f"{name}-{seed}-{index}", fleet_size, _generator(seed, index))


def _generator(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index], spawn_key=_SPAWN_KEY)))


def draw_for_training(text: str, seed: int, index: int) -> Scenario:
    """As `draw_named`; where a family has many shapes and the text names no size, the shape of this episode."""
    family = FAMILIES.get(text)
    if family is None or not family.shapes:
        return draw_named(text, seed, index)
    servers, classes = family.shapes[index // EPISODES_A_SHAPE % len(family.shapes)]
    rng = _generator(seed, index)
    # Most fleets of three classes are of the named families, which a drawing of anything would seldom come near; half of those are grey,
    # since where servers have no moods there is little to learn.
    if classes == len(_CLASSES) and rng.random() < 0.7:
        family_name = str(rng.choice(("grey", "grey", "grey", "affinity", "speeds", "uniform")))
        return FAMILIES[family_name].draw(f"{text}-{seed}-{index}", servers, rng)
    return draw_general(f"{text}-{seed}-{index}", servers, classes, rng)


def _uniform(name: str, fleet_size: int, rng: np.random.Generator) -> Scenario:
    slots = np.full(fleet_size, rng.integers(1, 5))
    speed = np.full((fleet_size, len(_CLASSES)), rng.uniform(0.25, 1.0))
    return _scenario(name, _servers(slots, speed), rng.uniform(0.5, 0.95))


def _speeds(name: str, fleet_size: int, rng: np.random.Generator) -> Scenario:
    speed = np.repeat(_base_speeds(fleet_size, rng), len(_CLASSES), axis=1)
    return _scenario(name, _servers(_slots(fleet_size, rng), speed), rng.uniform(0.5, 0.95))


def _affinity(name: str, fleet_size: int, rng: np.random.Generator) -> Scenario:
    speed = _affine_speeds(fleet_size, rng)
    return _scenario(name, _servers(_slots(fleet_size, rng), speed), rng.uniform(0.5, 0.95))


def _grey(name: str, fleet_size: int, rng: np.random.Generator) -> Scenario:
    speed = _affine_speeds(fleet_size, rng)
    servers = _servers(_slots(fleet_size, rng), speed, rng.uniform(0.0, 0.4, fleet_size))
    calm = _scenario(name, servers, rng.uniform(0.3, 0.8))
    # Requests that the slow spells hold up are served after the last arrival, hence half as long again.
    horizon_s = 1.5 * (calm.requests + calm.warmup) / calm.rate_rps()
    faults = tuple(fault for one in servers for fault in _slow_spells(one.id, horizon_s, rng))
    return _scenario(name, servers, calm.traffic.load, faults)


def _general(name: str, fleet_size: int, rng: np.random.Generator) -> Scenario:
    return draw_general(name, fleet_size, len(_CLASSES), rng)


def _mixed(name: str, fleet_size: int, rng: np.random.Generator) -> Scenario:
    kind = str(rng.choice(tuple(_MIX), p=tuple(_MIX.values())))
    return FAMILIES[kind].draw(name, fleet_size, rng)


# Half of the fleets have moods, since there is most to learn; on the others the network learns when to leave well alone.
_MIX: Final = {"grey": 0.5, "affinity": 0.15, "speeds": 0.1, "uniform": 0.05, "general": 0.2}

FAMILIES: dict[str, Family] = {
    "uniform": Family("equal servers with 1-4 slots at speed 0.25-1, load 0.5-0.95", _uniform),
    "speeds": Family("servers with 1-4 slots at speeds 0.25-1 that are the same for every class, load 0.5-0.95", _speeds),
    "affinity": Family("as speeds, times 0.4-2.5 for each server and class: some servers are fast for some classes", _affinity),
    "grey": Family("as affinity, with contention 0-0.4 and servers 6 times slower for a tenth of the time, load 0.3-0.8", _grey),
    "mixed": Family("half grey, the rest affinity, speeds, uniform and general; for training", _mixed),
    "general": Family("anything: sizes, slots, affinity, contention, all traffic, faults, load 0.3-1.1; for training", _general, SHAPES),
}


def _slots(fleet_size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(1, 5, fleet_size)


def _base_speeds(fleet_size: int, rng: np.random.Generator) -> F64:
    """One speed a server.  # [S, 1]"""
    return rng.uniform(0.25, 1.0, (fleet_size, 1))


def _affine_speeds(fleet_size: int, rng: np.random.Generator) -> F64:
    """Base speed times log-uniform affinity.  # [S, K]"""
    affinity = np.exp(rng.uniform(np.log(0.4), np.log(2.5), (fleet_size, len(_CLASSES))))
    return np.asarray(_base_speeds(fleet_size, rng) * affinity)


def _servers(slots: np.ndarray, speed: F64, contention: F64 | None = None) -> tuple[Server, ...]:
    extra = np.zeros(slots.size) if contention is None else contention
    return tuple(_server(index, int(slots[index]), speed[index], float(extra[index])) for index in range(slots.size))


def _server(index: int, slots: int, speed: F64, contention: float) -> Server:
    """Capacities hold all slots busy with heavy requests, so that utilisation stays within 0-1."""
    speeds = {one.name: float(value) for one, value in zip(_CLASSES, speed, strict=True)}
    heaviest = _CLASSES[-1]
    cpu, memory = slots * heaviest.cpu, slots * heaviest.memory
    return Server(f"server-{index + 1}", slots, speeds, _QUEUE_LIMIT, contention, cpu=cpu, memory=memory)


def _scenario(name: str, servers: tuple[Server, ...], load: float | None, faults: tuple[Fault, ...] = ()) -> Scenario:
    requests = max(_REQUESTS, min(_REQUESTS_A_SERVER * len(servers), _MOST_REQUESTS))
    warmup = max(_WARMUP, _WARMUP_A_SERVER * len(servers))
    return Scenario(name, _CLASSES, servers, Traffic(load=load), requests=requests, warmup=warmup, faults=faults)


def _slow_spells(server: str, horizon_s: float, rng: np.random.Generator) -> list[Fault]:
    """Exponential spells and gaps from time 0 to the horizon, stationary: a tenth of the servers start inside a spell."""
    spells: list[Fault] = []
    now_s = 0.0 if rng.random() < _SLOW_S / (_SLOW_S + _SOUND_S) else float(rng.exponential(_SOUND_S))
    while now_s < horizon_s:
        end_s = now_s + float(rng.exponential(_SLOW_S))
        spells.append(Fault(server, "slowdown", now_s, end_s, factor=_SLOWDOWN_FACTOR))
        now_s = end_s + float(rng.exponential(_SOUND_S))
    return spells

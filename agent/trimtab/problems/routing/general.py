"""The family `general`: fleets as different from each other as a scenario file allows, to train one network for all of them."""

from typing import Final

import numpy as np

from trimtab.core.scenario import F64, Distribution, Fault, RequestClass, Scenario, Server, Traffic

# (servers, classes) of training episodes, a hundred at a time: a batch has one shape. Small fleets come often, since most fleets are
# small, a decision of theirs costs least, and what is learned on them holds for large ones.
SHAPES: Final = ((4, 3), (3, 2), (4, 3), (8, 3), (4, 3), (2, 3), (5, 8), (4, 3), (6, 3), (4, 1), (4, 3), (16, 3))
_QUEUE_LIMIT: Final = 1000
_FAULTS: Final = ("slowdown", "fail_fast", "error_share", "freeze", "crash", "leave")
_REQUESTS, _WARMUP = 2000, 200


def draw_general(name: str, servers: int, classes: int, rng: np.random.Generator) -> Scenario:
    """A fleet of `servers` for `classes` classes of requests.

    Mean works spread over up to a factor 30, sizes from nearly fixed to exponential, 1-16 slots, speeds 0.25-1 with or without affinity
    for classes, with or without contention, load 0.3-1.1 of any kind of traffic, and in half of the fleets slow spells or failures.
    """
    kinds = _classes(classes, rng)
    affine, contended = rng.random() < 0.6, rng.random() < 0.5
    fleet = tuple(_server(index, kinds, affine, contended, rng) for index in range(servers))
    load = float(rng.uniform(0.3, 1.1))
    calm = Scenario(name, kinds, fleet, Traffic(load=load), requests=_REQUESTS, warmup=max(_WARMUP, 3 * servers))
    horizon_s = 1.5 * (calm.requests + calm.warmup) / calm.rate_rps()
    faults = _faults(fleet, horizon_s, rng) if rng.random() < 0.5 else ()
    traffic = _traffic(load, horizon_s, rng)
    return Scenario(name, kinds, fleet, traffic, requests=calm.requests, warmup=calm.warmup, faults=faults)


def _classes(count: int, rng: np.random.Generator) -> tuple[RequestClass, ...]:
    share = rng.dirichlet(np.full(count, 2.0)) * (1.0 - 0.02 * count) + 0.02  # no class so rare that nothing is learned of it
    work_s = 0.01 * np.exp(rng.uniform(0.0, np.log(30.0), count))
    return tuple(RequestClass(f"class-{k + 1}", float(share[k]), float(work_s[k]), *_sizes(rng), cpu=50, memory=30) for k in range(count))


def _sizes(rng: np.random.Generator) -> tuple[Distribution, float]:
    kind = rng.choice(("lognormal", "lognormal", "exponential"))
    return ("exponential", 1.0) if kind == "exponential" else ("lognormal", float(rng.uniform(0.2, 1.0)))


def _server(index: int, kinds: tuple[RequestClass, ...], affine: bool, contended: bool, rng: np.random.Generator) -> Server:
    slots = int(rng.integers(1, 5)) if rng.random() < 0.8 else int(rng.integers(5, 17))
    speed: F64 = rng.uniform(0.25, 1.0) * np.exp(rng.uniform(np.log(0.4), np.log(2.5), len(kinds)) * affine)
    contention = float(rng.uniform(0.0, 0.4)) if contended else 0.0
    speeds = {one.name: float(value) for one, value in zip(kinds, speed, strict=True)}
    return Server(f"server-{index + 1}", slots, speeds, _QUEUE_LIMIT, contention, cpu=slots * 50, memory=slots * 30)


def _traffic(load: float, horizon_s: float, rng: np.random.Generator) -> Traffic:
    """Mostly steady; else bursts, waves, a flash crowd or a ramp, a few of them in an episode."""
    draw = rng.random()
    if draw < 0.6:
        return Traffic(load=load)
    if draw < 0.7:
        return Traffic("mmpp", loads=(0.5 * load, 1.5 * load), dwell_s=horizon_s / 10.0)
    if draw < 0.8:
        return Traffic("sinusoid", load=load, amplitude=float(rng.uniform(0.2, 0.6)), period_s=horizon_s / 4.0)
    if draw < 0.9:
        third = horizon_s / 6.0
        return Traffic("flash", load=0.6 * load, factor=float(rng.uniform(1.5, 3.0)), start_s=third, rise_s=third / 3.0, decay_s=third)
    return Traffic("ramp", load=load, steps=(0.5, 0.75, 1.0, 1.25), step_s=horizon_s / 6.0)


def _faults(fleet: tuple[Server, ...], horizon_s: float, rng: np.random.Generator) -> tuple[Fault, ...]:
    """Slow spells in most troubled fleets, else one kind of failure; the first server is spared, so that somebody is always there."""
    kind = "slowdown" if rng.random() < 0.6 else str(rng.choice(_FAULTS))
    length_s, gap_s = horizon_s * rng.uniform(0.01, 0.05), horizon_s * rng.uniform(0.1, 0.5)
    return tuple(fault for one in fleet[1:] for fault in _spells(one.id, kind, horizon_s, float(length_s), float(gap_s), rng))


def _spells(server: str, kind: str, horizon_s: float, length_s: float, gap_s: float, rng: np.random.Generator) -> list[Fault]:
    spells: list[Fault] = []
    now_s = float(rng.exponential(gap_s))
    while now_s < horizon_s:
        end_s = now_s + float(rng.exponential(length_s)) + 0.01 * length_s
        spells.append(_fault(server, kind, now_s, end_s, rng))
        now_s = end_s + float(rng.exponential(gap_s))
    return spells


def _fault(server: str, kind: str, start_s: float, end_s: float, rng: np.random.Generator) -> Fault:
    if kind == "slowdown":
        return Fault(server, "slowdown", start_s, end_s, factor=float(np.exp(rng.uniform(np.log(2.0), np.log(20.0)))))
    if kind == "fail_fast":
        return Fault(server, "fail_fast", start_s, end_s, after_s=0.001)
    if kind == "error_share":
        return Fault(server, "error_share", start_s, end_s, share=float(rng.uniform(0.05, 0.6)))
    return Fault(server, "freeze" if kind == "freeze" else "crash" if kind == "crash" else "leave", start_s, end_s)

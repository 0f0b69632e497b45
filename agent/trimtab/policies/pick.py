"""Pick rules: given how loaded each server is, which one is taken?

Chance is a counter-based hash: draw n of fleet b depends on its seed and on n alone, so a fleet's choices are the same
whether it runs by itself or among a thousand others.
"""

import numpy as np
import numpy.typing as npt

from trimtab.core.compiled import compiled
from trimtab.core.request_log import F64, I64

U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]


@compiled
def _hash(seed: int, count: int) -> int:
    """SplitMix64 (Steele, Lea, Flood 2014): 64 well-mixed bits."""
    z = np.uint64(seed) + np.uint64(count) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))  # type: ignore[return-value]  # compiled, it is np.uint64


@compiled
def _below(seeds: U64, draws: U64, b: int, bound: int) -> int:
    """The fleet's next uniform integer in [0, bound)."""
    draws[b] += np.uint64(1)
    return int((_hash(seeds[b], draws[b]) >> np.uint64(11)) % np.uint64(bound))


@compiled
def least(load: F64, available: Mask, seeds: U64, draws: U64, chosen: I64) -> None:
    """Scan all servers: the least loaded, ties uniform (reservoir sampling over the tied)."""
    for b in range(load.shape[0]):
        lowest, tied = np.inf, 0
        for s in range(load.shape[1]):
            if not available[b, s]:
                continue
            if load[b, s] < lowest or tied == 0:
                lowest, tied, chosen[b] = load[b, s], 1, s
            elif load[b, s] == lowest:
                tied += 1
                if _below(seeds, draws, b, tied) == 0:
                    chosen[b] = s


@compiled
def _nth_available(available: Mask, b: int, n: int) -> int:
    for s in range(available.shape[1]):
        if available[b, s]:
            if n == 0:
                return s
            n -= 1
    return -1


@compiled
def _count(available: Mask, b: int) -> int:
    members = 0
    for s in range(available.shape[1]):
        members += available[b, s]
    return members


@compiled
def any_of_all(load: F64, available: Mask, seeds: U64, draws: U64, chosen: I64) -> None:
    """Uniform, whatever the load."""
    for b in range(load.shape[0]):
        chosen[b] = _nth_available(available, b, _below(seeds, draws, b, _count(available, b)))


@compiled
def less_of_two(load: F64, available: Mask, seeds: U64, draws: U64, chosen: I64) -> None:
    """Power of two choices (Mitzenmacher 2001): two distinct servers at random, the less loaded, ties to the first drawn."""
    for b in range(load.shape[0]):
        members = _count(available, b)
        first = _below(seeds, draws, b, members)
        chosen[b] = _nth_available(available, b, first)
        if members > 1:
            # Drawing from the others and stepping over the first keeps the pair distinct and uniform.
            second = _below(seeds, draws, b, members - 1)
            rival = _nth_available(available, b, second + 1 if second >= first else second)
            if load[b, rival] < load[b, chosen[b]]:
                chosen[b] = rival


@compiled
def less_of_two_drawn(load: F64, available: Mask, seeds: U64, draws: U64, chosen: I64) -> None:
    """Two draws with replacement, the less loaded, ties to the first: Envoy's form, which sees a single server in one case of S."""
    for b in range(load.shape[0]):
        members = _count(available, b)
        chosen[b] = _nth_available(available, b, _below(seeds, draws, b, members))
        rival = _nth_available(available, b, _below(seeds, draws, b, members))
        if load[b, rival] < load[b, chosen[b]]:
            chosen[b] = rival


@compiled
def _uniform(seeds: U64, draws: U64, b: int) -> float:
    """The fleet's next uniform number in (0, 1]."""
    draws[b] += np.uint64(1)
    return (float(_hash(seeds[b], draws[b]) >> np.uint64(11)) + 1.0) * 2.0**-53


@compiled
def normals(seeds: U64, draws: U64, out: F64) -> None:
    """Fill `out` [B, M] with independent standard normal numbers (Box and Muller 1958)."""
    for b in range(out.shape[0]):
        for m in range(out.shape[1]):
            radius = np.sqrt(-2.0 * np.log(_uniform(seeds, draws, b)))
            out[b, m] = radius * np.cos(2.0 * np.pi * _uniform(seeds, draws, b))


@compiled
def uniforms(seeds: U64, draws: U64, out: F64) -> None:
    """Fill `out` [B, M] with independent uniform numbers in [0, 1)."""
    for b in range(out.shape[0]):
        for m in range(out.shape[1]):
            out[b, m] = 1.0 - _uniform(seeds, draws, b)

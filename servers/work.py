"""The work of a request: how much of it there is, and how it is done.

Amounts are drawn in units of the class mean. Work is done by sleeping in a slot, or by burning CPU that was calibrated at start.
"""

import hashlib
import math
import random
import time
from collections.abc import Callable

BLOCK = bytes(64 * 1024)  # hashed without the interpreter lock (true above 2 KiB), so that /health answers while slots burn
CALIBRATION_S = 0.1  # thread CPU time; half of it repeats to about 2 % on a shared core, this to about 1 %


def draw_work(distribution: str, spread: float, generator: random.Random) -> float:
    """Work of one request in units of the class mean: mean 1, coefficient of variation `spread` (exponential: 1, fixed: 0)."""
    if distribution == "fixed" or (spread == 0 and distribution != "exponential"):
        return 1.0
    if distribution == "exponential":
        return generator.expovariate(1.0)
    if distribution == "pareto":
        return _pareto(spread, generator)
    variance = math.log1p(spread * spread)
    return generator.lognormvariate(-variance / 2, math.sqrt(variance))


def _pareto(spread: float, generator: random.Random) -> float:
    """Pareto with a minimum: shape a = 1 + sqrt(1 + 1/cv^2), minimum (a - 1)/a, so that the mean is 1 and the variation cv."""
    shape = 1.0 + math.sqrt(1.0 + 1.0 / (spread * spread))
    return generator.paretovariate(shape) * (shape - 1.0) / shape


def calibrate(cpu_s: float = CALIBRATION_S, clock: Callable[[], float] = time.thread_time) -> float:
    """Blocks hashed per second of this thread's CPU time."""
    blocks, started_s = 0, clock()
    while (passed_s := clock() - started_s) < cpu_s:
        hashlib.sha256(BLOCK)
        blocks += 1
    return blocks / passed_s


def burn(blocks: int, checkpoint: Callable[[], None]) -> None:
    """Hashes `blocks` blocks; `checkpoint` runs before each, may block (freeze) or raise (crash)."""
    for _ in range(blocks):
        checkpoint()
        hashlib.sha256(BLOCK)

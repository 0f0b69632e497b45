"""What a balancer of the placement game sees at a tick, and what a network reads of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from trimtab.problems.base import F32, F64, I64, Mask
from trimtab.problems.lbnn.game import CPU, MEMORY

HORIZONS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)  # where the future is looked at, as shares of the longest duration
DECADES: Final = 4.0  # of rises that the feature `rise` tells apart
_LEAST_RISE: Final = 1e-60  # a smaller one is none: keeps the logarithm finite
_STEPS: Final = tuple(round(100 * share) for share in HORIZONS)

FEATURES: Final = (
    "cpu",  # in use as reported, share of the server's
    "memory",
    "request_cpu",  # of the incoming request, share of this server's
    "request_memory",
    "request_duration",  # share of the longest
    "size_cpu",  # this server's share of all capacity
    "size_memory",
    *(f"without_{step}" for step in _STEPS),  # this server's utilisation (the fuller of CPU and memory) then, if nothing else comes
    *(f"with_{step}" for step in _STEPS),  # the same with the request here
    *(f"peak_{step}" for step in _STEPS),  # the fullest server's then, with the request here
    *(f"lean_{step}" for step in _STEPS),  # CPU minus memory here then, with the request
    "lifetime_mean",  # mean over the request's lifetime of the utilisation here with it
    "lifetime_peak_excess",  # mean over it of what that exceeds the others' fullest by, at least 0
    "rise",  # how much worse than the best server this one is to the duration-aware rule: 0 the one it takes, at most 1
)


@dataclass(frozen=True, slots=True)
class LbnnView:
    """The incoming request of each of B episodes, and the servers as the last tick left them.

    `held` is live: call it before the next step.
    """

    available: Mask  # [B, S] all of them
    cpu: F64  # [B, S] in use, at most 1
    memory: F64  # [B, S]
    connections: I64  # [B, S] live requests
    request_cpu: F64  # [B]
    request_memory: F64  # [B]
    duration: I64  # [B] ticks
    held: Callable[[], F64]  # [2, B, S, R] shares of CPU and memory that what is live now still holds r ticks from this one
    longest: int  # duration, ticks

    @property
    def fullness(self) -> F64:
        """The fuller of CPU and memory.  # [B, S]"""
        return np.maximum(self.cpu, self.memory)

    @property
    def request(self) -> F64:
        """CPU and memory of the request as shares of each server's.  # [2, B, S]"""
        return np.stack((self.request_cpu[:, None] / CPU, self.request_memory[:, None] / MEMORY))

    @property
    def lifetime(self) -> F64:
        """1 in the ticks that the request will live, else 0.  # [B, R]"""
        return (np.arange(self.longest) < self.duration[:, None]).astype(np.float64)

    def future(self) -> tuple[F64, F64]:
        """CPU and memory used in the ticks to come if nothing else comes, without and with the request; not cut.  # [2, B, S, R] each"""
        held = self.held()
        return held, held + self.request[:, :, :, None] * self.lifetime[:, None, :]


def lifetime_rise(view: LbnnView) -> F64:
    """How much the sum, over the request's lifetime, of utilisation to the power of 20 would rise here; knows when everything expires."""
    return _rise(*(used.max(axis=0) for used in view.future()))


def observation(view: LbnnView) -> F32:
    """The network's input.  # [B, S, F] in the order of `FEATURES`"""
    shape = view.cpu.shape
    held, used = view.future()
    before, after = held.max(axis=0), used.max(axis=0)  # [B, S, R]
    rivals = others_peak(before)
    lives, duration = view.lifetime[:, None, :], view.duration[:, None].astype(np.float64)
    looked = [int(share * view.longest + 0.5) for share in HORIZONS]
    wide = (
        view.cpu,
        view.memory,
        *view.request,
        np.broadcast_to(duration / view.longest, shape),
        np.broadcast_to(CPU / CPU.sum(), shape),
        np.broadcast_to(MEMORY / MEMORY.sum(), shape),
        before[:, :, looked],
        after[:, :, looked],
        np.maximum(after, rivals)[:, :, looked],
        (used[0] - used[1])[:, :, looked],
        (after * lives).sum(axis=2) / duration,
        (np.maximum(after - rivals, 0.0) * lives).sum(axis=2) / duration,
        _compared(_rise(before, after)),
    )
    return np.concatenate([column.reshape(*shape, -1) for column in wide], axis=2).astype(np.float32)


def others_peak(values: F64) -> F64:
    """The largest of the other servers' values.  # [B, S, ...]"""
    others = [np.delete(values, s, axis=1).max(axis=1) for s in range(values.shape[1])]
    return np.stack(others, axis=1)


def _rise(before: F64, after: F64) -> F64:
    return np.asarray((_steep(after) - _steep(before)).sum(axis=2))  # ticks after the request's end cancel


def _steep(fullness: F64) -> F64:
    """To the power of 20, by squaring: the library's power takes ten times as long. A higher one cares for the fullest ticks alone."""
    fourth = np.square(np.square(fullness))
    return np.asarray(np.square(np.square(fourth)) * fourth)


def _compared(rise: F64) -> F64:
    """Decades between each server's rise and the least, over `DECADES`, at most 1.  # [B, S]"""
    decades = np.log10(np.maximum(rise, _LEAST_RISE))
    return np.asarray(np.minimum((decades - decades.min(axis=1, keepdims=True)) / DECADES, 1.0))

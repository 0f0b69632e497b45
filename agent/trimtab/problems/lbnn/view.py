"""What a balancer of the placement game sees at a tick, and what a network reads of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from trimtab.problems.base import F32, F64, I64, Mask
from trimtab.problems.lbnn.game import CPU, MEMORY
from trimtab.problems.lbnn.servers import BRACKETS, KINDS

HORIZONS: Final = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)  # where the future is looked at, as shares of the longest duration
_BRACKET_NAMES: Final = tuple(f"{kind}_{part}" for kind in KINDS for part in BRACKETS)

FEATURES: Final = (
    "cpu",  # in use, share of the server's
    "memory",
    "connections",  # live requests / what counts as full
    *_BRACKET_NAMES,  # live requests by remaining time in thirds of the longest, as shares
    *(f"{name}_change" for name in _BRACKET_NAMES),  # the same minus their moving averages over 20 ticks
    "request_cpu",  # of the incoming request, share of this server's
    "request_memory",
    "request_duration",  # share of the longest
    "size_cpu",  # this server's share of all capacity
    "size_memory",
    "own_after",  # utilisation (the fuller of CPU and memory) here with the request, requests about to expire left out
    "peak_after",  # the fullest server's then
    *(f"future_{round(100 * share)}" for share in HORIZONS),  # this server's utilisation then, if nothing else comes
    "lifetime_mean",  # mean over the request's lifetime of the utilisation here with it
    "lifetime_peak_excess",  # mean over it of what that exceeds the others' fullest by, at least 0
)


@dataclass(frozen=True, slots=True)
class LbnnView:
    """The incoming request of each of B episodes, and the servers as the last tick left them.

    `held`, `brackets` and `averages` are live: read them before the next step.
    """

    available: Mask  # [B, S] all of them
    cpu: F64  # [B, S] in use, at most 1
    memory: F64  # [B, S]
    connections: I64  # [B, S] live requests
    request_cpu: F64  # [B]
    request_memory: F64  # [B]
    duration: I64  # [B] ticks
    held: Callable[[], F64]  # [2, B, S, R] shares of CPU and memory that what is live now still holds r ticks from this one
    brackets: F64  # [B, S, 9] see `servers.Servers`
    averages: F64  # [B, S, 9]
    longest: int  # duration, ticks
    max_connections: float

    @property
    def fullness(self) -> F64:
        """The fuller of CPU and memory.  # [B, S]"""
        return np.maximum(self.cpu, self.memory)

    @property
    def lifetime(self) -> F64:
        """1 in the ticks that the request will live, else 0.  # [B, R]"""
        return (np.arange(self.longest) < self.duration[:, None]).astype(np.float64)

    def future(self) -> tuple[F64, F64]:
        """Utilisation in the ticks to come if nothing else comes, without and with the request here; not cut.  # [B, S, R] each"""
        (cpu, memory), lives = self.held(), self.lifetime[:, None, :]
        with_cpu = cpu + (self.request_cpu[:, None] / CPU)[:, :, None] * lives
        with_memory = memory + (self.request_memory[:, None] / MEMORY)[:, :, None] * lives
        return np.maximum(cpu, memory), np.maximum(with_cpu, with_memory)


def observation(view: LbnnView) -> F32:
    """The network's input.  # [B, S, F] in the order of `FEATURES`"""
    shape = view.cpu.shape
    before, after = view.future()
    rival = others_peak(before)
    lives = view.lifetime[:, None, :]
    duration = view.duration[:, None].astype(np.float64)
    wide = (
        view.cpu,
        view.memory,
        view.connections / view.max_connections,
        view.brackets,
        view.brackets - view.averages,
        view.request_cpu[:, None] / CPU,
        view.request_memory[:, None] / MEMORY,
        np.broadcast_to(duration / view.longest, shape),
        np.broadcast_to(CPU / CPU.sum(), shape),
        np.broadcast_to(MEMORY / MEMORY.sum(), shape),
        after[:, :, 0],
        np.maximum(after[:, :, 0], rival[:, :, 0]),
        before[:, :, [int(share * view.longest) for share in HORIZONS]],
        (after * lives).sum(axis=2) / duration,
        (np.maximum(after - rival, 0.0) * lives).sum(axis=2) / duration,
    )
    return np.concatenate([column.reshape(*shape, -1) for column in wide], axis=2).astype(np.float32)


def others_peak(values: F64) -> F64:
    """The largest of the other servers' values.  # [B, S, ...]"""
    others = [np.delete(values, s, axis=1).max(axis=1) for s in range(values.shape[1])]
    return np.stack(others, axis=1)

"""What the servers hold, tick by tick, as sums over live requests by the number of ticks they have left."""

from typing import Final, NamedTuple

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.problems.base import F64, I64
from trimtab.problems.lbnn.game import CPU, MEMORY, SERVERS, Game

KINDS: Final = ("count", "cpu", "memory")  # in the order of the axis K
_FULL: Final = np.stack([CPU, MEMORY], axis=1)  # [S, 2]
_DECIMALS: Final = 1e4  # servers report percent with two decimals


class Servers(NamedTuple):
    """State after the last tick. A request at index r of axis R is live for r more ticks."""

    held: F64  # [B, S, K, R] requests, cpu units, memory units
    total: F64  # [B, S, K] sums over R


def empty_servers(batch: int, game: Game) -> Servers:
    """Nothing placed yet."""
    shape = (batch, SERVERS, len(KINDS))
    return Servers(np.zeros((*shape, game.max_duration)), np.zeros(shape))


def place(servers: Servers, actions: I64, cpu: F64, memory: F64, duration: I64) -> None:
    """One tick: what expires now is dropped, then a request [B] is added to server `actions` [B]."""
    _place(servers, actions, cpu, memory, duration)


def utilisation(servers: Servers) -> tuple[F64, F64]:
    """CPU and memory in use, shares of at most 1 with the four decimals that servers report.  # [B, S] each"""
    reported = np.minimum(1.0, np.rint(servers.total[:, :, 1:] / _FULL * _DECIMALS) / _DECIMALS)
    return reported[:, :, 0], reported[:, :, 1]


def connections(servers: Servers) -> I64:
    """Live requests.  # [B, S]"""
    return np.rint(servers.total[:, :, 0]).astype(np.int64)


def still_held(servers: Servers) -> F64:
    """CPU and memory that what is live now holds r ticks from the coming one, as shares.  # [2, B, S, R]"""
    kept = np.zeros(servers.held[:, :, 1:].shape)
    # What is at index r expires r ticks from the coming one, and expiry comes before placement.
    kept[..., :-1] = servers.held[:, :, 1:, :0:-1].cumsum(axis=3)[..., ::-1]
    return np.moveaxis(kept / _FULL[:, :, None], 2, 0)


@compiled
def _place(servers: Servers, actions: I64, cpu: F64, memory: F64, duration: I64) -> None:
    held, longest = servers.held, servers.held.shape[3]
    for b in range(actions.shape[0]):
        for s in range(held.shape[1]):
            for k in range(held.shape[2]):
                for r in range(longest - 1):
                    held[b, s, k, r] = held[b, s, k, r + 1]
                held[b, s, k, longest - 1] = 0.0
        # Live for its duration with this tick included: it expires `duration` ticks from now.
        s, r = actions[b], duration[b] - 1
        held[b, s, 0, r] += 1.0
        held[b, s, 1, r] += cpu[b]
        held[b, s, 2, r] += memory[b]
        for s in range(held.shape[1]):
            for k in range(held.shape[2]):
                total = 0.0
                for r in range(longest):
                    total += held[b, s, k, r]
                servers.total[b, s, k] = total

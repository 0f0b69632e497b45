"""What the servers hold, tick by tick, as sums over live requests by the number of ticks they have left."""

from typing import Final, NamedTuple

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.problems.base import F64, I64
from trimtab.problems.lbnn.game import CPU, MEMORY, SERVERS, Game

KINDS: Final = ("count", "cpu", "memory")  # in the order of the axis K
BRACKETS: Final = ("low", "mid", "high")  # thirds of the longest duration, in the order of the axis T
EMA_GAIN: Final = 2.0 / 21.0  # an exponential moving average of 20 ticks
_DECIMALS: Final = 1e4  # servers report percent with two decimals


class Servers(NamedTuple):
    """State after the last tick. A request at index r of axis R is live for r more ticks; shares are of `full`."""

    held: F64  # [B, S, K, R] requests, cpu units, memory units
    full: F64  # [S, K] what counts as full
    share: F64  # [B, S, K] sums over R, not cut
    brackets: F64  # [B, S, K, T] sums over thirds of R, at most 1
    average: F64  # [B, S, K, T] moving averages of the brackets


def empty_servers(batch: int, game: Game) -> Servers:
    """Nothing placed yet."""
    kinds, parts = len(KINDS), len(BRACKETS)
    full = np.stack([np.full(SERVERS, game.max_connections), CPU, MEMORY], axis=1)
    return Servers(
        np.zeros((batch, SERVERS, kinds, game.max_duration)),
        full,
        np.zeros((batch, SERVERS, kinds)),
        np.zeros((batch, SERVERS, kinds, parts)),
        np.zeros((batch, SERVERS, kinds, parts)),
    )


def place(servers: Servers, actions: I64, cpu: F64, memory: F64, duration: I64, *, first: bool) -> None:
    """One tick: what expires now is dropped, then a request [B] is added to server `actions` [B]. The `first` starts the averages."""
    _place(servers, actions, cpu, memory, duration, 1.0 if first else EMA_GAIN)


def utilisation(servers: Servers) -> tuple[F64, F64]:
    """CPU and memory in use, shares of at most 1 with the four decimals that servers report.  # [B, S] each"""
    reported = np.minimum(1.0, np.rint(servers.share[:, :, 1:] * _DECIMALS) / _DECIMALS)
    return reported[:, :, 0], reported[:, :, 1]


def connections(servers: Servers) -> I64:
    """Live requests.  # [B, S]"""
    return np.rint(servers.share[:, :, 0] * servers.full[:, 0]).astype(np.int64)


def still_held(servers: Servers) -> F64:
    """CPU and memory that what is live now holds r ticks from the coming one, as shares.  # [2, B, S, R]"""
    kept = np.zeros(servers.held[:, :, 1:].shape)
    # What is at index r expires r ticks from the coming one, and expiry comes before placement.
    kept[..., :-1] = servers.held[:, :, 1:, :0:-1].cumsum(axis=3)[..., ::-1]
    return np.moveaxis(kept / servers.full[:, 1:, None], 2, 0)


@compiled
def _place(servers: Servers, actions: I64, cpu: F64, memory: F64, duration: I64, gain: float) -> None:
    held, longest = servers.held, servers.held.shape[3]
    third = longest // servers.brackets.shape[3]
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
                for t in range(servers.brackets.shape[3]):
                    amount = 0.0
                    for r in range(t * third, (t + 1) * third):
                        amount += held[b, s, k, r]
                    total += amount
                    value = min(1.0, amount / servers.full[s, k])
                    servers.brackets[b, s, k, t] = value
                    servers.average[b, s, k, t] += gain * (value - servers.average[b, s, k, t])
                servers.share[b, s, k] = total / servers.full[s, k]

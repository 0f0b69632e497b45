"""B episodes of the placement game in step: one request a tick."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from trimtab.core.metrics import gini
from trimtab.core.tally import Key, Tallies, Tally
from trimtab.problems.base import F64, I64, Credits, Mask
from trimtab.problems.lbnn.game import CPU, MEMORY, SERVERS, Game, Requests, draw_places, draw_requests
from trimtab.problems.lbnn.metrics import episode_metrics
from trimtab.problems.lbnn.servers import Servers, connections, empty_servers, place, still_held, utilisation
from trimtab.problems.lbnn.view import LbnnView

NAMES: Final = tuple(f"server-{s + 1}" for s in range(SERVERS))
GINI_WEIGHT: Final = 0.15  # of fairness against the squared peak in the balance reward


class LbnnEnv:
    """See `problems.base.BatchEnv`. Rewards are known at once.

    `before` ticks are placed at random inside `reset`; `warmup` ticks are placed by the policy and do not count.
    """

    realtime = False

    def __init__(self, game: Game, reward: str, before: int, warmup: int, decisions: int, batch: int) -> None:
        self.batch = batch
        self._game = game
        self._reward = {"peak": peak_reward, "balance": balance_reward, "gradient": gradient_reward}[reward]
        self._before, self._warmup, self._decisions = before, warmup, decisions
        self._counting: tuple[Tallies, str] | None = None
        self._servers: Servers
        self._requests: Requests
        self._tick = 0  # of the requests drawn

    @property
    def warming(self) -> bool:
        return self._tick < self._before + self._warmup

    @property
    def servers(self) -> Servers:
        """What is held, for whoever checks the rules."""
        return self._servers

    def count_into(self, tallies: Tallies, policy: str) -> None:
        self._counting = (tallies, policy)

    def reset(self, seed: int, episodes: Sequence[int]) -> LbnnView:
        """Empty servers, then the random ticks. One request more than decisions is drawn, for the closing view."""
        self.batch = len(episodes)
        ticks = self._before + self._warmup + self._decisions
        self._requests = draw_requests(self._game, seed, episodes, ticks + 1)
        self._servers = empty_servers(self.batch, self._game)
        self._tick, self._rewards = 0, list[F64]()
        self._taken = 0  # rewards that `credits` has handed out
        self._history: list[tuple[F64, F64, Mask]] = []
        for server in draw_places(seed, episodes, self._before).T:
            self._place(server)
        return self._look()

    def step(self, actions: I64) -> LbnnView | None:
        """Place the request of each episode; the view of the next, None after the last."""
        counts, before = not self.warming, self._view
        self._place(actions)
        self._tallied(actions)
        if counts:
            after = utilisation(self._servers)
            self._rewards.append(self._reward(before, after, actions))
            self._history.append((*after, (before.cpu + before.memory).argmin(axis=1) == actions))
        return None if self._tick == self._before + self._warmup + self._decisions else self._look()

    def closing(self) -> LbnnView:
        """The view of the tick after the last decision."""
        return self._look()

    def drain(self) -> None:
        """Nothing is late."""

    def credits(self) -> Credits:
        new = self._rewards[self._taken :]
        numbers = np.arange(self._taken, self._taken + len(new))
        self._taken += len(new)
        reward = np.concatenate(new) if new else np.zeros(0)
        episode = np.tile(np.arange(self.batch), len(new))
        return Credits(episode, np.repeat(numbers, self.batch), reward, np.ones(reward.size, dtype=np.bool_))

    def metrics(self) -> list[dict[str, float]]:
        cpu, memory, best = (np.stack(column) for column in zip(*self._history, strict=True))  # [T, B, S], [T, B, S], [T, B]
        rewards = np.stack(self._rewards)  # [T, B]
        return [
            episode_metrics(cpu[:, b], memory[:, b], best[:, b])
            | {"total_reward": float(rewards[:, b].sum()), "average_reward": float(rewards[:, b].mean())}
            for b in range(self.batch)
        ]

    def close(self) -> None:
        """Nothing to let go of."""

    def _place(self, actions: I64) -> None:
        requests, tick = self._requests, self._tick
        cpu, memory, duration = requests.cpu[:, tick], requests.memory[:, tick], requests.duration[:, tick]
        place(self._servers, actions, cpu, memory, duration)
        self._tick += 1

    def _tallied(self, actions: I64) -> None:
        if self._counting is not None:
            tallies, policy = self._counting
            tally: Tally = tallies.of(Key("twin", policy, NAMES, ("request",)))
            tally.decisions[:, 0] += np.bincount(actions, minlength=SERVERS)

    def _look(self) -> LbnnView:
        servers, requests, tick = self._servers, self._requests, self._tick
        cpu, memory = utilisation(servers)
        self._view = LbnnView(
            available=np.ones(cpu.shape, dtype=np.bool_),
            cpu=cpu,
            memory=memory,
            connections=connections(servers),
            request_cpu=requests.cpu[:, tick].copy(),
            request_memory=requests.memory[:, tick].copy(),
            duration=requests.duration[:, tick].copy(),
            held=lambda: still_held(servers),
            longest=self._game.max_duration,
        )
        return self._view


def peak_reward(_before: LbnnView, after: tuple[F64, F64], _actions: I64) -> F64:
    """Minus the square of the fullest server's utilisation after placement.  # [B]"""
    return np.asarray(-(np.maximum(*after).max(axis=1) ** 2))


def balance_reward(_before: LbnnView, after: tuple[F64, F64], _actions: I64) -> F64:
    """Minus what a perfect balance would not have had: its lower squared peak, and `GINI_WEIGHT` times the Gini coefficient.  # [B]

    While no server is over-full, what a perfect balance would have depends on the requests alone: without it a reward holds less chance,
    and the same policy is best.
    """
    cpu, memory = after
    full = np.maximum(cpu, memory)
    balanced = np.maximum(cpu @ CPU / CPU.sum(), memory @ MEMORY / MEMORY.sum())
    return np.asarray(balanced**2 - full.max(axis=1) ** 2 - GINI_WEIGHT * gini(full))


def gradient_reward(before: LbnnView, _after: tuple[F64, F64], actions: I64) -> F64:
    """How much less loaded than the others the chosen server was before placement, load being cpu + memory as shares.  # [B]

    0 where all are equal. For a server of least load: mean load of the others, those equally low left out, minus its own; for any
    other server: the least load minus its own.
    """
    load = np.round(before.cpu + before.memory, 6)  # reported with four decimals each, so that equals are equal
    least = load.min(axis=1)
    chosen = np.take_along_axis(load, actions[:, None], axis=1)[:, 0]
    others = load > least[:, None]
    mean = (load * others).sum(axis=1) / np.maximum(1, others.sum(axis=1))
    return np.where(~others.any(axis=1), 0.0, np.where(chosen == least, mean - chosen, least - chosen))

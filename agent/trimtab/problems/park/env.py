"""B episodes of Park's game in step."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from trimtab.core.metrics import gini, quantile_or_nan
from trimtab.core.tally import LATENCY_EDGES_S, Key, Tallies, Tally
from trimtab.problems.base import F64, I64, Credits
from trimtab.problems.park.game import RATES, SERVERS, UNIT_MS, Books, advance, draw_jobs, open_books, send
from trimtab.problems.park.view import ParkView, look

REWARDS: Final = ("response", "integral")
NAMES: Final = tuple(f"server-{s + 1}" for s in range(SERVERS))
NEAR_BEST: Final = 1.01  # a completion within this factor of the least counts as the best, as in routing
METRICS: Final = (
    "requests",
    "mean_latency_ms",
    "p50_latency_ms",
    "p95_latency_ms",
    "p99_latency_ms",
    "makespan_ms",  # from time 0 to the end of the last job
    "gini_coefficient",  # of the time that servers were busy
    "optimal_decision_rate",  # decisions whose completion time was within 1 % of the least
)


class ParkEnv:
    """See `problems.base.BatchEnv`. Every episode begins with empty servers; the first `warmup` decisions do not count.

    Reward "response": minus the time of the job in the system, in units of a mean job on a mean server, delivered when the job ends.
    Reward "integral": minus the time integral of jobs in the system from one decision to the next, which is Park's reward in that unit.
    """

    realtime = False

    def __init__(self, warmup: int, decisions: int, batch: int, reward: str) -> None:
        self.batch = batch
        self._warmup = warmup
        self._decisions = decisions
        self._integral = reward == "integral"
        self._counting: tuple[Tallies, str] | None = None
        self._tally: Tally | None = None
        self._new: list[Credits] = []
        self._books: Books
        self._job = 0

    @property
    def warming(self) -> bool:
        return self._job < self._warmup

    @property
    def books(self) -> Books:
        """Where every job is, for whoever checks the rules."""
        return self._books

    def count_into(self, tallies: Tallies, policy: str) -> None:
        self._counting = (tallies, policy)

    def reset(self, seed: int, episodes: Sequence[int]) -> ParkView:
        """Empty servers, and the first job of each episode. One job more than decisions is drawn, for the closing view."""
        self.batch = len(episodes)
        self._books = open_books(draw_jobs(seed, episodes, self._warmup + self._decisions + 1))
        self._best = np.zeros(self._books.size.shape, dtype=np.bool_)  # [B, N]
        self._job, self._new = 0, []
        self._tally = None
        if self._counting is not None:
            tallies, policy = self._counting
            self._tally = tallies.of(Key("twin", policy, NAMES, ("job",)))
        return self._arrive()

    def step(self, actions: I64) -> ParkView | None:
        """Send the job of each episode to its server; the view of the next, None after the last."""
        completion = self._view.completion_ms
        chosen = np.take_along_axis(completion, actions[:, None], axis=1)[:, 0]
        self._best[:, self._job] = chosen <= completion.min(axis=1) * NEAR_BEST
        send(self._books, RATES, self._job, actions)
        if self._tally is not None:
            self._tally.decisions[:, 0] += np.bincount(actions, minlength=SERVERS)
        self._job += 1
        return None if self._job == self._warmup + self._decisions else self._arrive()

    def closing(self) -> ParkView:
        """The view of the arrival after the last decision."""
        return self._arrive()

    def drain(self) -> None:
        """Every job ends."""
        self._take(np.full(self.batch, np.inf))

    def credits(self) -> Credits:
        known, self._new = self._new, []
        if not known:
            nothing = np.zeros(0, dtype=np.int64)
            return Credits(nothing, nothing, np.zeros(0), np.zeros(0, dtype=np.bool_))
        return Credits(*(np.concatenate(column) for column in zip(*known, strict=True)))

    def metrics(self) -> list[dict[str, float]]:
        return [self._episode(b) for b in range(self.batch)]

    def close(self) -> None:
        """Nothing to let go of."""

    def _arrive(self) -> ParkView:
        now_ms = self._books.arrival_ms[:, self._job].copy()
        before_ms = self._books.arrival_ms[:, self._job - 1] if self._job else now_ms
        in_system = self._books.jobs.sum(axis=1)
        episode, job = self._take(now_ms)
        if self._integral and self._job > self._warmup:
            spare_ms = now_ms[episode] - self._books.finish_ms[episode, job]
            early = np.bincount(episode, spare_ms, minlength=self.batch)
            self._credit(np.arange(self.batch), np.full(self.batch, self._job - 1), in_system * (now_ms - before_ms) - early)
        self._view = look(self._books, self._job)
        return self._view

    def _take(self, now_ms: F64) -> tuple[I64, I64]:
        """Move time on; episode and number of the jobs that ended."""
        ended = advance(self._books, now_ms)
        episode, job = np.divmod(self._books.done[:ended], self._books.size.shape[1])
        time_ms = self._books.finish_ms[episode, job] - self._books.arrival_ms[episode, job]
        if self._tally is not None:
            _count(self._tally, self._books.server[episode, job], time_ms / 1e3)
        if not self._integral:
            counted = (job >= self._warmup) & (job < self._warmup + self._decisions)
            self._credit(episode[counted], job[counted], time_ms[counted])
        return episode, job

    def _credit(self, episode: I64, job: I64, cost_ms: F64) -> None:
        if episode.size:
            self._new.append(Credits(episode, job - self._warmup, -cost_ms / UNIT_MS, np.ones(episode.size, dtype=np.bool_)))

    def _episode(self, b: int) -> dict[str, float]:
        books, measured = self._books, slice(self._warmup, self._warmup + self._decisions)
        time_ms = books.finish_ms[b, measured] - books.arrival_ms[b, measured]
        server = books.server[b, measured]
        busy_ms = np.bincount(server, np.floor(books.size[b, measured] / RATES[server]), minlength=SERVERS)
        total = -float(time_ms.sum()) / UNIT_MS
        return {
            "requests": float(time_ms.size),
            "mean_latency_ms": float(time_ms.mean()),
            "p50_latency_ms": quantile_or_nan(time_ms, 0.5),
            "p95_latency_ms": quantile_or_nan(time_ms, 0.95),
            "p99_latency_ms": quantile_or_nan(time_ms, 0.99),
            "makespan_ms": float(books.finish_ms[b, measured].max()),
            "gini_coefficient": float(gini(busy_ms.astype(np.float64))),
            "optimal_decision_rate": float(self._best[b, measured].mean()),
            "total_reward": total,
            "average_reward": total / time_ms.size,
        }


def _count(tally: Tally, server: I64, time_s: F64) -> None:
    tally.outcomes[:, 0] += np.bincount(server, minlength=SERVERS)
    edge = np.searchsorted(LATENCY_EDGES_S, time_s)
    tally.latencies[0] += np.bincount(edge, minlength=tally.latencies.shape[1])
    tally.latency_s[0] += time_s.sum()

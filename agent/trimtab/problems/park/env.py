"""B episodes of Park's game in step."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from trimtab.core.metrics import gini, quantile_or_nan
from trimtab.core.tally import LATENCY_EDGES_S, Key, Tallies, Tally
from trimtab.problems.base import F64, I64, Credits
from trimtab.problems.park.game import RATES, SERVERS, UNIT_MS, Books, advance, draw_jobs, hurried, open_books, send
from trimtab.problems.park.view import ParkView, look, relative_value_ms

REWARDS: Final = ("response", "relative", "integral")
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

    First in first out fixes when a job will end as soon as it is sent, so every reward is known at the next arrival.
    Reward "relative": minus (the time of the job beyond what it would take alone on the fastest server, plus the rise of
    `view.relative_value_ms` from one decision to the next), in units of a mean job on a mean server. What it subtracts depends on the job
    alone, and what it adds cancels over an episode but for its ends (a potential: Ng et al. 1999), so the best policy stays the same; with
    a discount the rise stands for the future that is cut off (Cheng et al. 2021).
    Reward "response": minus the time of the job in the system, in the same unit.
    Reward "integral": minus the time integral of jobs in the system from one decision to the next, which is Park's reward in that unit.
    """

    realtime = False

    def __init__(self, warmup: int, decisions: int, batch: int, reward: str) -> None:
        self.batch = batch
        self._warmup = warmup
        self._decisions = decisions
        self._reward = reward
        self._counting: tuple[Tallies, str] | None = None
        self._tally: Tally | None = None
        self._new: list[Credits] = []
        self._books: Books
        self._view: ParkView
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
        """Empty servers, and the first job of each episode. One job more than decisions is drawn, for the closing view.

        Jobs of the warm-up come faster, see `game.hurried`: training must know overload, which takes hundreds of jobs to build up.
        """
        self.batch = len(episodes)
        jobs = draw_jobs(seed, episodes, self._warmup + self._decisions + 1)
        self._books = open_books(hurried(jobs, seed, episodes, self._warmup) if self._warmup else jobs)
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
        integral_ms = self._pass(now_ms)
        view = look(self._books, self._job)
        if self._job > self._warmup:
            self._credit(self._cost_ms(view, integral_ms))
        self._view = view
        return view

    def _pass(self, now_ms: F64) -> F64:
        """Move time on to an arrival; the time integral of jobs in the system since the one before.  # [B]"""
        before_ms = self._books.arrival_ms[:, self._job - 1] if self._job else now_ms
        in_system = self._books.jobs.sum(axis=1)
        episode, job = self._take(now_ms)
        spare_ms = now_ms[episode] - self._books.finish_ms[episode, job]
        return np.asarray(in_system * (now_ms - before_ms) - np.bincount(episode, spare_ms, minlength=self.batch))

    def _take(self, now_ms: F64) -> tuple[I64, I64]:
        """Move time on; episode and number of the jobs that ended."""
        ended = advance(self._books, now_ms)
        episode, job = np.divmod(self._books.done[:ended], self._books.size.shape[1])
        if self._tally is not None:
            time_ms = self._books.finish_ms[episode, job] - self._books.arrival_ms[episode, job]
            _count(self._tally, self._books.server[episode, job], time_ms / 1e3)
        return episode, job

    def _cost_ms(self, view: ParkView, integral_ms: F64) -> F64:
        """What the last decision is charged, at the arrival after it.  # [B]"""
        if self._reward == "integral":
            return integral_ms
        books, last = self._books, self._job - 1
        time_ms: F64 = books.finish_ms[:, last] - books.arrival_ms[:, last]
        if self._reward == "response":
            return time_ms
        alone_ms = np.floor(books.size[:, last] / RATES.max())
        rise_ms = relative_value_ms(view.backlog_ms) - relative_value_ms(self._view.backlog_ms)
        return np.asarray(time_ms - alone_ms + rise_ms)

    def _credit(self, cost_ms: F64) -> None:
        decision = np.full(self.batch, self._job - 1 - self._warmup)
        self._new.append(Credits(np.arange(self.batch), decision, -cost_ms / UNIT_MS, np.ones(self.batch, dtype=np.bool_)))

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

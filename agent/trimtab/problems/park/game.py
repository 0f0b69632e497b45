"""The rules of Park's load_balance at its defaults (Mao et al. 2019, park-project/park), for B episodes side by side.

Park gives its time no unit; here one unit is called a millisecond. A server works through its jobs first in first out, each taking
floor(size / rate) of time, so the moment a job ends is fixed when it is sent.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.problems.base import F64, I64

SERVERS: Final = 10
RATES: Final = np.linspace(0.15, 1.05, SERVERS)  # [S] size units a millisecond
TICKETS: Final = tuple(range(3, 3 + 2 * SERVERS, 2))  # the same in units of 0.05, as whole numbers
JOBS: Final = 1000  # an episode
MEAN_GAP_MS: Final = 55.0  # between arrivals, before rounding down
PARETO_SHAPE: Final = 1.5
LEAST_SIZE: Final = 100.0
MEAN_SIZE: Final = LEAST_SIZE * PARETO_SHAPE / (PARETO_SHAPE - 1.0)
UNIT_MS: Final = MEAN_SIZE / float(RATES.mean())  # time of a mean job on a mean server: rewards and features are in this unit
OBSERVATION_CAP: Final = 5e5

_HURRY: Final = (1,)  # the stream of chance of `hurried`, apart from that of the jobs

NONE: Final = -1  # no job


class Jobs(NamedTuple):
    """What arrives."""

    arrival_ms: F64  # [B, N] whole numbers
    size: F64  # [B, N] whole numbers


class Books(NamedTuple):
    """Where every job is. Jobs of one server form a list from `head`, the one in service, to `tail`."""

    arrival_ms: F64  # [B, N]
    size: F64  # [B, N]
    server: I64  # [B, N]
    finish_ms: F64  # [B, N]
    behind: I64  # [B, N] the next job of the same server
    head: I64  # [B, S]
    tail: I64  # [B, S]
    jobs: I64  # [B, S] in the server, the one in service included
    waiting_size: F64  # [B, S] sizes of those that wait, the one in service excluded
    free_ms: F64  # [B, S] when all that was sent so far will be done
    done: I64  # [B * N] scratch: episode x N + job of those that ended


def draw_jobs(seed: int, episodes: Sequence[int], count: int) -> Jobs:
    """The first `count` jobs of each episode; those of a longer episode begin with the same.  # [B, N]"""
    uniform = np.stack([np.random.default_rng(np.random.SeedSequence([seed, one])).random((count, 2)) for one in episodes])
    gap_ms = np.floor(-MEAN_GAP_MS * np.log1p(-uniform[:, :, 0]))
    size = np.floor(LEAST_SIZE * (1.0 - uniform[:, :, 1]) ** (-1.0 / PARETO_SHAPE))
    return Jobs(np.cumsum(gap_ms, axis=1), size)


def hurried(jobs: Jobs, seed: int, episodes: Sequence[int], count: int) -> Jobs:
    """The same jobs, the first `count` gaps shortened by a factor of the episode's own, uniform in 0 to 1.

    Episodes then begin anywhere from idle to deep in work, as they are found after hundreds of jobs.
    """
    factor = np.array([np.random.default_rng(np.random.SeedSequence([seed, one], spawn_key=_HURRY)).random() for one in episodes])
    gap_ms = np.diff(jobs.arrival_ms, axis=1, prepend=0.0)
    gap_ms[:, :count] = np.floor(gap_ms[:, :count] * factor[:, None])
    return jobs._replace(arrival_ms=np.cumsum(gap_ms, axis=1))


def open_books(jobs: Jobs) -> Books:
    """Empty servers, nothing sent yet."""
    batch, count = jobs.size.shape
    nobody = np.full((batch, SERVERS), NONE, dtype=np.int64)
    return Books(
        jobs.arrival_ms,
        jobs.size,
        server=np.full((batch, count), NONE, dtype=np.int64),
        finish_ms=np.zeros((batch, count)),
        behind=np.full((batch, count), NONE, dtype=np.int64),
        head=nobody,
        tail=nobody.copy(),
        jobs=np.zeros((batch, SERVERS), dtype=np.int64),
        waiting_size=np.zeros((batch, SERVERS)),
        free_ms=np.zeros((batch, SERVERS)),
        done=np.empty(batch * count, dtype=np.int64),
    )


@compiled
def send(books: Books, rates: F64, job: int, actions: I64) -> None:
    """Job number `job` of every episode goes to server `actions` [B] at its arrival."""
    for b in range(actions.shape[0]):
        s = actions[b]
        start_ms = max(books.arrival_ms[b, job], books.free_ms[b, s])
        books.finish_ms[b, job] = start_ms + np.floor(books.size[b, job] / rates[s])
        books.free_ms[b, s] = books.finish_ms[b, job]
        books.server[b, job] = s
        if books.head[b, s] < 0:
            books.head[b, s] = job
        else:
            books.behind[b, books.tail[b, s]] = job
            books.waiting_size[b, s] += books.size[b, job]
        books.tail[b, s] = job
        books.jobs[b, s] += 1


@compiled
def advance(books: Books, now_ms: F64) -> int:
    """Time moves on to `now_ms` [B]; how many jobs ended, which `books.done` names by episode, then in the order of their numbers."""
    ended, count = 0, books.size.shape[1]
    for b in range(now_ms.shape[0]):
        first = ended
        for s in range(books.head.shape[1]):
            job = books.head[b, s]
            while job >= 0 and books.finish_ms[b, job] <= now_ms[b]:
                place = ended
                while place > first and books.done[place - 1] > b * count + job:
                    books.done[place] = books.done[place - 1]
                    place -= 1
                books.done[place] = b * count + job
                ended += 1
                books.jobs[b, s] -= 1
                job = books.behind[b, job]
                if job >= 0:
                    books.waiting_size[b, s] -= books.size[b, job]
            books.head[b, s] = job
    return ended

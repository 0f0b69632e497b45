"""What a balancer of Park's game sees at an arrival, and what a network reads of it."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from trimtab.problems.base import F32, F64, I64, Mask
from trimtab.problems.park.game import MEAN_SIZE, OBSERVATION_CAP, RATES, UNIT_MS, Books

DELAY_CEILING: Final = 40.0  # of the delay, in the same unit
CEILING: Final = 20.0  # of features that are linear in time; sizes have no variance, so the same stands there as a logarithm

# Of 28 triples tried on 600 episodes that no evaluation uses (seed 12345, from episode 2,000,000 on), the one of least mean job time among
# those whose p99 stays below that of least completion time.
EXTERNALITY_PER_MS: Final = 0.43e-3
EXTERNALITY_POWER: Final = 2.5
LONGEST_WAIT_MS: Final = 8000.0  # no job waits behind more, so what lies beyond costs no further square

FEATURES: Final = (
    "jobs",  # log(1 + jobs in the server)
    "idle",  # 1: nothing to do
    "rate",  # rate / mean rate
    "backlog",  # time until all it has is done
    "log_backlog",  # log(1 + the same)
    "running",  # log(1 + remaining time of the job in service)
    "waiting_size",  # log(1 + sizes of waiting jobs / mean size)
    "own_service",  # time that the incoming job would take here
    "log_own_service",  # its logarithm
    "completion",  # backlog + own service
    "log_completion",  # log(1 + the same)
    "backlog_excess",  # log(1 + backlog beyond the least of all servers)
    "completion_excess",  # log(1 + completion beyond the least of all servers)
    "size",  # log(size of the incoming job / mean size)
    "delay",  # completion beyond what the job would take alone on the fastest server
    "burden",  # log(1 + rise of the wait by the incoming job), without the server's factor
    "price",  # log(1 + delay + externality), see `ParkView.externality_ms`: what a learner may learn on top of
    "log_rate",  # log(rate / mean rate)
    "work",  # log(1 + mean backlog of all servers, weighted by rate)
)


@dataclass(frozen=True, slots=True)
class ParkView:
    """One incoming job in each of B episodes, and the servers. Arrays are the view's own; `rate` is shared and not to be changed."""

    now_ms: F64  # [B]
    size: F64  # [B] of the incoming job
    rate: F64  # [S] size units a millisecond
    available: Mask  # [B, S] all of them
    jobs: I64  # [B, S] in the server, waiting or in service
    waiting_size: F64  # [B, S] of the jobs that wait
    running_size: F64  # [B, S] of the job in service, 0 for none
    running_ms: F64  # [B, S] its remaining time
    backlog_ms: F64  # [B, S] time until all its jobs are done

    @property
    def service_ms(self) -> F64:
        """Time that the incoming job would take.  # [B, S]"""
        return np.floor(self.size[:, None] / self.rate)

    @property
    def completion_ms(self) -> F64:
        """Time from now until the incoming job would be done.  # [B, S]"""
        return self.backlog_ms + self.service_ms

    @property
    def delay_ms(self) -> F64:
        """Completion beyond what the job would take alone on the fastest server.  # [B, S]"""
        return np.asarray(self.completion_ms - np.floor(self.size[:, None] / self.rate.max()))

    @property
    def burden_ms2(self) -> F64:
        """How much `_waits_ms2` rises by the incoming job.  # [B, S]"""
        return _waits_ms2(self.completion_ms) - _waits_ms2(self.backlog_ms)

    @property
    def externality_ms(self) -> F64:
        """How much longer later jobs will wait, by estimate: the rise of `relative_value_ms` by the incoming job.  # [B, S]"""
        return _externality_per_ms(self.rate) * self.burden_ms2

    @property
    def load(self) -> F64:
        """Park's own observation of a server: sizes that wait + remaining *time* of the job in service, capped.  # [B, S]"""
        return np.minimum(self.waiting_size + self.running_ms, OBSERVATION_CAP)


def relative_value_ms(backlog_ms: F64) -> F64:
    """How much longer later jobs will wait because of this backlog [B, S], by estimate.  # [B]

    In a FCFS queue of Poisson arrivals a backlog of u costs lambda u^2 / (2 (1 - rho)), whatever the sizes (Hyytia, Penttinen and Aalto
    2012). That is exact where arrivals are split by chance. Here they are not: later jobs keep away from long queues, which is why the
    square ends at `LONGEST_WAIT_MS`, and the factor is tuned; fast servers, which most jobs want, have a larger one.
    """
    return np.asarray((_externality_per_ms(RATES) * _waits_ms2(backlog_ms)).sum(axis=1))


def _waits_ms2(backlog_ms: F64) -> F64:
    """Integral of min(wait, longest) while a backlog is worked off: u^2 / 2, and beyond the longest wait a straight line."""
    near = np.minimum(backlog_ms, LONGEST_WAIT_MS)
    return np.asarray(near * (backlog_ms - near / 2.0))


def _externality_per_ms(rate: F64) -> F64:
    return np.asarray(EXTERNALITY_PER_MS * (rate / rate.mean()) ** EXTERNALITY_POWER)


def look(books: Books, job: int) -> ParkView:
    """The view of job number `job` at its arrival; `books` must have been advanced to it."""
    now_ms, busy = books.arrival_ms[:, job], books.head >= 0
    running = np.maximum(books.head, 0)  # an idle server reads job 0 and masks it
    size = np.where(busy, np.take_along_axis(books.size, running, axis=1), 0.0)
    left_ms = np.where(busy, np.take_along_axis(books.finish_ms, running, axis=1) - now_ms[:, None], 0.0)
    return ParkView(
        now_ms=now_ms.copy(),
        size=books.size[:, job].copy(),
        rate=RATES,
        available=np.ones(busy.shape, dtype=np.bool_),
        jobs=books.jobs.copy(),
        waiting_size=books.waiting_size.copy(),
        running_size=size,
        running_ms=left_ms,
        backlog_ms=np.maximum(books.free_ms - now_ms[:, None], 0.0),
    )


def park_observation(view: ParkView) -> F64:
    """The vector that Park's environment returns: ten loads and the size of the incoming job, mixed units and all.  # [B, S + 1]"""
    return np.concatenate([view.load, np.minimum(view.size, OBSERVATION_CAP)[:, None]], axis=1)


def observation(view: ParkView) -> F32:
    """The network's input, times in units of a mean job on a mean server.  # [B, S, F] in the order of `FEATURES`"""
    backlog, own = view.backlog_ms / UNIT_MS, view.service_ms / UNIT_MS
    completion, delay = backlog + own, view.delay_ms / UNIT_MS
    work = (backlog * view.rate).sum(axis=1, keepdims=True) / view.rate.sum()
    columns = (
        np.log1p(view.jobs),
        view.jobs == 0,
        np.broadcast_to(view.rate / view.rate.mean(), backlog.shape),
        np.minimum(backlog, CEILING),
        np.log1p(backlog),
        np.log1p(view.running_ms / UNIT_MS),
        np.log1p(view.waiting_size / MEAN_SIZE),
        np.minimum(own, CEILING),
        np.log(own),
        np.minimum(completion, CEILING),
        np.log1p(completion),
        _excess(backlog),
        _excess(completion),
        np.broadcast_to(np.log(view.size / MEAN_SIZE)[:, None], backlog.shape),
        np.minimum(delay, DELAY_CEILING),
        np.log1p(view.burden_ms2 / UNIT_MS**2),
        np.log1p(delay + view.externality_ms / UNIT_MS),
        np.broadcast_to(np.log(view.rate / view.rate.mean()), backlog.shape),
        np.broadcast_to(np.log1p(work), backlog.shape),
    )
    return np.stack(columns, axis=2, dtype=np.float32, casting="same_kind")


def _excess(time: F64) -> F64:
    return np.asarray(np.log1p(time - time.min(axis=1, keepdims=True)))

"""What happened to every request of a batch of episodes: the one record that ledger, reward and metrics read."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int8]

PENDING: Final = 0
SERVED: Final = 1
FAILED: Final = 2  # by the server: refused, errored, crashed, timed out
UNMEASURED: Final = 3  # the client left: neither good nor bad news about the server


class RequestLog(NamedTuple):
    """N requests of each of B fleets; a request's number in its episode is its id.

    Outcome columns mean something only for requests that have completed: `order[b, :completed[b]]` lists those of fleet b,
    oldest first. (The twin writes them when it sends a request, since its fate is fixed then; reading further is cheating.)
    """

    scheduled_s: F64  # [B, N] arrival at the balancer, from the start of the warm-up
    request_class: I32  # [B, N]
    work_s: F64  # [B, N] service time at speed 1; a balancer cannot know it
    server: I32  # [B, N] where it was sent, -1 before
    status: I8  # [B, N] PENDING, SERVED, FAILED or UNMEASURED
    latency_s: F64  # [B, N] scheduled arrival to completion
    service_s: F64  # [B, N] time in a slot, as the server reports it
    queue_s: F64  # [B, N] time before a slot, as the server reports it
    completed_s: F64  # [B, N]
    order: I32  # [B, N]
    completed: I64  # [B]


PER_REQUEST: Final = frozenset(RequestLog._fields) - {"completed"}


class Outcomes(NamedTuple):
    """Requests that completed since the last look: `log.order[b, start[b]:stop[b]]` of each fleet b, oldest first."""

    start: I64  # [B]
    stop: I64  # [B]


def empty_log(scheduled_s: F64, request_class: I32, work_s: F64) -> RequestLog:
    """A log of requests [B, N] none of which has been sent.

    Memory runs along B: fleets move in step, so request n of all of them lies side by side, where row by row every
    access would be a cache miss (measured: three times slower at B = 512).
    """
    shape = scheduled_s.shape
    return RequestLog(
        scheduled_s=np.asfortranarray(scheduled_s, dtype=np.float64),
        request_class=np.asfortranarray(request_class, dtype=np.int32),
        work_s=np.asfortranarray(work_s, dtype=np.float64),
        server=np.full(shape, -1, dtype=np.int32, order="F"),
        status=np.zeros(shape, dtype=np.int8, order="F"),
        latency_s=np.zeros(shape, order="F"),
        service_s=np.zeros(shape, order="F"),
        queue_s=np.zeros(shape, order="F"),
        completed_s=np.zeros(shape, order="F"),
        order=np.zeros(shape, dtype=np.int32, order="F"),
        completed=np.zeros(shape[0], dtype=np.int64),
    )


def finished_requests(log: RequestLog, outcomes: Outcomes) -> tuple[I64, I64]:
    """Fleet and request number of every outcome, as two flat arrays.  # [M], [M]"""
    counts = outcomes.stop - outcomes.start
    total = int(counts.sum())
    fleet = np.repeat(np.arange(counts.size), counts)
    first = np.cumsum(counts) - counts
    place = np.arange(total) - np.repeat(first - outcomes.start, counts)
    return fleet, log.order[fleet, place].astype(np.int64)

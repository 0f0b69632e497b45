"""What may be sent again, and how often all requests together may be."""

import math
from typing import Final

from trimtab.errors import UsageError

ATTEMPTS: Final = 3  # of one request, the first included
KEPT_BODY_BYTES: Final = 64 * 1024  # of a request body are kept for a retry; a longer one is streamed and gone
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110, 9.2.2; methods are case-sensitive (9.1)
_ROUNDING: Final = 1e-9  # five deposits of 0.2 are one retry, whatever their sum in binary


def may_retry(
    method: str,
    attempt: int,
    *,
    request_bytes_sent: bool,
    response_started: bool,
    body_gone: bool = False,
    attempts: int = ATTEMPTS,
) -> bool:
    """Whether a request whose `attempt`-th attempt (from 1) failed may be sent again, to another server.

    Never once bytes of an answer went to the client: it would get two halves. Never without its body (`body_gone`: it was longer
    than KEPT_BODY_BYTES and part of it went out). RFC 9110, 9.2.2: a proxy must not retry what is not idempotent by itself, for the
    server may have acted on it; if no byte of the request left, it cannot have.
    """
    if response_started or body_gone or attempt >= attempts:
        return False
    return method in IDEMPOTENT or not request_bytes_sent


class RetryBudget:
    """A bucket that answered requests fill and retries empty, so that retries cannot multiply an outage.

    Each request that a server answered puts in `ratio`, each retry takes out 1; `reserve` lies there at the start, and at most `most` is
    saved up. Retries are thus never more than `ratio` of the requests answered so far, and `reserve`; in an outage, in which nothing is
    answered, N requests are sent at most N + `most` times. Finagle and tower (`RetryBudget`; 20 %, ten a second, kept for 10 s) let 100
    and more be saved up too, but deposit for failed requests as well. All that is in flight at a server that dies fails at one moment:
    where ten were the most, some of it was lost.
    """

    def __init__(self, ratio: float = 0.2, reserve: float = 10.0, most: float = 100.0) -> None:
        if not 0 <= ratio < math.inf or not 0 <= reserve < math.inf or not 0 <= most < math.inf:
            raise UsageError(f"retry budget with ratio {ratio}, reserve {reserve} and most {most}: give numbers from 0 up")
        if most < reserve:
            raise UsageError(f"retry budget that saves up to {most}: give its reserve, {reserve}, or more")
        self._ratio, self._most = ratio, most
        self._balance = reserve

    @property
    def balance(self) -> float:
        """Retries that could be sent now."""
        return self._balance

    def deposit(self) -> None:
        """A server answered a request, and not that it failed."""
        self._balance = min(self._balance + self._ratio, self._most)

    def withdraw(self) -> bool:
        """Take one retry out; False, and nothing is taken, where there is none."""
        if self._balance < 1.0 - _ROUNDING:
            return False
        self._balance = max(0.0, self._balance - 1.0)
        return True

    def give_back(self) -> None:
        """A retry that was taken out was not sent."""
        self._balance = min(self._balance + 1.0, self._most)

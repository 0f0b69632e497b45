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
    """A bucket that first attempts fill and retries empty, so that retries cannot multiply an outage.

    As in Finagle and tower (`RetryBudget`: deposit, withdraw; 20 %), without their expiry: each first attempt puts in `ratio`, each
    retry takes out 1, and at most `reserve` lies there, which is also where it starts. N first attempts are thus sent at most
    N (1 + ratio) + reserve times, however many of them fail.
    """

    def __init__(self, ratio: float = 0.2, reserve: float = 10.0) -> None:
        if not 0 <= ratio < math.inf or not 0 <= reserve < math.inf:
            raise UsageError(f"retry budget with ratio {ratio} and reserve {reserve}: give numbers from 0 up")
        self._ratio, self._reserve = ratio, reserve
        self._balance = reserve

    @property
    def balance(self) -> float:
        """Retries that could be sent now."""
        return self._balance

    def deposit(self) -> None:
        """A request is sent for the first time."""
        self._balance = min(self._balance + self._ratio, self._reserve)

    def withdraw(self) -> bool:
        """Take one retry out; False, and nothing is taken, where there is none."""
        if self._balance < 1.0 - _ROUNDING:
            return False
        self._balance = max(0.0, self._balance - 1.0)
        return True

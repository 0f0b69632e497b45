"""How much and how long the gateway puts up with. What goes beyond is answered 413, 431, 408, 503 or 504, or is cut off."""

import math
from dataclasses import dataclass

from trimtab.errors import UsageError


def _all_positive(record: object) -> None:
    for name, value in vars(record).items():
        if not 0 < value < math.inf:
            raise UsageError(f"gateway setting {name} = {value}: give a number above 0")


@dataclass(frozen=True)
class Limits:
    """Sizes. Beyond the header's 431, beyond the body's 413 (RFC 6585, 5; RFC 9110, 15.5.14), beyond `in_flight` 503."""

    header_bytes: int = 16 * 1024  # request line and all headers together
    headers: int = 100
    body_bytes: int = 10 * 1024 * 1024
    in_flight: int = 4096  # requests between arrival and the end of their answer

    def __post_init__(self) -> None:
        _all_positive(self)


@dataclass(frozen=True)
class Timeouts:
    """Seconds, one for each phase: a slow phase must not borrow from the patience meant for another."""

    header_s: float = 10.0  # from the first byte to the end of the headers; a trickle does not extend it
    body_idle_s: float = 30.0  # between two pieces of a request body
    connect_s: float = 1.0  # to a server
    first_byte_s: float = 10.0  # from the end of the request to the server's first byte
    idle_s: float = 30.0  # between two pieces of an answer
    keep_alive_s: float = 75.0  # a client's connection without a request
    drain_s: float = 10.0  # requests in flight get this long after SIGTERM

    def __post_init__(self) -> None:
        _all_positive(self)

"""How much and how long the gateway puts up with. What goes beyond is answered 413, 431, 408, 503 or 504, or is cut off."""

import ipaddress
import math
from dataclasses import dataclass

from trimtab.errors import UsageError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _all_positive(record: object, *others: str) -> None:
    for name, value in vars(record).items():
        if name in others:
            continue
        if not 0 < value < math.inf:
            raise UsageError(f"gateway setting {name} = {value}: give a number above 0")


@dataclass(frozen=True)
class Limits:
    """Sizes, and whom to believe. Beyond the header's 431, beyond the body's 413 (RFC 6585, 5; RFC 9110, 15.5.14), beyond `in_flight` and
    `connections` 503."""

    header_bytes: int = 16 * 1024  # request line and all headers together
    headers: int = 100
    body_bytes: int = 10 * 1024 * 1024
    in_flight: int = 4096  # requests between arrival and the end of their answer
    connections: int = 4096  # of clients; idle ones make room for new ones
    trusted_proxies: tuple[Network, ...] = ()  # whose X-Forwarded-* are believed; everybody else's are replaced
    server_in_flight: int = 1024  # of them at one server, beyond which it is offered no more (circuit.py)

    def __post_init__(self) -> None:
        _all_positive(self, "trusted_proxies")


@dataclass(frozen=True)
class Timeouts:
    """Seconds, one for each phase: a slow phase must not borrow from the patience meant for another."""

    header_s: float = 10.0  # from the first byte to the end of the headers; a trickle does not extend it
    body_idle_s: float = 30.0  # between two pieces of a request body
    body_s: float = 300.0  # of waiting for a body, in all: 10 MiB at 35 kB/s (Envoy, request_timeout of its guide for edge proxies)
    connect_s: float = 1.0  # to a server
    first_byte_s: float = 10.0  # from the end of the request to the server's first byte
    idle_s: float = 30.0  # between two pieces of an answer, and for a client to take one of the gateway's own
    half_close_s: float = 1.0  # a client that sends no more gets its answer if that begins within so long
    keep_alive_s: float = 75.0  # a client's connection without a request
    lame_duck_s: float = 0.0  # after SIGTERM /readyz says 503 and everything else goes on, so that others stop sending first
    drain_s: float = 10.0  # then requests in flight get this long

    def __post_init__(self) -> None:
        _all_positive(self, "lame_duck_s")
        if not 0 <= self.lame_duck_s < math.inf:
            raise UsageError(f"gateway setting lame_duck_s = {self.lame_duck_s}: give a number from 0 up")

"""What of a message's headers goes on, and what the gateway adds. No sockets here."""

import re
import secrets
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from trimtab.gateway.limits import Network

RawHeaders = Iterable[tuple[bytes, bytes]]

# For one connection only: RFC 9110, 7.6.1, and the two of proxy authentication, which the gateway does not do for anybody else.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
NAME: Final = "trimtab"
# In Via, this process and no other (RFC 9110, 7.6.3): a request that comes with it has been here before.
PSEUDONYM: Final = f"{NAME}-{secrets.token_hex(4)}"
_HOP_BY_HOP_BYTES: Final = frozenset(name.encode() for name in HOP_BY_HOP)
_KEPT_BACK: Final = HOP_BY_HOP | {"expect"}  # the gateway itself says 100 Continue, once it wants the body
# What senders say about a client that is not theirs to name: RFC 7239, and the names in use before it.
_CLAIMED: Final = frozenset({"forwarded", "x-real-ip"})
_CLAIMS: Final = "x-forwarded-"
_REPLACED: Final = frozenset({"host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "via", "x-request-id"})
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_BREAKS_LINES: Final = re.compile(rb"[\r\n\0]")  # the parser of answers is lenient; a client's may split there what is one header


class Sender(NamedTuple):
    """Who sent a request, and to whom, as the gateway sees it."""

    address: str
    host: str  # of the target or the Host header; empty in HTTP/1.0 without one
    version: str  # of the protocol the message came with, such as 1.1
    trusted: bool = False  # a proxy whose word about its client counts


def believes(proxies: Sequence[Network], address: str) -> bool:
    """Whether `address` lies in one of these networks; one that is no IP address lies in none."""
    if not proxies:
        return False
    try:
        one = ip_address(address)
    except ValueError:
        return False
    known = getattr(one, "ipv4_mapped", None) or one
    return any(known in network for network in proxies)


def request_id(offered: str | None) -> str:
    """The client's own id if it can be passed on as it is, else a new one of 128 random bits."""
    return offered if offered is not None and _REQUEST_ID.fullmatch(offered) else secrets.token_hex(16)


def request_headers(headers: Iterable[tuple[str, str]], sender: Sender, identity: str) -> list[tuple[str, str]]:
    """What a server is sent: everything end to end in its order, then who asked, for which host, and by which way.

    What a sender that is not trusted says of clients and hosts (`Forwarded`, `X-Forwarded-...`, `X-Real-IP`) stays behind.
    """
    pairs = [(name, name.lower(), value) for name, value in headers]
    named = _named([value for _, lower, value in pairs if lower == "connection"])
    dropped = _KEPT_BACK | named if named else _KEPT_BACK
    own: dict[str, list[str]] = {}
    kept: list[tuple[str, str]] = []
    for name, lower, value in pairs:
        if lower in dropped or (not sender.trusted and (lower.startswith(_CLAIMS) or lower in _CLAIMED)):
            continue
        if lower in _REPLACED:
            own.setdefault(lower, []).append(value)
        else:
            kept.append((name, value))
    if sender.host:
        kept.insert(0, ("Host", sender.host))
    kept += [
        ("X-Forwarded-For", ", ".join([*own.get("x-forwarded-for", ()), sender.address])),
        # A proxy in front that ends TLS knows better than this one what the client used.
        ("X-Forwarded-Proto", own.get("x-forwarded-proto", ("http",))[0]),
        ("X-Forwarded-Host", own.get("x-forwarded-host", (sender.host,))[0]),
        ("Via", ", ".join([*own.get("via", ()), f"{sender.version} {PSEUDONYM}"])),
        ("X-Request-Id", identity),
    ]
    return kept


def response_headers(headers: RawHeaders, version: str, identity: str, *, keep_length: bool) -> list[tuple[bytes, bytes]]:
    """What the client is sent, byte for byte as the server wrote it.

    Raises ValueError for a value that would break the head's lines, and for a name that is no token: "Content-Length :" means something
    to one reader and nothing to another (RFC 9112, 5.1).
    """
    pairs = [(name, name.lower(), value) for name, value in headers]
    named = _named([value.decode("latin-1") for _, lower, value in pairs if lower == b"connection"])
    # `Connection` must not name what belongs to the message (RFC 9110, 7.6.1): without its length a client would wait for its end in vain.
    dropped = _HOP_BY_HOP_BYTES | {one.encode() for one in named if one != "content-length"} if named else _HOP_BY_HOP_BYTES
    if not keep_length:
        dropped = dropped | {b"content-length"}
    kept = [(name, value) for name, lower, value in pairs if lower not in dropped]
    if _BREAKS_LINES.search(b" ".join([value for _, value in kept])):
        raise ValueError("a header of the answer holds a line break or a zero byte")
    if not all(_TOKEN.fullmatch(name) for name, _, _ in pairs):
        raise ValueError("a header of the answer has a name that is no token")
    kept.append((b"Via", f"{version} {PSEUDONYM}".encode()))
    if all(lower != b"x-request-id" for _, lower, _ in pairs):
        kept.append((b"X-Request-Id", identity.encode()))
    return kept


def response_head(status: int, reason: str, headers: RawHeaders) -> bytes:
    """Status line and headers, up to and including the empty line."""
    phrase = _BREAKS_LINES.sub(b" ", reason.encode("utf-8", "surrogateescape"))
    lines = [b"HTTP/1.1 %d %b" % (status, phrase), *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"\r\n"])


def _named(connection: Sequence[str]) -> frozenset[str]:
    """Headers that `Connection` declares to be for this connection only, in lower case."""
    if not connection:
        return frozenset()
    return frozenset(name for value in connection for one in value.split(",") if (name := one.strip().lower()))

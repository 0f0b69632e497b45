"""Requests that the gateway does not pass on although the parser let them through."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from trimtab.gateway.headers import PSEUDONYM
from trimtab.gateway.limits import Limits

LINE_EXTRAS: Final = 4  # ": " and the line's end
_ABSOLUTE: Final = re.compile(r"[^:/?]*://([^/?]*)(.*)")


class Refusal(NamedTuple):
    """An answer of the gateway's own."""

    status: int
    reason: str


class Head(NamedTuple):
    """What refusing looks at. `headers` ignores the case of names."""

    method: str
    target: str  # as it stands in the request line
    version: tuple[int, int]
    headers: Mapping[str, str]
    size: int  # bytes of request line and headers


def head_size(method: str, target: str, raw_headers: tuple[tuple[bytes, bytes], ...]) -> int:
    """Bytes of a request line and its headers, nearly: white space around values is gone by now."""
    return len(method) + len(target) + sum(len(name) + len(value) + LINE_EXTRAS for name, value in raw_headers)


def refusal(head: Head, limits: Limits) -> Refusal | None:
    """Why a request is not passed on, or None."""
    return _version_refused(head) or _size_refused(head, limits) or _target_refused(head) or _headers_refused(head)


def path_of(target: str) -> str:
    """Path of a request target as it was sent, without query; of an absolute one too."""
    if not target.startswith("/"):
        target = urlsplit(target).path or "/"
    return target.partition("?")[0]


def origin_form(target: str) -> tuple[str, str]:
    """Authority (empty where there is none) and path with query of a request target. RFC 9112, 3.2.2: the authority replaces Host."""
    if target.startswith("/"):
        return "", target
    authority, rest = _ABSOLUTE.fullmatch(target).groups()  # type: ignore[union-attr]  # `refusal` let it through
    return authority, rest if rest.startswith("/") else f"/{rest}"


def _version_refused(head: Head) -> Refusal | None:
    if head.version not in {(1, 0), (1, 1)}:
        return Refusal(505, f"HTTP/{head.version[0]}.{head.version[1]} is not spoken here; use HTTP/1.1")
    return None


def _size_refused(head: Head, limits: Limits) -> Refusal | None:
    if head.size > limits.header_bytes:
        return Refusal(431, f"the head has {head.size} bytes; allowed: {limits.header_bytes}")
    length = head.headers.get("Content-Length")
    if length is not None and int(length) > limits.body_bytes:
        return Refusal(413, f"the body has {length} bytes; allowed: {limits.body_bytes}")
    return None


def _target_refused(head: Head) -> Refusal | None:
    if head.method == "CONNECT" or head.target == "*":
        return Refusal(501, f"{head.method} {head.target} asks for a tunnel or the whole server; the gateway passes on paths")
    if "#" in head.target:
        return Refusal(400, "the target has a fragment, which is never sent (RFC 9112, 3.2)")
    if not head.target.startswith("/") and not _is_plain_http(head.target):
        return Refusal(400, "the target is neither a path nor an http URL with a plain host")
    return None


def _headers_refused(head: Head) -> Refusal | None:
    if _has_been_here(head.headers):
        return Refusal(508, "this request has been here before: a server's address leads back to the gateway")
    coding = head.headers.get("Transfer-Encoding")
    if coding is not None and head.version == (1, 0):
        return Refusal(400, "Transfer-Encoding in HTTP/1.0: its end cannot be trusted (RFC 9112, 6.1)")
    if coding is not None and coding.strip().lower() != "chunked":
        return Refusal(501, f"Transfer-Encoding {coding!r} is not undone here; send chunked alone")
    expected = head.headers.get("Expect")
    if expected is not None and expected.lower() != "100-continue":
        return Refusal(417, f"Expect {expected!r} cannot be met; only 100-continue is known")
    if not _is_text(head.headers):
        return Refusal(400, "a header is not valid UTF-8; bytes beyond ASCII are passed on in UTF-8 only")
    return None


def _has_been_here(headers: Mapping[str, str]) -> bool:
    """This process is named in `Via`, of which there may be several."""
    return "Via" in headers and any(PSEUDONYM in value for name, value in headers.items() if name.lower() == "via")


def _is_plain_http(target: str) -> bool:
    try:
        parts = urlsplit(target)
        return parts.scheme.lower() == "http" and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False


def _is_text(headers: Mapping[str, str]) -> bool:
    """Whether the headers can be written as they were read: undecodable bytes stand in them as lone surrogates."""
    return all(value.isascii() or not any("\ud800" <= one <= "\udfff" for one in value) for value in headers.values())

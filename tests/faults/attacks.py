"""What bad clients send, and what the gateway answers to it: docs/gateway.md and RFC 9112.

`%ID%` stands for the attack's own number: `attack=%ID%` is a request that may pass, `smuggled=%ID%` one that no server may ever see.
"""

import struct
from typing import NamedTuple

SOON_S = 5.0  # what can be judged from its bytes is judged at once; the rest of this is the machine's
HEAD_S, BODY_S = 12.0, 34.0  # the gateway's 10 s for a head and 30 s between two pieces of a body or an answer, and some
CLOSED = 0  # in place of a status: the connection ended without an answer
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: close() sends a RST

_GET = b"GET /job/page?attack=%ID% HTTP/1.1\r\nHost: faults\r\n"
_LAST = b"Connection: close\r\n\r\n"
_SMUGGLED = b"GET /job/page?smuggled=%ID% HTTP/1.1\r\nHost: faults\r\n\r\n"
_POST = b"POST /job/page?attack=%ID% HTTP/1.1\r\nHost: faults\r\n"
_SINK = b"POST /sink?attack=%ID% HTTP/1.1\r\nHost: faults\r\n"  # a server that waits for the whole body
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
_REFUSED = b"GET /job/page?smuggled=%ID% HTTP/1.1\r\nHost: faults\r\n"
_NOT_SENT = b"POST /job/page?smuggled=%ID% HTTP/1.1\r\nHost: faults\r\n"


class Attack(NamedTuple):
    """One connection of a bad client: it sends `raw`, does what `then` says, and reads until the gateway ends the connection."""

    raw: bytes
    statuses: tuple[tuple[int, ...], ...]  # the answers that are allowed, each as the sequence of its statuses
    reach: int = 0  # requests with the attack's number that a server may see
    then: str = "read"  # read | half-close | reset | reset in answer | read slowly
    ends_s: float = SOON_S


def _refused(raw, *statuses, reach=0, ends_s=SOON_S):
    return Attack(raw + _SMUGGLED, tuple((one,) for one in statuses or (400,)), reach, ends_s=ends_s)


def _chunks(raw):
    """The head may have been passed on before the chunk that is wrong was read; what stands behind it must not be."""
    return _refused(_CHUNKED + raw, reach=1)


ATTACKS = {
    "header of 1 MiB": _refused(_REFUSED + b"X-Huge: " + b"y" * 2**20 + b"\r\n\r\n", 431),
    "1000 headers": _refused(_REFUSED + b"".join(b"X-%d: y\r\n" % number for number in range(1000)) + b"\r\n", 431),
    "target of 64 KiB": _refused(b"GET /" + b"y" * 2**16 + b" HTTP/1.1\r\nHost: faults\r\n\r\n", 431),
    "length and chunks": _refused(_NOT_SENT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunks and length": _refused(_NOT_SENT + b"Transfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\n"),
    "two lengths": _refused(_NOT_SENT + b"Content-Length: 0\r\nContent-Length: 60\r\n\r\n"),
    "length of 1 GiB": _refused(_NOT_SENT + b"Content-Length: 1073741824\r\n\r\n", 413),
    "disguised coding": _refused(_NOT_SENT + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "folded header": _refused(_NOT_SENT + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    "bare LF": _refused(b"GET /job/page?smuggled=%ID% HTTP/1.1\nHost: faults\n\n"),
    "NUL in a header": _refused(_REFUSED + b"X: a\0b\r\n\r\n"),
    "space before the colon": _refused(_NOT_SENT + b"Content-Length : 60\r\n\r\n"),
    "chunk size of no digits": _chunks(b"zz\r\nhello\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": _chunks(b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    "negative chunk size": _chunks(b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk longer than said": _chunks(b"5\r\nhello!\r\n0\r\n\r\n"),
    "line feed in a chunk extension": _chunks(b"5;a\nhello\r\n0\r\n\r\n"),
    "NUL in a chunk extension": _chunks(b"5;a=\0b\r\nhello\r\n0\r\n\r\n"),
    "authority as target": _refused(b"GET faults:80 HTTP/1.1\r\nHost: faults\r\n\r\n"),
    "tunnel": _refused(b"CONNECT faults:443 HTTP/1.1\r\nHost: faults:443\r\n\r\n", 400, 501),
    "unknown method": _refused(b"BREW /job/page?smuggled=%ID% HTTP/1.1\r\nHost: faults\r\n\r\n", 501),
    "HTTP/0.9": _refused(b"GET /job/page?smuggled=%ID%\r\n\r\n"),
    "HTTP/2 preface": _refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 400, 501, 505),
    "TLS hello": _refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
    "absolute target": Attack(b"GET http://faults/job/page?attack=%ID% HTTP/1.1\r\nHost: other\r\n" + _LAST, ((200,),), 1),
    "pipelined": Attack((_GET + b"\r\n") * 3 + _GET + _LAST, ((200, 200, 200, 200),), 4),
    # A request that arrives in one piece with a bad one may be refused with it: the client learns that nothing was done.
    "pipelined, one bad": Attack(_GET + b"\r\nBAD\r\n\r\n" + _SMUGGLED, ((200, 400), (200, 501), (400,), (501,)), 1),
    "half-closed": Attack(_GET + _LAST, ((), (200,)), 1, "half-close"),
    "reset in the head": Attack(_REFUSED, ((),), 0, "reset"),
    "reset in the body": Attack(_POST + b"Content-Length: 5000\r\n\r\nhello", ((),), 1, "reset"),
    "reset in the answer": Attack(b"GET /big?attack=%ID% HTTP/1.1\r\nHost: faults\r\n\r\n", ((), (200,)), 1, "reset in answer"),
}
# These hold a connection for as long as they are let; a few of each, beside the others.
LASTING = {
    "head that never ends": Attack(_REFUSED, ((408,),), ends_s=HEAD_S),
    "body that never comes": Attack(_SINK + b"Content-Length: 5000\r\n\r\nhello", ((408,),), 1, ends_s=BODY_S),
    "chunks that never end": Attack(_SINK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ((408,),), 1, ends_s=BODY_S),
    "chunk of 2 GiB that never comes": Attack(_SINK + b"Transfer-Encoding: chunked\r\n\r\n7fffffff\r\nhello", ((408,),), 1, ends_s=BODY_S),
    "slow reader": Attack(b"GET /huge?attack=%ID% HTTP/1.1\r\nHost: faults\r\n\r\n", ((200,),), 1, "read slowly", ends_s=2 * BODY_S),
}

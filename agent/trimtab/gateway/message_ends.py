"""Where one request ends in what arrives, and the next one's head begins. No sockets here."""

from collections.abc import Mapping, Sequence
from typing import Final

HEAD_END: Final = b"\r\n\r\n"


class MessageEnds:
    """Knows whether bytes came in one piece with the end of a request, which then begin the next one's head.

    The parser does not tell. Without knowing, such a head would have no deadline; where it cannot be known, which takes a body in chunks
    and another request behind it in one piece, there is taken to be a head.
    """

    def __init__(self) -> None:
        self._kept = b""  # the last bytes of a head that is not whole, in which its end may begin
        self._in_head = False
        self._left: int | None = None  # bytes to come of a body with a length

    def in_head(self, data: bytes) -> None:
        """`data` did not complete a head, and belongs to one."""
        self._in_head = True
        self._kept = (self._kept + data)[-(len(HEAD_END) - 1) :]

    def is_beyond(self, data: bytes, fresh: Sequence[Mapping[str, str]]) -> bool:
        """`data` completed heads with these headers, or went on with a body: whether it holds more than those requests."""
        before, self._kept = self._kept, b""
        begun, self._in_head = self._in_head, False
        if fresh:
            self._left = _after_heads(before + data, fresh, begun=begun)
        elif self._left is not None:
            self._left -= len(data)
        if not data or (before + data).endswith(HEAD_END):  # ends heads and chunks; what came after either would be the beginning of a head
            return False
        return self._left is None or self._left < 0


def _after_heads(data: bytes, fresh: Sequence[Mapping[str, str]], *, begun: bool) -> int | None:
    """Bytes still to come of the last body, negative if there are more than belong to it; None if unknown."""
    stop = 0
    for headers in fresh:
        if "Transfer-Encoding" in headers:
            return None
        start = stop if begun else stop + len(data[stop:]) - len(data[stop:].lstrip(b"\r\n"))
        end = data.find(HEAD_END, start)
        if end < 0:
            return None
        stop, begun = end + len(HEAD_END) + int(headers.get("Content-Length", 0)), False
    return stop - len(data)

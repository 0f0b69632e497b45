"""An HTTP/1.1 client of the campaign's own: an open loop, so that what is slow or broken does not slow the load down."""

import asyncio
import json
import os
from collections import Counter
from typing import NamedTuple

import numpy as np

HOST = "127.0.0.1"
ANSWER_S = 40.0  # a request that three servers let wait for 10 s each is answered sooner
BROKEN = 0  # the status of a request without a whole answer
# A free connection that waited for longer is not used again, as in every client's pool: the gateway ends it after 75 s without a request,
# and a request that is sent at that very moment is lost (RFC 9112, 9.6). One that it ends sooner is noticed here, as an unanswered request.
KEPT_S = 30.0


class Answer(NamedTuple):
    """What became of one request; times on the event loop's clock. Latency counts from when the request was due."""

    identity: str
    due_s: float
    latency_s: float
    status: int
    server: str  # the scenario's id of who served it; empty where the gateway answered
    matches: bool  # the answer carries the request's own id
    why: str  # it was not answered 200, in words; empty where it was

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def ended_s(self) -> float:
        return self.due_s + self.latency_s


class Connection:
    """One connection that is kept alive."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.closes = self.began = False  # as the last answer said; bytes of the present one have come
        self.answered = 0
        self.free_s = 0.0  # when it got free

    async def ask(self, method, path, identity):
        """Status, headers and body of one answer. Raises OSError, EOFError, ValueError."""
        length = "Content-Length: 2\r\n" if method == "POST" else ""
        body = "{}" if method == "POST" else ""
        self.began = False
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: faults\r\nX-Request-Id: {identity}\r\n{length}\r\n{body}".encode())
        first = await self.reader.readexactly(1)
        self.began = True
        head = first + await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").rstrip().split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await self.reader.readexactly(int(headers["content-length"]))
        self.closes = headers.get("connection", "").lower() == "close"
        self.answered += 1
        return int(status.split()[1]), headers, content


class Client:
    """Sends requests when they are due, each on a free connection or a new one."""

    def __init__(self, port, name):
        self.port, self.name = port, name
        self.answers: list[Answer] = []
        self._free: list[Connection] = []
        self._sent = 0
        self.outlived = 0  # connections found ended when one was needed, all after KEPT_S: whoever used them would lose requests

    async def drive(self, rate_rps, count, seed, methods=("GET",), leave=None):
        """`count` requests at Poisson times; returns their answers. `leave(n)`: seconds after which client n goes away, or None."""
        loop = asyncio.get_running_loop()
        dues = loop.time() + np.cumsum(np.random.default_rng(seed).exponential(1 / rate_rps, count))
        first, tasks = len(self.answers), []
        for due_s in dues.tolist():
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            method = methods[self._sent % len(methods)]
            patience_s = leave(self._sent) if leave else None
            tasks.append(asyncio.create_task(self._request(f"{self.name}-{self._sent}", due_s, method, patience_s)))
            self._sent += 1
        await asyncio.gather(*tasks)
        return self.answers[first:]

    def close(self):
        for one in self._free:
            one.writer.close()
        self._free.clear()

    async def _request(self, identity, due_s, method, patience_s):
        status, server, matches = BROKEN, "", False
        connection = None
        try:
            async with asyncio.timeout(patience_s or ANSWER_S):
                connection = self._kept() or Connection(*await asyncio.open_connection(HOST, self.port))
                status, headers, content = await connection.ask(method, "/job/page", identity)
            matches = headers.get("x-request-id") == identity
            server = content.decode().partition('"server": "')[2].partition('"')[0]
            why = "" if status == 200 else _reason(status, server, content)
        except (OSError, EOFError, ValueError, KeyError) as error:
            if patience_s is not None and isinstance(error, TimeoutError):
                return self._drop(connection)
            why = _loss(error, connection)
        now_s = asyncio.get_running_loop().time()
        self.answers.append(Answer(identity, due_s, now_s - due_s, status, server, matches, why))
        if status == BROKEN or connection.closes:
            return self._drop(connection)
        connection.free_s = now_s
        self._free.append(connection)
        return None

    def _kept(self):
        """The connection that got free last; None where there is none, or it waited for too long."""
        one = self._free.pop() if self._free else None
        if one is None or asyncio.get_running_loop().time() - one.free_s <= KEPT_S:
            return one
        self.outlived += one.reader.at_eof()
        return self._drop(one)

    @staticmethod
    def _drop(connection):
        if connection is not None:
            connection.writer.close()


def _loss(error, connection):
    """Why there is no whole answer, as far as a client can know."""
    began = connection is not None and connection.began
    if isinstance(error, TimeoutError):
        return f"answer begun and not whole within {ANSWER_S:g} s" if began else f"no answer within {ANSWER_S:g} s"
    if isinstance(error, ValueError | KeyError):
        return "answer that is not proper HTTP"
    if connection is None:
        return f"no connection ({os.strerror(error.errno)})" if getattr(error, "errno", None) else "no connection"
    if began:
        return "broken off after its answer began"
    return f"{'kept' if connection.answered else 'new'} connection ended before an answer"


def _reason(status, server, content):
    """A status other than 200 in words: the server's, or the gateway's own."""
    if server:
        return f"{status} of a server ({json.loads(content).get('error', 'no reason given')})"
    line = content.decode().partition("\n")[0]
    return line if line.startswith(str(status)) else str(status)


def failed(answers):
    """Requests that were not answered 200."""
    return sum(not one.ok for one in answers)


def told(answers):
    """What became of the failed ones, most frequent first, as text; empty where there are none."""
    return "".join(f"; {many} x {why}" for why, many in Counter(one.why for one in answers if not one.ok).most_common())


def p99_ms(answers, since_s=0.0, until_s=float("inf")):
    """Of the requests that were due in the span and served; NaN where there are none."""
    found = [one.latency_s for one in answers if one.ok and since_s <= one.due_s < until_s]
    return 1e3 * float(np.percentile(found, 99)) if found else float("nan")


def share_of(answers, server, since_s=0.0, until_s=float("inf")):
    """Share of the requests due in the span that `server` answered, well or badly."""
    span = [one for one in answers if since_s <= one.due_s < until_s]
    return sum(one.server == server for one in span) / max(1, len(span))

"""An HTTP/1.1 client of the campaign's own: an open loop, so that what is slow or broken does not slow the load down."""

import asyncio
from collections import Counter
from typing import NamedTuple

import numpy as np

HOST = "127.0.0.1"
ANSWER_S = 40.0  # a request that three servers let wait for 10 s each is answered sooner
BROKEN = 0  # the status of a request without a whole answer


class Answer(NamedTuple):
    """What became of one request; times on the event loop's clock. Latency counts from when the request was due."""

    identity: str
    due_s: float
    latency_s: float
    status: int
    server: str  # the scenario's id of who served it; empty where the gateway answered
    matches: bool  # the answer carries the request's own id

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
        self.closes = False

    async def ask(self, method, path, identity):
        """Status, headers and body of one answer. Raises OSError, EOFError, ValueError."""
        length = "Content-Length: 2\r\n" if method == "POST" else ""
        body = "{}" if method == "POST" else ""
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: faults\r\nX-Request-Id: {identity}\r\n{length}\r\n{body}".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").rstrip().split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await self.reader.readexactly(int(headers["content-length"]))
        self.closes = headers.get("connection", "").lower() == "close"
        return int(status.split()[1]), headers, content


class Client:
    """Sends requests when they are due, each on a free connection or a new one."""

    def __init__(self, port, name):
        self.port, self.name = port, name
        self.answers: list[Answer] = []
        self._free: list[Connection] = []
        self._sent = 0

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
                connection = self._free.pop() if self._free else Connection(*await asyncio.open_connection(HOST, self.port))
                status, headers, content = await connection.ask(method, "/job/page", identity)
            matches = headers.get("x-request-id") == identity
            server = content.decode().partition('"server": "')[2].partition('"')[0]
        except TimeoutError:
            if patience_s is not None:
                return self._drop(connection)
        except (OSError, EOFError, ValueError, KeyError):
            pass
        self.answers.append(Answer(identity, due_s, asyncio.get_running_loop().time() - due_s, status, server, matches))
        if status == BROKEN or connection.closes:
            return self._drop(connection)
        self._free.append(connection)
        return None

    @staticmethod
    def _drop(connection):
        if connection is not None:
            connection.writer.close()


def failed(answers):
    """Requests that were not answered 200."""
    return sum(not one.ok for one in answers)


def told(answers):
    """What the failed ones were answered, as text; empty where there are none."""
    found = Counter(one.status for one in answers if not one.ok)
    return "".join(f"; {many} x {status or 'broken off'}" for status, many in sorted(found.items()))


def p99_ms(answers, since_s=0.0, until_s=float("inf")):
    """Of the requests that were due in the span and served; NaN where there are none."""
    found = [one.latency_s for one in answers if one.ok and since_s <= one.due_s < until_s]
    return 1e3 * float(np.percentile(found, 99)) if found else float("nan")


def share_of(answers, server, since_s=0.0, until_s=float("inf")):
    """Share of the requests due in the span that `server` answered, well or badly."""
    span = [one for one in answers if since_s <= one.due_s < until_s]
    return sum(one.server == server for one in span) / max(1, len(span))

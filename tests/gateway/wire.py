"""Both ends of a gateway for tests: servers that answer by script, clients that write raw bytes, and a deadline for everything."""

import asyncio
import functools
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from builders import scenario, server
from trimtab.core.scenario import RequestClass
from trimtab.gateway.classes import ClassMatcher
from trimtab.gateway.guard import DECIDING
from trimtab.gateway.limits import Limits, Timeouts
from trimtab.gateway.running import build_balancer
from trimtab.gateway.shell import Gateway

HOST = "127.0.0.1"
TEST_S, WAIT_S = 60, 10
CLASSES = (RequestClass("light", 0.5, 0.010), RequestClass("heavy", 0.5, 0.030))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def live(test):
    """A test that is a coroutine, run to its end or to the deadline."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), TEST_S))

    return run


def soon(awaitable):
    return asyncio.wait_for(awaitable, WAIT_S)


async def until(condition):
    """Poll; a condition that never holds ends the test."""

    async def poll():
        while not condition():
            await asyncio.sleep(0.005)

    await soon(poll())


@dataclass
class Got:
    """A message as it arrived."""

    first: str  # request or status line
    headers: list[tuple[str, str]]
    body: bytes = b""
    reader: asyncio.StreamReader | None = field(default=None, repr=False)

    @property
    def target(self):
        return self.first.split(" ")[1]

    @property
    def status(self):
        return int(self.first.split(" ")[1])

    def all(self, name):
        return [value for known, value in self.headers if known.lower() == name.lower()]

    def one(self, name):
        values = self.all(name)
        assert len(values) <= 1, f"{name}: {values}"
        return values[0] if values else None


async def read_head(reader):
    lines = (await soon(reader.readuntil(b"\r\n\r\n"))).decode("latin-1").split("\r\n")
    return Got(lines[0], [tuple(re.split(r":\s*", line, maxsplit=1)) for line in lines[1:-2]])


async def read_body(got, reader):
    if "chunked" in (got.one("Transfer-Encoding") or ""):
        while size := int((await soon(reader.readuntil(b"\n"))).split(b";")[0], 16):
            got.body += (await soon(reader.readexactly(size + 2)))[:-2]
        assert await soon(reader.readline()) == b"\r\n"
    elif (length := got.one("Content-Length")) is not None:
        got.body = await soon(reader.readexactly(int(length)))
    return got


class Backend:
    """A server. `answer(got, writer)` is called for each request; what it returns False for is the connection's last."""

    def __init__(self, answer=None, *, reads_body=True):
        self.answer, self.reads_body = answer or self.say_ok, reads_body
        self.requests, self.connections, self.lost = [], 0, 0
        self.probes, self.healthy = 0, True
        self._writers = set()

    async def say_ok(self, got, writer):
        writer.write(OK[:-2] if got.first.startswith("HEAD ") else OK)

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.die()

    def die(self):
        """As after kill -9: every connection is reset, and new ones are refused."""
        self.listener.close()
        for writer in self._writers:
            writer.transport.abort()

    @property
    def url(self):
        return f"http://{HOST}:{self.port}"

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        counted = False
        try:
            while True:
                got = await read_head(reader)
                if got.target == "/health":
                    self.probes += 1
                    writer.write(OK if self.healthy else b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
                    continue
                self.connections += not counted
                counted = True
                await self._one(got, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, StopAsyncIteration):
            self.lost += counted
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(self, got, reader, writer):
        got.reader = reader
        self.requests.append(got)
        if self.reads_body:
            await read_body(got, reader)
        if await self.answer(got, writer) is False:
            raise StopAsyncIteration
        await writer.drain()


def says(raw, *, last=False):
    """An answer that is always these bytes."""

    async def answer(got, writer):
        writer.write(raw)
        return not last

    return answer


async def hangs(got, writer):
    """An answer that never comes; returns when the other side leaves."""
    await got.reader.read()
    return False


async def slams(got, writer):
    """The connection is reset instead of an answer."""
    writer.transport.abort()
    return False


class InOrder:
    """Decides for the first open server."""

    primary, names, fallback, state, reasons = "in-order", ("in-order",), None, DECIDING, {}

    def decide(self, view):
        return int(np.argmax(view.available[0])), self.primary

    def rehearse(self, view):
        pass


@asynccontextmanager
async def gateway(*backends, limits=None, reserved=lambda _path: None, urls=None, seed=0, **timeouts):
    """A gateway before these backends, which asks them in order. Keyword arguments are fields of Timeouts."""
    urls = urls or [one.url for one in backends]
    fleet = scenario(*[server(4, {"light": 1.0, "heavy": 1.0}) for _ in urls], classes=CLASSES)
    limits = limits or Limits()
    balancer = build_balancer(fleet, InOrder(), ClassMatcher(fleet), seed, limits)
    one = Gateway(balancer, urls, limits, Timeouts(**timeouts), reserved)
    await one.start(HOST, 0)
    try:
        yield one
        await until(lambda: balances(one))
    finally:
        await one.stop()


def balances(one):
    """Nothing in flight, and every request that was sent has ended."""
    counts = one.balancer.router.counts
    return counts.in_flight == 0 and counts.sent == counts.served + counts.failed + counts.unmeasured


def ended(one):
    counts = one.balancer.router.counts
    return counts.served, counts.failed, counts.unmeasured


class Client:
    """A connection that is written to in bytes."""

    def __init__(self, port):
        self.port = port

    async def __aenter__(self):
        self.reader, self.writer = await soon(asyncio.open_connection(HOST, self.port))
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def send(self, raw):
        self.writer.write(raw)
        await soon(self.writer.drain())

    async def answer(self, *, bodyless=False):
        got = await read_head(self.reader)
        return got if bodyless else await read_body(got, self.reader)

    async def ask(self, line, *headers, body=b"", bodyless=False):
        """`ask("GET /path", "X: y")`."""
        await self.send("\r\n".join([f"{line} HTTP/1.1", "Host: example", *headers, "", ""]).encode() + body)
        return await self.answer(bodyless=bodyless)

    async def rest(self):
        """All that comes until the connection ends."""
        return await soon(self.reader.read())

    async def is_closed(self):
        try:
            return await self.rest() == b""
        except ConnectionError:
            return True


async def ask(one, line, *headers, body=b"", bodyless=False):
    """One request on a connection of its own."""
    async with Client(one.port) as client:
        return await client.ask(line, *headers, body=body, bodyless=bodyless)

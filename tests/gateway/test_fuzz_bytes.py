"""The parser's boundary over a real socket: whatever bytes a client sends, it is answered in HTTP or its connection is closed, and no
server sees a request that nobody sent."""

import asyncio
import re
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.wire import HOST, Backend, ask, balances, gateway, soon, until

SHORT_S = 0.15  # of every phase in which the gateway waits for a client
LINES = re.compile(rb"HTTP/1\.[01]\r?\n")
STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) [^\r\n]*\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n]*\r\n)*)\r\n")

PARTS = (
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"PUT http://a/e HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"GET /f HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /g HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)
INSERTS = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"0",
    b"\xff",
    b"chunked",
    b"Content-Length: 7\r\n",
    b"Transfer-Encoding: x\r\n",
    b"GET ",
)


@st.composite
def mutated(draw):
    """A few proper requests after each other, with bytes taken out or put in."""
    raw = bytearray(b"".join(draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=3))))
    for place, cut, put in draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 4), st.sampled_from(INSERTS)), max_size=3)):
        raw[place : place + cut] = put
    return bytes(raw)


@pytest.fixture(scope="module")
def stage():
    """A gateway that waits for nobody long, before a server that keeps what it is sent, on a loop that outlives an example."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        backend = runner.run(stack.enter_async_context(Backend()))
        patience = {"header_s": SHORT_S, "body_idle_s": SHORT_S, "keep_alive_s": SHORT_S}
        one = runner.run(stack.enter_async_context(gateway(backend, **patience)))
        yield runner, one, backend
        runner.run(stack.aclose())


@settings(derandomize=True, max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(mutated() | st.binary(max_size=80), min_size=8, max_size=8))
@example([part[:cut] for part in PARTS for cut in (1, len(part) // 2, len(part) - 1)])
@example([first + second for first in PARTS for second in PARTS[:3]])
def test_any_bytes_are_answered_in_http_or_cut_off_and_bring_no_request_of_their_own(stage, raws):
    runner, one, backend = stage
    backend.requests.clear()
    answers = runner.run(_all(one, raws))
    for raw, answer in zip(raws, answers, strict=True):
        assert len(_statuses(answer)) <= len(LINES.findall(raw)) + 2, raw  # one refusal, and perhaps 100 Continue
    assert len(backend.requests) <= sum(len(LINES.findall(raw)) for raw in raws)
    targets = b"".join(raws)
    assert all(got.target.encode("latin-1") in targets for got in backend.requests)
    assert runner.run(ask(one, "GET /good")).status == 200
    runner.run(until(lambda: balances(one)))


async def _all(one, raws):
    return await asyncio.gather(*(_exchange(one, raw) for raw in raws))


async def _exchange(one, raw):
    """All that comes until the gateway ends the connection, which it must."""
    reader, writer = await soon(asyncio.open_connection(HOST, one.port))
    writer.write(raw)
    try:
        return await soon(reader.read())
    except ConnectionResetError:
        return b""  # of a client that went on sending; what it was told before may be lost with it
    finally:
        writer.close()


def _statuses(answer):
    """Statuses of the answers in these bytes; fails where they are anything but whole answers."""
    found = []
    while answer:
        head = STATUS.match(answer)
        assert head, answer
        length = re.search(rb"(?i)^content-length: (\d+)\r\n", head[2], re.MULTILINE)
        status = int(head[1])
        assert length or status == 100, answer
        body = int(length[1]) if length else 0
        assert len(answer) >= head.end() + body, answer
        answer = answer[head.end() + body :]
        found.append(status)
    return found

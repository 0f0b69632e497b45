"""Bad clients: what cannot be parsed or trusted is refused and the connection closed; slow and large heads have an end."""

import asyncio

import pytest

from gateway.wire import OK, Backend, Client, ended, gateway, live, says, until
from trimtab.gateway.limits import Limits

CHUNKED = b"POST /job/light HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG_S = 60.0

SMUGGLED = {
    "length and chunks": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "one length twice": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
    "a signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    "a negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
    "a folded header": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "a folded coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "lines without CR": b"GET / HTTP/1.1\nHost: a\n\n",
    "one line without CR": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "a lone CR": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: 1\r\n\r\n",
    "a zero byte": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n",
    "space before the colon": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello",
    "a disguised coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding after a tab": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "two codings": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk size of no digits": CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a chunk size without CR": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "a chunk longer than said": CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


async def refused(one, raw):
    """The only answer to these bytes; the connection must end with it."""
    async with Client(one.port) as client:
        await client.send(raw)
        answer = await client.answer()
        assert answer.one("Connection") == "close"
        assert await client.is_closed()
    return answer.status


@pytest.mark.parametrize("raw", SMUGGLED.values(), ids=SMUGGLED.keys())
@live
async def test_a_request_with_two_readings_is_refused_and_nothing_after_it_is_read(raw):
    async with Backend() as backend, gateway(backend) as one:
        assert await refused(one, raw + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n") == 400
        assert all("smuggled" not in got.first for got in backend.requests)


@live
async def test_chunks_that_go_wrong_after_the_head_was_passed_on_end_the_request_at_once():
    async with Backend() as backend, gateway(backend, body_idle_s=LONG_S) as one:
        async with Client(one.port) as client:
            await client.send(CHUNKED + b"5\r\nhello\r\n")
            await until(lambda: backend.requests)
            await client.send(b"zz\r\n")
            assert (await client.answer()).status == 400
            assert await client.is_closed()
        await until(lambda: ended(one) == (0, 0, 1))
        await until(lambda: backend.lost == 1)  # the server is not left waiting for the rest


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", 417),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ],
)
@live
async def test_what_the_gateway_does_not_do_is_said(raw, status):
    async with Backend() as backend, gateway(backend) as one:
        assert await refused(one, raw) == status
        assert not backend.requests
        assert one.balancer.counts.totals.requests[-1, -1, status // 100 - 2] == 1


@live
async def test_other_methods_than_the_usual_pass():
    async with Backend() as backend, gateway(backend) as one, Client(one.port) as client:
        for method in ("PROPFIND", "PATCH", "PURGE", "TRACE", "OPTIONS"):
            assert (await client.ask(f"{method} /x")).status == 200
            assert backend.requests[-1].first == f"{method} /x HTTP/1.1"


# Limits


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"y" * 3000,
        b"\r\n".join(b"X-%d: %s" % (number, b"y" * 100) for number in range(30)),
        b"\r\n".join([b"X: y"] * 21),
    ],
)
@live
async def test_a_head_beyond_the_limits_is_refused(head):
    async with Backend() as backend, gateway(backend, limits=Limits(header_bytes=2048, headers=20)) as one:
        assert await refused(one, b"GET / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n") == 431
        assert await refused(one, b"GET /" + b"y" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n") == 431


@live
async def test_a_head_without_end_is_refused_before_it_ends():
    async with Backend() as backend, gateway(backend, limits=Limits(header_bytes=2048)) as one, Client(one.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        for number in range(60):
            await client.send(b"X-%d: %s\r\n" % (number, b"y" * 40))
            await asyncio.sleep(0)
        assert (await client.answer()).status == 431
        assert await client.is_closed()


@live
async def test_a_body_beyond_the_limit_is_refused_before_it_is_sent_if_its_length_is_said():
    async with Backend() as backend, gateway(backend, limits=Limits(body_bytes=1000)) as one:
        assert await refused(one, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n") == 413
        assert not backend.requests


@live
async def test_a_body_of_chunks_beyond_the_limit_is_cut_off():
    async with Backend() as backend, gateway(backend, limits=Limits(body_bytes=1000)) as one:
        assert await refused(one, CHUNKED + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n") == 413
        await until(lambda: ended(one) == (0, 0, 1))


# Heads in time


async def trickle(client, raw):
    """A byte each 20 ms until somebody hangs up."""
    try:
        for byte in raw:
            await client.send(bytes([byte]))
            await asyncio.sleep(0.02)
    except ConnectionError:
        pass


@pytest.mark.parametrize("before", [b"", b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n"])
@live
async def test_a_trickled_head_does_not_extend_its_deadline(before):
    async with Backend() as backend, gateway(backend, header_s=0.3) as one, Client(one.port) as client:
        if before:
            await client.send(before)
            assert (await client.answer()).status == 200
        trickling = asyncio.create_task(trickle(client, b"GET / HTTP/1.1\r\nX: " + b"y" * 10_000))
        assert (await client.answer()).status == 408
        assert await client.is_closed()
        trickling.cancel()
        assert len(backend.requests) == bool(before)
        assert one.balancer.counts.totals.requests[-1, -1, 2] == 1


@live
async def test_a_head_that_stops_half_way_ends_too():
    async with Backend() as backend, gateway(backend, header_s=0.1) as one, Client(one.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHos")
        assert (await client.answer()).status == 408
        assert await client.is_closed()


@live
async def test_the_deadline_for_heads_is_none_for_bodies_answers_or_pauses():
    async def later(got, writer):
        await asyncio.sleep(0.3)
        await backend.say_ok(got, writer)

    async with Backend(later) as backend, gateway(backend, header_s=0.2) as one, Client(one.port) as client:
        await client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
        for _ in range(4):
            await asyncio.sleep(0.1)
            await client.send(b"x")
        assert (await client.answer()).status == 200
        await client.send(b"\r\n")  # old clients end a body so; it begins no head
        await asyncio.sleep(0.3)
        assert (await client.ask("GET /y")).status == 200


@live
async def test_a_connection_without_a_request_ends():
    async with Backend() as backend, gateway(backend, keep_alive_s=0.2) as one:
        async with Client(one.port) as silent:
            assert await silent.is_closed()
        async with Client(one.port) as client:
            assert (await client.ask("GET /x")).status == 200
            assert await client.is_closed()


@live
async def test_a_body_that_stops_is_the_clients_fault():
    async with Backend() as backend, gateway(backend, body_idle_s=0.2) as one:
        assert await refused(one, b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc") == 408
        await until(lambda: ended(one) == (0, 0, 1))


# Several requests on one connection


@live
async def test_pipelined_requests_are_answered_in_order():
    async def echo(got, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(got.target), got.target.encode()))

    async with Backend(echo) as backend, gateway(backend) as one, Client(one.port) as client:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(50)))
        assert [(await client.answer()).body for _ in range(50)] == [b"/%d" % number for number in range(50)]


@live
async def test_a_good_request_before_a_bad_one_is_answered():
    go_on = asyncio.Event()

    async def waits(got, writer):
        await go_on.wait()
        writer.write(OK)

    async with Backend(waits) as backend, gateway(backend) as one, Client(one.port) as client:
        await client.send(b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: backend.requests)
        await client.send(b"GET /bad HTTP/1.1\nHost: a\n\n")
        go_on.set()
        assert [(await client.answer()).status, (await client.answer()).status] == [200, 400]
        assert await client.is_closed()


@live
async def test_a_wish_for_another_protocol_is_passed_over():
    async with Backend(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as backend, gateway(backend) as one:
        async with Client(one.port) as client:
            answer = await client.ask("GET /chat", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
            assert (answer.status, answer.one("Connection")) == (200, "close")
        assert backend.requests[0].one("Upgrade") is None


@live
async def test_a_head_that_was_refused_and_goes_on_is_refused_once(caplog):
    async with Backend() as backend, gateway(backend) as one, Client(one.port) as client:
        await client.send(b"GET /x HTTP/1.1\r\n" + b"X: " + b"y" * 17_000)
        assert (await client.answer()).status == 431
        await client.send(b"y" * 17_000)
        assert await client.is_closed()
    assert caplog.records == [], "an error of the event loop"

"""Clients that send no more: those that wait for their answer get it, those that have left are not served for long."""

import asyncio

import pytest

from gateway.wire import OK, Backend, Client, ended, gateway, hangs, live, read_body, read_head, until

REQUEST = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
LONG_S = 60.0


@pytest.mark.parametrize("raw", [REQUEST, b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", b"GET /x HTTP/1.0\r\n\r\n"])
@live
async def test_a_client_that_says_it_has_no_more_gets_its_answer(raw):
    async with Backend() as backend, gateway(backend, half_close_s=LONG_S) as one, Client(one.port) as client:
        await client.send(raw)
        client.writer.write_eof()
        assert (await client.answer()).status == 200
        assert await client.is_closed()
        assert ended(one) == (1, 0, 0)


@live
async def test_all_requests_before_the_end_are_answered():
    async def echo(got, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + got.target[-2:].encode())

    async with Backend(echo) as backend, gateway(backend, half_close_s=LONG_S) as one, Client(one.port) as client:
        await client.send(b"".join(b"GET /%02d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(20)) + b"GET /half")
        client.writer.write_eof()
        assert [(await client.answer()).body for _ in range(20)] == [b"%02d" % number for number in range(20)]
        assert await client.is_closed()
        assert len(backend.requests) == 20


@live
async def test_who_waits_too_long_counts_as_gone():
    async with Backend(hangs) as backend, gateway(backend, first_byte_s=LONG_S, half_close_s=0.1) as one, Client(one.port) as client:
        await client.send(REQUEST)
        client.writer.write_eof()
        await until(lambda: ended(one) == (0, 0, 1) and backend.lost == 1)
        assert await client.is_closed()


@live
async def test_an_answer_that_has_begun_is_brought_to_its_end():
    go_on = asyncio.Event()

    async def halves(got, writer):
        writer.write(OK[:-1])
        await go_on.wait()
        writer.write(OK[-1:])

    async with Backend(halves) as backend, gateway(backend, half_close_s=0.1) as one, Client(one.port) as client:
        await client.send(REQUEST)
        client.writer.write_eof()
        got = await read_head(client.reader)
        await asyncio.sleep(0.3)
        go_on.set()
        assert (await read_body(got, client.reader)).body == b"ok"
        assert await client.is_closed()


@live
async def test_who_ends_before_a_request_is_whole_is_gone_at_once():
    async with Backend() as backend, gateway(backend, half_close_s=LONG_S, body_idle_s=LONG_S) as one:
        for raw in (b"", b"GET /x HT", b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"):
            async with Client(one.port) as client:
                await client.send(raw)
                client.writer.write_eof()
                assert await client.is_closed()
        await until(lambda: not one._running.server.connections)

"""Bodies of every kind, passed on as they come: framing, sizes beyond memory, and the connections on both sides."""

import asyncio
import tracemalloc

import pytest

from gateway.wire import OK, Backend, Client, ask, ended, gateway, live, read_head, says, soon, until
from trimtab.gateway.headers import PSEUDONYM
from trimtab.gateway.limits import Limits

PIECE, PIECES = b"x" * 65536, 800  # 50 MiB
PEAK_BYTES = 8 * 1024 * 1024


def raw(line, *headers, version="1.1"):
    return "\r\n".join([f"{line} HTTP/{version}", "Host: a", *headers, "", ""]).encode()


# Answers without a body, or without a length


@pytest.mark.parametrize(
    ("line", "answer", "length"),
    [
        ("HEAD /x", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", "5000"),
        ("HEAD /x", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET /x", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n", "5000"),
        ("GET /x", b"HTTP/1.1 304 Not Modified\r\nETag: 1\r\n\r\n", None),
        ("GET /x", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("DELETE /x", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", None),
    ],
)
@live
async def test_answers_without_a_body_keep_the_connection(line, answer, length):
    async with Backend(says(answer)) as backend, gateway(backend) as one, Client(one.port) as client:
        for _ in range(2):
            got = await client.ask(line, bodyless=True)
            assert got.first.encode() == answer.split(b"\r\n")[0]
            assert (got.one("Content-Length"), got.one("Transfer-Encoding")) == (length, None)
        assert backend.connections == 1


@live
async def test_an_answer_of_length_zero_stays_one():
    async with Backend(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as backend, gateway(backend) as one:
        assert (await ask(one, "GET /x")).one("Content-Length") == "0"


@live
async def test_chunks_pass_in_both_directions():
    async def chunks(got, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n")
        for byte in got.body:
            writer.write(b"1;ext=1\r\n%c\r\n" % byte)
            await writer.drain()
        writer.write(b"0\r\nT: 1\r\n\r\n")

    async with Backend(chunks) as backend, gateway(backend) as one, Client(one.port) as client:
        for _ in range(2):
            await client.send(raw("POST /x", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nT: 1\r\n\r\n")
            got = await client.answer()
            assert (got.one("Transfer-Encoding"), got.one("Content-Length"), got.body) == ("chunked", None, b"abcde")
        assert [one.one("Transfer-Encoding") for one in backend.requests] == ["chunked", "chunked"]
        assert all(one.all("Content-Length") == [] and one.body == b"abcde" for one in backend.requests)


@live
async def test_an_answer_that_ends_with_its_connection_becomes_chunks():
    old = says(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", last=True)
    async with Backend(old) as backend, gateway(backend) as one, Client(one.port) as client:
        for _ in range(2):
            got = await client.ask("GET /x")
            assert (got.one("Transfer-Encoding"), got.body, got.one("Via")) == ("chunked", b"until the end", f"1.0 {PSEUDONYM}")


@live
async def test_an_old_client_gets_what_it_understands():
    async def chunks(got, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" if got.target == "/chunks" else OK)

    async with Backend(chunks) as backend, gateway(backend) as one:
        async with Client(one.port) as client:
            await client.send(raw("GET /chunks", version="1.0"))
            got = await read_head(client.reader)
            assert (got.all("Transfer-Encoding"), got.one("Connection"), await client.rest()) == ([], "close", b"ok")
        async with Client(one.port) as client:
            for _ in range(2):
                await client.send(raw("GET /plain", "Connection: keep-alive", version="1.0"))
                assert (await client.answer()).one("Connection") == "keep-alive"
        async with Client(one.port) as client:
            await client.send(b"GET /plain HTTP/1.0\r\n\r\n")
            assert (await client.answer()).body == b"ok"
            assert await client.is_closed()
        assert backend.requests[-1].one("Host") == f"127.0.0.1:{backend.port}"


@live
async def test_interim_answers_do_not_pass_for_the_final_one():
    hint = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with Backend(says(hint + OK)) as backend, gateway(backend) as one:
        got = await ask(one, "GET /x")
        assert (got.status, got.body, got.all("Link")) == (200, b"ok", [])


# Bodies on demand


@live
async def test_a_client_that_asks_first_is_told_to_go_on():
    async with Backend() as backend, gateway(backend) as one, Client(one.port) as client:
        await client.send(raw("PUT /x", "Expect: 100-continue", "Content-Length: 5"))
        assert (await client.answer(bodyless=True)).first == "HTTP/1.1 100 Continue"
        await client.send(b"hello")
        assert (await client.answer()).status == 200
        assert (backend.requests[0].body, backend.requests[0].one("Expect")) == (b"hello", None)


@live
async def test_a_client_that_asks_first_is_not_told_to_go_on_where_no_server_is():
    async with Backend() as backend, gateway(backend) as one, Client(one.port) as client:
        backend.die()
        await client.send(raw("PUT /x", "Expect: 100-continue", "Content-Length: 5"))
        got = await client.answer()
        assert (got.status, got.one("Connection")) == (502, "close")


@live
async def test_an_answer_before_the_end_of_the_body_ends_the_connection():
    early = b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno"
    async with Backend(says(early), reads_body=False) as backend, gateway(backend) as one, Client(one.port) as client:
        await client.send(raw("POST /x", "Content-Length: 100000") + b"x" * 10)
        got = await client.answer()
        assert (got.status, got.body, got.one("Connection")) == (413, b"no", "close")
        assert ended(one) == (1, 0, 0)


# Beyond memory


async def upload(client):
    await client.send(raw("PUT /x", f"Content-Length: {len(PIECE) * PIECES}"))
    for _ in range(PIECES):
        await client.send(PIECE)
    return (await client.answer()).status


@live
async def test_a_large_upload_passes_through_little_memory():
    received = 0

    async def swallow(got, writer):
        nonlocal received
        while received < len(PIECE) * PIECES:
            received += len(await got.reader.read(1 << 16))
        writer.write(OK)

    roomy = Limits(body_bytes=1 << 30)
    async with Backend(swallow, reads_body=False) as backend, gateway(backend, limits=roomy) as one, Client(one.port) as client:
        tracemalloc.start()
        try:
            assert await upload(client) == 200
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert received == len(PIECE) * PIECES
    assert peak < PEAK_BYTES  # of client, gateway and server together


@pytest.mark.parametrize("chunked", [False, True])
@live
async def test_a_large_answer_waits_for_a_slow_client_in_little_memory(chunked):
    sent = 0

    async def pour(got, writer):
        nonlocal sent
        length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (len(PIECE) * PIECES)
        writer.write(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % length)
        for _ in range(PIECES):
            writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
            sent += 1
            await writer.drain()
        writer.write(b"0\r\n\r\n" if chunked else b"")

    async with Backend(pour) as backend, gateway(backend) as one, Client(one.port) as client:
        tracemalloc.start()
        try:
            await client.send(raw("GET /x", "Connection: close"))
            got, before = await read_head(client.reader), -1
            while before != sent:  # until nothing moves any more, for this client does not read
                before = sent
                await asyncio.sleep(0.2)
            assert sent < PIECES
            total = 0
            while piece := await soon(client.reader.read(1 << 16)):
                total += len(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert got.status == 200
    assert total >= len(PIECE) * PIECES
    assert peak < PEAK_BYTES


@live
async def test_what_a_server_sends_reaches_the_client_at_once():
    go_on = asyncio.Event()

    async def halves(got, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        await go_on.wait()
        writer.write(b"ab")
        go_on.clear()
        await go_on.wait()
        writer.write(b"cd")

    async with Backend(halves) as backend, gateway(backend) as one, Client(one.port) as client:
        await client.send(raw("GET /x"))
        assert (await client.answer(bodyless=True)).status == 200
        go_on.set()
        assert await soon(client.reader.readexactly(2)) == b"ab"
        go_on.set()
        assert await soon(client.reader.readexactly(2)) == b"cd"


# Connections


@live
async def test_connections_are_kept_on_both_sides():
    async with Backend() as backend, gateway(backend) as one, Client(one.port) as client:
        for number in range(20):
            assert (await client.ask(f"POST /{number}", "Content-Length: 2", body=b"hi")).one("Connection") is None
        assert (len(backend.requests), backend.connections) == (20, 1)


@live
async def test_a_wish_to_close_is_met_on_the_side_that_has_it():
    async with Backend() as backend, gateway(backend) as one:
        for _ in range(3):
            async with Client(one.port) as client:
                assert (await client.ask("GET /x", "Connection: close")).one("Connection") == "close"
                assert await client.is_closed()
        assert (len(backend.requests), backend.connections) == (3, 1)
        backend.answer = says(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), last=True)
        async with Client(one.port) as client:
            for _ in range(3):
                assert (await client.ask("GET /x")).one("Connection") is None
        assert (len(backend.requests), backend.connections) == (6, 3)


@live
async def test_a_server_that_was_restarted_gets_new_connections():
    async with Backend() as backend, gateway(backend) as one, Client(one.port) as client:
        assert (await client.ask("GET /x")).status == 200
        for writer in list(backend._writers):
            writer.close()
        await until(lambda: backend.lost == 1 or not backend._writers)
        assert (await client.ask("POST /x", "Content-Length: 0")).status == 200

"""Where a request ends in a packet: the beginning of the next head has a deadline even if it came with the request before."""

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.wire import Backend, Client, gateway, live
from trimtab.gateway.message_ends import MessageEnds

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BEGUN = b"GET /next HT"


def put(body):
    return b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body), {"Content-Length": str(len(body))}


@pytest.mark.parametrize("rest", [b"", BEGUN])
def test_a_request_without_a_body_ends_with_its_head(rest):
    assert MessageEnds().is_beyond(GET + rest, [{}]) == bool(rest)
    assert MessageEnds().is_beyond(GET * 3 + rest, [{}] * 3) == bool(rest)


@settings(max_examples=1000, deadline=None)
@example(b"", False, [33, 34], False)
@given(st.binary(max_size=30), st.booleans(), st.lists(st.integers(0, 90), max_size=4), st.booleans())
def test_a_body_with_a_length_ends_where_it_says(body, more, cuts, lines_before):
    """However the request was cut into packets, and whatever is in its body."""
    head, headers = put(body)
    head = b"\r\n" * lines_before + head
    whole = head + body + BEGUN * more
    ends, at, begun = MessageEnds(), 0, False
    for stop in [*sorted(cut for cut in set(cuts) if 0 < cut < len(whole)), len(whole)]:
        piece, before, at = whole[at:stop], at, stop
        if stop < len(head):
            begun = begun or bool(piece.strip(b"\r\n"))  # empty lines before it are no part of a head
            if begun:
                ends.in_head(piece)
        elif before < len(head):
            beyond = ends.is_beyond(piece, [headers])
        elif before < len(head) + len(body):
            beyond = ends.is_beyond(piece, [])
        if stop >= len(head) + len(body):
            break
    assert beyond == (stop > len(head) + len(body))


@pytest.mark.parametrize("rest", [b"", BEGUN])
def test_chunks_end_with_an_empty_line(rest):
    ends = MessageEnds()
    assert not ends.is_beyond(b"PUT / HTTP/1.1\r\n\r\n", [{"Transfer-Encoding": "chunked"}])
    assert ends.is_beyond(b"1\r\nx\r\n0\r\n\r\n" + rest, []) == bool(rest)


@pytest.mark.parametrize("rest", [b"", BEGUN])
def test_several_requests_in_one_packet_are_told_apart(rest):
    bodies = (b"ab", b"", b"\r\n\r\nx", b"GET / HTTP/1.1\r\n\r\ny")
    raws = [put(body)[0] + body for body in bodies]
    ends = MessageEnds()
    ends.in_head(raws[0][:7])
    assert ends.is_beyond(b"".join(raws)[7:] + rest, [put(body)[1] for body in bodies]) == bool(rest)


def test_what_follows_chunks_in_one_packet_is_in_doubt():
    chunks = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    head, headers = put(b"ab")
    assert MessageEnds().is_beyond(chunks + head + b"ab", [{"Transfer-Encoding": "chunked"}, headers])
    assert not MessageEnds().is_beyond(head + b"ab" + chunks, [headers, {"Transfer-Encoding": "chunked"}])


@pytest.mark.parametrize("first", [GET, GET * 3, put(b"ab")[0] + b"ab"])
@live
async def test_the_beginning_of_a_head_that_came_with_a_request_has_a_deadline(first):
    async with Backend() as backend, gateway(backend, header_s=0.3) as one, Client(one.port) as client:
        await client.send(first.replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n").replace(b"X: y", b"Host: a", first.count(b"PUT")) + BEGUN)
        for _ in range(max(1, first.count(b"GET"))):
            assert (await client.answer()).status == 200
        rest = await client.rest()  # ends, whatever is kept alive otherwise; without a word where an answer was still under way
        assert rest == b"" or rest.startswith(b"HTTP/1.1 408 ")


@live
async def test_bodies_of_every_kind_leave_a_connection_idle():
    async with Backend() as backend, gateway(backend) as one, Client(one.port) as client:
        for byte in b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab":
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.answer()).status == 200
        assert one._running.server.connections[0]._deadline is None
        for body in (b"ab", b"", b"ends so\r\n\r\n", b"GET / HT"):
            assert (await client.ask("PUT /x", f"Content-Length: {len(body)}", body=body)).status == 200
            assert one._running.server.connections[0]._deadline is None
        assert (await client.ask("PUT /x", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n")).status == 200
        assert one._running.server.connections[0]._deadline is None

"""What a server is sent, on which connection, and what becomes of that connection."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.wire import OK, Backend, live, says, soon, until
from trimtab.gateway.limits import Timeouts
from trimtab.gateway.sending import request_head
from trimtab.gateway.upstream import BrokenError, Upstream


class Pieces:
    """A body, piece by piece; ends at once, or stays open for good where `endless`."""

    def __init__(self, *pieces, endless=False):
        self.pieces, self.endless = list(pieces), endless

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.pieces:
            return self.pieces.pop(0)
        if self.endless:
            await asyncio.Event().wait()
        raise StopAsyncIteration


@asynccontextmanager
async def upstream(*urls):
    one = Upstream(urls, Timeouts())
    try:
        yield one
    finally:
        await one.close()


async def ask(one, method="GET", target="/x", headers=(), body=None, *, fresh=False):
    """The answer, its body, and what was told when the request went out."""
    told = []
    answer = await soon(one.ask(0, method, target, list(headers), body, told.append, fresh=fresh))
    try:
        content = b"" if method == "HEAD" else await soon(answer.content.read())
    finally:
        answer.close()
    return answer, content, told


@live
async def test_a_target_goes_out_as_it_came_below_the_servers_path():
    async with Backend() as backend, upstream(f"{backend.url}/base/") as one:
        for target in ("/a/../b%2f?", "//c?d=%20&d", "/?"):
            await ask(one, target=target)
            assert backend.requests[-1].first == f"GET /base{target} HTTP/1.1"


@live
async def test_a_server_knows_where_a_request_ends():
    async with Backend() as backend, upstream(backend.url) as one:
        for method, headers, pieces, length, coding, body in [
            ("GET", [], None, None, None, b""),
            ("POST", [], None, "0", None, b""),
            ("PUT", [("content-length", "3")], [b"ab", b"c"], "3", None, b"abc"),
            ("POST", [], [b"ab", b"c"], None, "chunked", b"abc"),
            ("GET", [], [b"ab"], None, "chunked", b"ab"),
        ]:
            await ask(one, method, headers=headers, body=None if pieces is None else Pieces(*pieces))
            got = backend.requests[-1]
            assert (got.one("Content-Length"), got.one("Transfer-Encoding"), got.body) == (length, coding, body)


@live
async def test_nothing_is_added_in_the_clients_name_but_a_host_where_there_is_none():
    async with Backend() as backend, upstream(backend.url) as one:
        await ask(one, headers=[("X-One", "1"), ("x-one", "é")])
        assert backend.requests[-1].headers == [("Host", f"127.0.0.1:{backend.port}"), ("X-One", "1"), ("x-one", "Ã©")]
        await ask(one, headers=[("Host", "example")])
        assert backend.requests[-1].headers == [("Host", "example")]


@live
async def test_a_connection_is_used_again_unless_a_fresh_one_is_demanded():
    async with Backend() as backend, upstream(backend.url) as one:
        told = [(await ask(one, fresh=fresh))[2] for fresh in (False, False, True, True, False)]
        assert told == [[False], [True], [False], [False], [True]]
        assert backend.connections == 3
        assert [got.one("Connection") for got in backend.requests] == [None, None, "close", "close", None]


@live
async def test_after_head_and_interim_answers_the_connection_still_says_what_belongs_to_whom():
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    async def answer(got, writer):
        writer.write(interim + (OK[:-2] if got.first.startswith("HEAD ") else OK))

    async with Backend(answer) as backend, upstream(backend.url) as one:
        for method, content in (("HEAD", b""), ("GET", b"ok"), ("HEAD", b""), ("GET", b"ok")):
            answered, found, _ = await ask(one, method)
            assert (answered.status, answered.headers["Content-Length"], found) == (200, "2", content)
        assert backend.connections == 1


@live
async def test_an_answer_that_is_given_up_or_overtakes_its_request_costs_the_connection():
    async with Backend(reads_body=False) as backend, upstream(backend.url) as one:
        _, content, _ = await ask(one, "POST", headers=[("Content-Length", "9")], body=Pieces(b"abc", endless=True))
        assert content == b"ok"
        await until(lambda: backend.lost == 1)
        answer = await soon(one.ask(0, "GET", "/x", [], None, lambda _: None, fresh=False))
        assert answer.raw_headers == ((b"Content-Length", b"2"),)
        answer.close()
        await ask(one)
        assert backend.requests[-1].first == "GET /x HTTP/1.1"


@live
async def test_who_stops_waiting_for_an_answer_leaves_no_connection_behind():
    async def waits(got, writer):
        await got.reader.read()
        return False

    async with Backend(waits) as backend, upstream(backend.url) as one:
        for count, body in enumerate((None, Pieces(b"a", endless=True)), start=1):
            asking = asyncio.create_task(one.ask(0, "POST", "/x", [], body, lambda _: None, fresh=False))
            await until(lambda count=count: len(backend.requests) == count)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await soon(asking)
            assert not one._pooled._acquired
            assert not one._pooled._conns


@live
async def test_failures_have_names():
    async with Backend(says(b"", last=True)) as silent, Backend(says(b"HTTP/9 what\r\n\r\n")) as odd:
        async with upstream(silent.url) as one:
            with pytest.raises(BrokenError):
                await ask(one)
        async with upstream(odd.url) as one:
            with pytest.raises(aiohttp.ClientError):
                await ask(one)
    async with upstream(silent.url) as one:
        told = []
        with pytest.raises(BrokenError):
            await soon(one.ask(0, "GET", "/x", [], None, told.append, fresh=False))
        assert told == []


@live
async def test_a_body_that_breaks_off_is_told_to_who_waits_for_the_answer():
    class Broken(Pieces):
        async def __anext__(self):
            if self.pieces:
                return self.pieces.pop(0)
            raise ValueError("the client is no good")

    async with Backend() as backend, upstream(backend.url) as one:
        with pytest.raises(aiohttp.ClientConnectionError, match="the client is no good"):
            await ask(one, "POST", body=Broken(b"a"))


@pytest.mark.parametrize(
    ("target", "headers"), [("/a\r\nX: 1", []), ("/a", [("X", "1\r\n\r\nGET /")]), ("/a", [("X\n", "1")]), ("/\0", [])]
)
def test_a_head_that_would_be_read_as_more_than_one_is_not_written(target, headers):
    with pytest.raises(ValueError, match="control character"):
        request_head("GET", target, headers)


def test_a_head_is_written_line_by_line():
    assert (
        request_head("M-SEARCH", "/a?b", [("Host", "c"), ("X", "tab\there")])
        == b"M-SEARCH /a?b HTTP/1.1\r\nHost: c\r\nX: tab\there\r\n\r\n"
    )

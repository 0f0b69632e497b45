"""Servers that speak out of turn or badly: one client's answer never reaches another, and nothing contradictory is passed on."""

import pytest

from gateway.wire import OK, Backend, Client, ask, ended, gateway, live, says, slams, soon, until
from trimtab.errors import UsageError
from trimtab.fleets.client import check_url
from trimtab.gateway.servers import found_servers

STRAY = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=somebody\r\nContent-Length: 2\r\n\r\nAA"
BODY = b"\r\n\r\nok"


@live
async def test_what_a_server_sends_unasked_is_nobodys_answer():
    """It stays on the pooled connection, which must not be used again: each later client would get the answer of the one before."""
    writers = []

    async def answer(got, writer):
        writers.append(writer)
        writer.write(OK.replace(b"ok", got.target[-2:].encode()))

    async with Backend(answer) as backend, gateway(backend) as one:
        assert (await ask(one, "GET /aa")).body == b"aa"
        writers[0].write(STRAY)
        await soon(writers[0].drain())
        await until(lambda: any(protocol.should_close for protocol in pooled(one)))
        for path in ("bb", "cc"):
            got = await ask(one, f"POST /{path}")
            assert (got.body, got.one("Set-Cookie")) == (path.encode(), None)
        assert ended(one)[1:] == (0, 0)


def pooled(one):
    """The protocols of the connections that wait to be used again."""
    return [entry[0] for entries in one._running.upstream._pooled._conns.values() for entry in entries]


@live
async def test_a_length_is_no_matter_of_the_connection():
    answer = says(b"HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 2" + BODY)
    async with Backend(answer) as backend, gateway(backend) as one, Client(one.port) as client:
        for _ in range(2):
            got = await client.ask("GET /x")
            assert (got.one("Content-Length"), got.body) == ("2", b"ok")


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length : 2",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity\r\nContent-Length: 2",
        b"\xc3\xa9: 1\r\nContent-Length: 2",
    ],
)
@live
async def test_framing_that_two_readers_could_read_in_two_ways_is_a_failure(header):
    async with Backend(says(b"HTTP/1.1 200 OK\r\n" + header + BODY, last=True)) as backend, gateway(backend) as one:
        assert (await ask(one, "GET /x")).status == 502
        assert ended(one)[1] == 1


@live
async def test_a_dead_pooled_connection_is_forgiven_once_a_request():
    """Else an outage would double every try, at no cost to the budget."""
    async with Backend() as first, Backend() as second, Backend() as third, gateway(first, second, third) as one:
        backends = (first, second, third)
        for left_out in range(3):  # each server gets a pooled connection
            one.balancer.health._in[:] = [place == left_out for place in range(3)]
            one.balancer.health.config = type(one.balancer.health.config)(panic_below=0.01)
            assert (await ask(one, "GET /warm")).status == 200
        one.balancer.health._in[:] = True
        for backend in backends:
            backend.answer, backend.requests = slams, []
        assert (await ask(one, "GET /x")).status == 502
        assert sum(len(backend.requests) for backend in backends) == 4, "three tries, and one repetition"


@live
async def test_a_health_check_does_not_read_what_it_is_told():
    """A server may answer it at any length."""
    lines = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"

    class Talker(Backend):
        async def _serve(self, reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            self.probes += 1
            writer.write(lines)
            await soon(writer.drain())
            await reader.read()
            writer.close()

    async with Talker() as backend, gateway(backend) as one:
        await until(lambda: backend.probes >= 2)
        assert one.balancer.health.status(one.balancer.clock()) == ["ok"]


@pytest.mark.parametrize("url", ["http://h:1/?a=b", "http://h:1/#x", "http://user:word@h:1"])
def test_addresses_hold_no_query_fragment_or_password(url):
    with pytest.raises(UsageError, match="allowed are addresses"):
        check_url(url)


def test_servers_that_want_tls_are_refused():
    from builders import scenario

    one = scenario()
    with pytest.raises(UsageError, match="plain HTTP only"), found_servers(one, ["https://h:1"] * len(one.servers)):
        pass

"""Passing on: what of a request and of its answer arrives, and as what."""

import asyncio
from ipaddress import ip_network

import pytest

from gateway.wire import Backend, Client, ask, ended, gateway, live, says
from trimtab.gateway.headers import PSEUDONYM
from trimtab.gateway.limits import Limits


@live
async def test_method_target_headers_and_body_arrive_as_they_were_sent():
    async with Backend() as backend, gateway(backend) as one:
        headers = ("X-Twice: 1", "X-Twice: 2", "Cookie: a=1; b=2", "Content-Length: 5", "Connection: x-own", "X-Own: 1", "TE: trailers")
        await ask(one, "PUT /a/../b//c%2Fd?x=%zz&y=a+b&y", *headers, body=b"hello")
        got = backend.requests[0]
        assert got.first == "PUT /a/../b//c%2Fd?x=%zz&y=a+b&y HTTP/1.1"
        assert (got.all("X-Twice"), got.one("Cookie"), got.one("Host"), got.body) == (["1", "2"], "a=1; b=2", "example", b"hello")
        assert (got.one("X-Forwarded-For"), got.one("X-Forwarded-Host"), got.one("Via")) == ("127.0.0.1", "example", f"1.1 {PSEUDONYM}")
        added = {"host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via", "x-request-id"}
        assert {name.lower() for name, _ in got.headers} == added | {"x-twice", "cookie", "content-length"}


@live
async def test_the_answer_arrives_as_it_was_sent():
    raw = b"HTTP/1.1 418 I'm a teapot\r\nX-CaSe: \xe9\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nDate: then\r\nContent-Length: 2\r\n\r\nok"
    async with Backend(says(raw)) as backend, gateway(backend) as one:
        answer = await ask(one, "GET /x", "X-Request-Id: mine")
        assert answer.first == "HTTP/1.1 418 I'm a teapot"
        assert answer.headers == [
            ("X-CaSe", "\xe9"),
            ("Set-Cookie", "a"),
            ("Set-Cookie", "b"),
            ("Date", "then"),
            ("Content-Length", "2"),
            ("Via", f"1.1 {PSEUDONYM}"),
            ("X-Request-Id", "mine"),
        ]
        assert backend.requests[0].one("X-Request-Id") == "mine"
        assert ended(one) == (1, 0, 0)  # 4xx is the client's doing


@live
async def test_an_absolute_target_names_the_host():
    async with Backend() as backend, gateway(backend) as one:
        await ask(one, "GET http://other.example:81/x?y")
        got = backend.requests[0]
        assert (got.target, got.one("Host"), got.one("X-Forwarded-Host")) == ("/x?y", "other.example:81", "other.example:81")


@pytest.mark.parametrize("target", ["/x?", "/?", "/x??", "/x?a=%zz?", "//x/../y//?", "/%2F;a=b,c?+"])
@live
async def test_a_target_arrives_byte_for_byte(target):
    async with Backend() as backend, gateway(backend) as one:
        for line in (f"GET {target}", f"GET http://other.example{target}"):
            await ask(one, line)
            assert backend.requests[-1].target == target


@live
async def test_a_request_that_comes_back_to_the_gateway_ends_there():
    async def back(got, writer):
        headers = [f"{name}: {value}" for name, value in got.headers]
        async with Client(one.port) as client:
            await client.send("\r\n".join([got.first, *headers, "", ""]).encode())
            writer.write(f"HTTP/1.1 {(await client.answer()).status} So\r\nContent-Length: 0\r\n\r\n".encode())

    async with Backend(back) as backend, gateway(backend) as one:
        assert (await ask(one, "GET /x", "Via: 1.0 front")).status == 508
        assert len(backend.requests) == 1


@live
async def test_who_is_trusted_may_speak_for_others():
    believed = Limits(trusted_proxies=(ip_network("127.0.0.0/8"),))
    for limits, proto in ((None, "http"), (believed, "https")):
        async with Backend() as backend, gateway(backend, limits=limits) as one:
            await ask(one, "GET /x", "X-Forwarded-Proto: https")
            assert backend.requests[0].one("X-Forwarded-Proto") == proto


@live
async def test_the_servers_times_reach_the_ledger_by_class():
    async def works(got, writer):
        await asyncio.sleep(0.03)  # a time that is longer than the whole request took would not be believed
        writer.write(b"HTTP/1.1 200 OK\r\nServer-Timing: queue;dur=1, work;dur=20\r\nContent-Length: 0\r\n\r\n")

    async with Backend(works) as backend, gateway(backend) as one:
        await ask(one, "GET /job/heavy?x")
        ledger = one.balancer.router.view(0, one.balancer.clock(), one.balancer.health.mask(one.balancer.clock())).ledger
        assert ledger.service_s[0, 0].tolist() == [0.0, 0.02]
        counts = one.balancer.counts.totals
        assert counts.requests[0, 1, 0] == counts.decisions[0, 0, 1] == counts.latencies[1].sum() == 1
        assert 0 < counts.overhead_s[0] < counts.latency_s[1]

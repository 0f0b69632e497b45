"""The gateway as a whole: its start and end, its own paths, its checks of the servers."""

import asyncio
import socket

import pytest

from builders import scenario, server
from gateway.wire import HOST, OK, Backend, Client, InOrder, ask, ended, gateway, hangs, live, until
from trimtab.errors import UsageError
from trimtab.gateway.classes import ClassMatcher
from trimtab.gateway.connection import plain
from trimtab.gateway.limits import Limits, Timeouts
from trimtab.gateway.running import build_balancer
from trimtab.gateway.shell import Gateway

REQUEST = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


@live
async def test_a_port_that_is_taken_is_an_error_in_one_line():
    fleet = scenario(server())
    balancer = build_balancer(fleet, InOrder(), ClassMatcher(fleet), 0, Limits())
    one = Gateway(balancer, ["http://127.0.0.1:9"], Limits(), Timeouts())
    with pytest.raises(UsageError, match="start it first"):
        _ = one.port
    taken_error = r"cannot listen on 127\.0\.0\.1 port \d+: .*; give another port"
    with socket.create_server((HOST, 0)) as taken, pytest.raises(UsageError, match=taken_error):
        await one.start(HOST, taken.getsockname()[1])
    await one.stop()


# The end


@live
async def test_draining_lets_requests_end_and_takes_no_others():
    go_on = asyncio.Event()

    async def waits(got, writer):
        await go_on.wait()
        writer.write(OK)

    async with Backend(waits) as backend, gateway(backend) as one, Client(one.port) as busy, Client(one.port) as idle:
        port = one.port
        await busy.send(REQUEST)
        await until(lambda: backend.requests)
        stopping = asyncio.create_task(one.stop())
        assert await idle.is_closed()
        assert one.draining
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)
        assert not stopping.done()
        go_on.set()
        answer = await busy.answer()
        assert (answer.status, answer.body, answer.one("Connection")) == (200, b"ok", "close")
        assert await busy.is_closed()
        await stopping
        assert ended(one) == (1, 0, 0)


@live
async def test_draining_lets_a_body_arrive():
    async with Backend() as backend, gateway(backend) as one, Client(one.port) as client:
        await client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        await until(lambda: backend.requests)
        stopping = asyncio.create_task(one.stop())
        await until(lambda: one.draining)
        await client.send(b"def")
        assert (await client.answer()).status == 200
        assert backend.requests[0].body == b"abcdef"
        await stopping


@live
async def test_what_does_not_end_in_time_is_cut_off_and_booked():
    async with Backend(hangs) as backend, gateway(backend, drain_s=0.1) as one, Client(one.port) as client:
        await client.send(REQUEST)
        await until(lambda: backend.requests)
        await one.stop()
        assert await client.is_closed()
        assert ended(one) == (0, 0, 1)
        await until(lambda: backend.lost == 1)
        await one.stop()  # a second time does nothing


@live
async def test_nothing_is_left_behind():
    async with Backend() as backend, gateway(backend) as one:
        async with Client(one.port) as client:
            await client.ask("GET /x")
        await one.stop()
        await until(lambda: len(asyncio.all_tasks()) <= 3)  # this one, its deadline, and the backend's last connection
        assert not one.balancer.router.in_flight.any()


@live
async def test_a_lame_duck_says_so_and_goes_on():
    async with Backend() as backend, gateway(backend, lame_duck_s=60.0) as one, Client(one.port) as idle:
        stopping = asyncio.create_task(one.stop())
        await until(lambda: one.draining)
        assert (await ask(one, "GET /new")).status == 200
        assert (await idle.ask("GET /old")).status == 200
        assert not stopping.done()
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        object.__setattr__(one.timeouts, "lame_duck_s", 0.0)


@live
async def test_the_end_comes_once_the_duck_is_dead():
    async with Backend() as backend, gateway(backend, lame_duck_s=0.1) as one:
        port = one.port
        await one.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)


# Room for connections


@live
async def test_an_idle_connection_makes_room_for_a_new_one():
    two = Limits(connections=2)
    async with Backend() as backend, gateway(backend, limits=two) as one, Client(one.port) as oldest, Client(one.port) as busy:
        assert (await oldest.ask("GET /x")).status == 200
        await busy.send(REQUEST[:5])
        await until(lambda: not all(known.is_idle for known in one._running.server.connections))
        assert (await ask(one, "GET /x")).status == 200
        assert await oldest.is_closed()
        await busy.send(REQUEST[5:])
        assert (await busy.answer()).status == 200


@live
async def test_where_all_are_busy_a_new_connection_is_refused():
    async with Backend(hangs) as backend, gateway(backend, limits=Limits(connections=1)) as one, Client(one.port) as busy:
        await busy.send(REQUEST)
        await until(lambda: backend.requests)
        async with Client(one.port) as late:
            answer = await late.answer()
            assert (answer.status, answer.one("Retry-After"), answer.one("Connection")) == (503, "1", "close")
            assert one.balancer.counts.totals.refusals.tolist() == [0, 0, 1]
            assert await late.is_closed()
        assert len(one._running.server.connections) == 1
        assert one.balancer.counts.totals.requests[-1, -1, 3] == 1


# Own paths


@live
async def test_reserved_paths_are_not_passed_on():
    async def own(request):
        return plain(200, "mine")

    def reserved(path):
        return own if path == "/own" else None

    async with Backend() as backend, gateway(backend, reserved=reserved) as one:
        assert (await ask(one, "GET /own?x")).body == b"200 mine\n"
        assert (await ask(one, "GET http://other/own")).body == b"200 mine\n"
        assert (await ask(one, "GET /own/er")).body == b"ok"
        assert [got.target for got in backend.requests] == ["/own/er"]
        assert one.balancer.counts.totals.requests.sum() == 1


@live
async def test_an_error_of_the_gateways_own_is_a_500_that_ends_the_connection(caplog):
    async def broken(request):
        raise ZeroDivisionError

    async with Backend() as backend, gateway(backend, reserved=lambda _path: broken) as one, Client(one.port) as client:
        assert (await client.ask("GET /own")).status == 500
        assert await client.is_closed()
    assert "ZeroDivisionError" in caplog.text


# Checks of the servers


@live
async def test_the_path_of_the_checks_is_a_setting():
    async with Backend() as backend, gateway(backend) as one:
        await until(lambda: backend.probes)
        object.__setattr__(one.balancer.health.config, "check_interval_s", 0.02)
        object.__setattr__(one.balancer.health.config, "check_path", "/ready?deep")
        await until(lambda: any(got.target == "/ready?deep" for got in backend.requests))


@live
async def test_a_server_that_fails_its_checks_gets_nothing_until_it_passes_again():
    async with Backend() as first, Backend() as second, gateway(first, second) as one:
        health = one.balancer.health
        object.__setattr__(health.config, "check_interval_s", 0.02)
        object.__setattr__(health.config, "slow_start_s", 1e-6)
        first.healthy = False
        await until(lambda: health.status(one.balancer.clock())[0] == "down")
        await ask(one, "GET /x")
        assert (len(first.requests), len(second.requests)) == (0, 1)
        first.healthy = True
        await until(lambda: health.status(one.balancer.clock())[0] == "ok")
        await ask(one, "GET /x")
        assert len(first.requests) == 1
        first.die()
        await until(lambda: health.status(one.balancer.clock())[0] == "down")
        assert second.probes > 0

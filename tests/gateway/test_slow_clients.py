"""Slow clients: what they take is not booked as their server's time, and everything they may take has an end."""

import asyncio
import dataclasses
import time

import pytest
from aiohttp import web

from gateway.test_connection import trickle
from gateway.wire import OK, Backend, Client, ended, gateway, live, until

AGES_S = 1000.0
LARGE = b"x" * (50 << 20)  # beyond all that two sockets hold


def late(one):
    """A gateway whose clock can be put forward: the list's only entry is what it is ahead."""
    ahead = [0.0]
    one.balancer = dataclasses.replace(one.balancer, clock=lambda: time.monotonic() + ahead[0])
    return ahead


def booked_s(one):
    """Latency and overhead of the metrics, the ledger's peak, and the window's mean."""
    totals, now_s = one.balancer.counts.totals, one.balancer.clock()
    peak_s = one.balancer.router.view(0, now_s, one.balancer.health.mask(now_s)).ledger.latency_peak_s[0, 0]
    return totals.latency_s.sum(), totals.overhead_s[0], peak_s, one.balancer.window.read(now_s).mean_s[0]


@live
async def test_the_time_that_a_client_takes_for_its_body_is_its_own():
    async with Backend() as backend, gateway(backend) as one, Client(one.port) as client:
        ahead = late(one)
        await client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        await until(lambda: backend.requests)
        await asyncio.sleep(0.05)  # the piece that is there has been passed on
        ahead[0] = AGES_S
        await client.send(b"def")
        assert (await client.answer()).status == 200
        assert all(0 <= one < AGES_S for one in booked_s(one))


@live
async def test_the_time_that_a_client_takes_for_the_answer_is_its_own():
    async def pour(got, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE)

    async with Backend(pour) as backend, gateway(backend) as one, Client(one.port) as client:
        ahead = late(one)
        await client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: one._running.server.connections[0].writing_paused)
        ahead[0] = AGES_S
        assert len((await client.answer()).body) == len(LARGE)
        assert ended(one) == (1, 0, 0)
        assert all(0 <= one < AGES_S for one in booked_s(one))


@live
async def test_the_time_that_a_server_takes_is_not_the_clients():
    go_on = asyncio.Event()

    async def waits(got, writer):
        await go_on.wait()
        writer.write(OK)

    async with Backend(waits) as backend, gateway(backend) as one, Client(one.port) as client:
        ahead = late(one)
        await client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        await until(lambda: backend.requests)
        ahead[0] = AGES_S
        go_on.set()
        assert (await client.answer()).status == 200
        latency_s, overhead_s, peak_s, mean_s = booked_s(one)
        assert min(latency_s, peak_s, mean_s) >= AGES_S > overhead_s


@live
async def test_a_body_that_trickles_has_an_end():
    async with Backend() as backend, gateway(backend, body_s=0.3) as one, Client(one.port) as client:
        await client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n")
        trickling = asyncio.create_task(trickle(client, b"y" * 10_000))
        assert (await client.answer()).status == 408
        trickling.cancel()
        await until(lambda: ended(one) == (0, 0, 1))


def large(_path):
    async def own(request):
        return web.Response(body=LARGE)

    return own


@live
async def test_an_answer_of_the_gateways_own_is_not_offered_for_ever():
    async with Backend() as backend, gateway(backend, reserved=large, idle_s=0.2) as one, Client(one.port) as client:
        await client.send(b"GET /own HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: one._running.server.connections)
        await until(lambda: not one._running.server.connections)
        with pytest.raises(ConnectionResetError):
            await client.rest()


@live
async def test_the_rest_of_an_answer_is_not_kept_for_ever_once_its_connection_is_closed():
    async with Backend() as backend, gateway(backend, reserved=large, idle_s=0.2) as one, Client(one.port) as client:
        await until(lambda: one._running.server.connections)
        # So the whole answer counts as written, as the last 64 KiB of every answer do.
        one._running.server.connections[0].transport.set_write_buffer_limits(2 * len(LARGE))
        await client.send(b"GET /own HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await until(lambda: not one._running.server.connections)
        with pytest.raises(ConnectionResetError):
            await client.rest()


@live
async def test_a_client_that_has_taken_all_keeps_its_connection():
    async with Backend() as backend, gateway(backend, reserved=large) as one, Client(one.port) as client:
        for _ in range(2):
            assert len((await client.ask("GET /own")).body) == len(LARGE)
            connection = one._running.server.connections[0]
            connection._drop_rest(connection.transport)  # as some time later

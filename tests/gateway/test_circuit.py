"""Circuit limits: a server that is full is not offered, and where all are the answer is 503 at once."""

import asyncio

import numpy as np
import pytest

from gateway.wire import OK, Backend, ask, gateway, live, slams, until
from trimtab.gateway.circuit import with_room
from trimtab.gateway.limits import Limits


@pytest.mark.parametrize(("limit", "room"), [(1, [True, False, False]), (2, [True, True, False]), (1024, [True, True, True])])
def test_room_is_what_the_limit_leaves(limit, room):
    assert with_room(np.array([0, 1, 2]), limit).tolist() == room


@live
async def test_a_full_server_is_left_out_and_all_full_is_503_at_once():
    go_on = asyncio.Event()

    async def waits(got, writer):
        await go_on.wait()
        writer.write(OK)

    limits = Limits(server_in_flight=2)
    async with Backend(waits) as first, Backend(waits) as second, gateway(first, second, limits=limits) as one:
        asked = [asyncio.create_task(ask(one, f"GET /{number}")) for number in range(4)]
        await until(lambda: len(first.requests) + len(second.requests) == 4)
        assert (len(first.requests), len(second.requests)) == (2, 2)  # it asks in order, and the first one is full
        refused = await ask(one, "GET /too-much")
        assert (refused.status, refused.one("Retry-After")) == (503, "1")
        assert one.balancer.router.counts.sent == 4
        assert one.balancer.counts.totals.refusals.tolist() == [1, 0, 0]
        go_on.set()
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 4
        assert (await ask(one, "GET /again")).status == 200


@live
async def test_a_retry_does_not_go_to_a_full_server():
    first_goes_on, second_goes_on = asyncio.Event(), asyncio.Event()

    async def breaks_at_x(got, writer):
        if got.target == "/x":
            return await slams(got, writer)
        await first_goes_on.wait()
        writer.write(OK)
        return True

    async def waits(got, writer):
        await second_goes_on.wait()
        writer.write(OK)

    limits = Limits(server_in_flight=1)
    async with Backend(breaks_at_x) as first, Backend(waits) as second, gateway(first, second, limits=limits) as one:
        busy = asyncio.create_task(ask(one, "GET /1"))
        await until(lambda: first.requests)
        other = asyncio.create_task(ask(one, "GET /2"))
        await until(lambda: second.requests)
        first_goes_on.set()
        assert (await busy).status == 200
        assert (await ask(one, "GET /x")).status == 502
        assert [got.target for got in second.requests] == ["/2"]
        second_goes_on.set()
        assert (await other).status == 200

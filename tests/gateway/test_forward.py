"""A request on its way: which failures are tried again, and that every attempt is booked once, rightly."""

import asyncio

import pytest

from gateway.wire import (
    OK,
    Backend,
    Client,
    ask,
    balances,
    ended,
    gateway,
    hangs,
    live,
    says,
    slams,
    until,
)
from trimtab.core.request_log import SERVED
from trimtab.errors import NoServerError
from trimtab.gateway.limits import Limits
from trimtab.gateway.retries import KEPT_BODY_BYTES
from trimtab.gateway.telemetry import REFUSAL_REASONS, RETRY_RESULTS

LONG_S = 60.0
BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nbusy"


def retries(one):
    return dict(zip(RETRY_RESULTS, one.balancer.counts.totals.retries.tolist(), strict=True))


def refusals(one):
    """By reason, of those that there were."""
    return {reason: count for reason, count in zip(REFUSAL_REASONS, one.balancer.counts.totals.refusals.tolist(), strict=True) if count}


# Failures before an answer


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
@live
async def test_a_server_that_breaks_the_connection_is_replaced_by_another(method):
    async with Backend(slams) as bad, Backend() as good, gateway(bad, good) as one:
        assert (await ask(one, f"{method} /x", bodyless=method == "HEAD")).status == 200
        assert (len(bad.requests), len(good.requests)) == (1, 1)
        assert ended(one) == (1, 1, 0)
        assert retries(one)["served"] == 1


@live
async def test_a_post_is_never_sent_twice_once_bytes_are_out():
    async with Backend(slams) as bad, Backend() as good, gateway(bad, good) as one:
        assert (await ask(one, "POST /x", "Content-Length: 2", body=b"hi")).status == 502
        assert (len(bad.requests), len(good.requests)) == (1, 0)
        assert ended(one) == (0, 1, 0)


@live
async def test_a_post_goes_elsewhere_where_no_connection_could_be_made():
    async with Backend() as dead, Backend() as good, gateway(dead, good) as one:
        dead.die()
        assert (await ask(one, "POST /x", "Content-Length: 2", body=b"hi")).status == 200
        assert good.requests[0].body == b"hi"
        assert ended(one) == (1, 1, 0)


@live
async def test_a_silent_server_is_given_up_and_another_asked():
    async with Backend(hangs) as silent, Backend() as good, gateway(silent, good, first_byte_s=0.2) as one:
        assert (await ask(one, "GET /x")).status == 200
        assert (await ask(one, "POST /x", "Content-Length: 0")).status == 504
        await until(lambda: silent.lost == 2)  # its requests were cancelled


@live
async def test_each_phase_has_its_own_patience():
    async def late(got, writer):
        await asyncio.sleep(0.3)
        writer.write(OK[:-1])
        await writer.drain()
        await asyncio.sleep(0.3)
        writer.write(OK[-1:])

    async with Backend(late) as backend, gateway(backend, connect_s=0.1, first_byte_s=0.5, idle_s=0.5) as one:
        assert (await ask(one, "GET /x")).status == 200


@live
async def test_where_all_fail_the_last_failure_is_told():
    async with Backend(slams) as first, Backend(slams) as second, gateway(first, second) as one:
        assert (await ask(one, "GET /x")).status == 502
        assert ended(one) == (0, 2, 0)
        assert one.balancer.counts.totals.requests[1, 0, 3] == 1
    async with Backend(hangs) as only, gateway(only, first_byte_s=0.1) as one:
        assert (await ask(one, "GET /x")).status == 504


@live
async def test_a_short_body_is_sent_again_and_a_long_one_is_not():
    short, long = b"s" * KEPT_BODY_BYTES, b"l" * (KEPT_BODY_BYTES + 1)
    async with Backend(slams) as bad, Backend() as good, gateway(bad, good) as one:
        assert (await ask(one, "PUT /x", f"Content-Length: {len(short)}", body=short)).status == 200
        assert good.requests[0].body == short
        assert (await ask(one, "PUT /x", f"Content-Length: {len(long)}", body=long)).status == 502
        assert len(good.requests) == 1


@live
async def test_the_budget_ends_repetitions():
    async with Backend(slams) as bad, Backend() as good, gateway(bad, good) as one:
        while one.balancer.budget.withdraw():
            pass
        one.balancer.health.answered = lambda *_: None  # or the failures would eject it before the budget matters
        assert [(await ask(one, "GET /x")).status for _ in range(10)] == [502] * 10  # what fails pays for nothing
        for _ in range(5):
            one.balancer.budget.deposit()
        assert [(await ask(one, "GET /x")).status for _ in range(2)] == [200, 502]
        assert retries(one) == {"served": 1, "failed": 0, "unmeasured": 0, "no_budget": 11}


@live
async def test_all_that_is_in_flight_at_a_server_that_dies_is_sent_to_another():
    """Each finds its connection broken, tries a new one in vain, and goes on: one retry each, for nothing was sent in between."""
    many, free = 9, asyncio.Event()

    async def answer(got, writer):
        await free.wait()
        writer.write(OK)

    async with Backend(answer) as dying, Backend() as good, gateway(dying, good) as one:
        asking = await _in_flight(one, dying, "/first", many)
        free.set()
        await asyncio.gather(*asking)
        free.clear()
        asking = await _in_flight(one, dying, "/second", many)  # on the connections of the first
        before = one.balancer.budget.balance
        dying.die()
        free.set()
        assert [(await one_of).status for one_of in asking] == [200] * many
        assert len(good.requests) == many
        assert one.balancer.budget.balance == pytest.approx(before - many + 0.2 * many)


async def _in_flight(one, backend, path, many):
    asking = [asyncio.create_task(ask(one, f"GET {path}")) for _ in range(many)]
    await until(lambda: sum(got.target == path for got in backend.requests) == many)
    return asking


@live
async def test_an_error_of_the_server_is_passed_on_and_counts_against_it():
    async with Backend(says(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno")) as bad, Backend() as good, gateway(bad, good) as one:
        for _ in range(5):
            answer = await ask(one, "GET /x")
            assert (answer.status, answer.body) == (500, b"no")
        assert (await ask(one, "GET /x")).status == 200  # ejected after five
        assert ended(one) == (1, 5, 0)


@live
async def test_a_server_that_asks_to_be_left_alone_is():
    async with Backend(says(BUSY)) as busy, Backend() as good, gateway(busy, good) as one:
        assert (await ask(one, "GET /x")).status == 200
        assert (await ask(one, "POST /x", "Content-Length: 0")).body == b"busy"
    async with Backend(says(BUSY)) as only, gateway(only) as one:
        answer = await ask(one, "GET /x")
        assert (answer.status, answer.one("Retry-After"), answer.body) == (503, "3", b"busy")


@pytest.mark.parametrize(("said", "status"), [(BUSY, "ok"), (BUSY.replace(b"Retry-After: 3\r\n", b""), "ejected")])
@live
async def test_a_server_that_is_full_is_not_ejected_for_it(said, status):
    async with Backend(says(said)) as busy, Backend() as good, gateway(busy, good) as one:
        for _ in range(8):
            one.balancer.router.forget(0)  # so that it is the first choice again
            await ask(one, "POST /x", "Content-Length: 0")
        assert one.balancer.health.status(one.balancer.clock()) == [status, "ok"]
        assert balances(one)


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
@live
async def test_an_answer_that_is_none_is_the_servers_failure(raw):
    async with Backend(says(raw, last=True)) as backend, gateway(backend) as one:
        assert (await ask(one, "POST /x", "Content-Length: 0")).status == 502
        assert ended(one) == (0, 1, 0)


# Failures in the middle of an answer


@pytest.mark.parametrize("head", [b"Content-Length: 10\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@live
async def test_half_an_answer_never_looks_like_a_whole_one(head, version):
    async with Backend(says(b"HTTP/1.1 200 OK\r\n" + head, last=True)) as bad, Backend() as good, gateway(bad, good) as one:
        async with Client(one.port) as client:
            await client.send(f"GET /x HTTP/{version}\r\nHost: a\r\n\r\n".encode())
            with pytest.raises(ConnectionResetError):
                await client.rest()
        assert not good.requests  # bytes were out: no other server is asked
        assert ended(one) == (0, 1, 0)
        assert one.balancer.counts.totals.requests[0, 0, 4] == 1


@live
async def test_an_answer_that_stops_is_broken_off():
    async def stops(got, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        return await hangs(got, writer)

    async with Backend(stops) as backend, gateway(backend, idle_s=0.2) as one, Client(one.port) as client:
        await client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await until(lambda: ended(one) == (0, 1, 0) and backend.lost == 1)


# Clients that leave


@pytest.mark.parametrize("leave", ["close", "reset", "half"])
@live
async def test_a_client_that_leaves_cancels_its_request_and_says_nothing_about_the_server(leave):
    async with Backend(hangs) as backend, gateway(backend, first_byte_s=LONG_S) as one:
        async with Client(one.port) as client:
            await client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: backend.requests)
            assert one.balancer.router.in_flight.tolist() == [1]
            {"close": client.writer.close, "reset": client.writer.transport.abort, "half": client.writer.write_eof}[leave]()
            await until(lambda: ended(one) == (0, 0, 1) and backend.lost == 1)
        assert one.balancer.counts.totals.requests[-1, 0, 4] == 1


@live
async def test_a_client_that_leaves_amid_its_body_cancels_too():
    async with Backend() as backend, gateway(backend, body_idle_s=LONG_S) as one:
        async with Client(one.port) as client:
            await client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
            await until(lambda: backend.requests)
        await until(lambda: ended(one) == (0, 0, 1) and backend.lost == 1)


@live
async def test_a_client_that_takes_no_answer_is_left():
    async def endless(got, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    async with Backend(endless) as backend, gateway(backend, idle_s=0.3) as one, Client(one.port) as client:
        await client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: ended(one) == (0, 0, 1))


# Pooled connections


@live
async def test_a_pooled_connection_that_died_is_no_failure_of_the_server():
    async def first_then_slam(got, writer):
        if got.target == "/again" and len(backend.requests) == 2:
            return await slams(got, writer)
        writer.write(OK)
        return True

    async with Backend(first_then_slam) as backend, Backend() as other, gateway(backend, other) as one, Client(one.port) as client:
        assert (await client.ask("GET /first")).status == 200
        assert (await client.ask("GET /again")).status == 200
        assert (len(backend.requests), backend.connections, len(other.requests)) == (3, 2, 0)
        assert ended(one) == (2, 0, 0)
        assert one.balancer.budget.balance == pytest.approx(9.4), "the repetition is paid for; two answers pay in"


@live
async def test_a_post_on_a_pooled_connection_that_died_is_not_repeated():
    async with Backend(says(OK)) as backend, gateway(backend) as one, Client(one.port) as client:
        assert (await client.ask("GET /first")).status == 200
        backend.answer = slams
        assert (await client.ask("POST /x", "Content-Length: 0")).status == 502
        assert len(backend.requests) == 2


# Room


@live
async def test_requests_beyond_the_room_are_told_to_come_back():
    async with Backend(hangs) as backend, gateway(backend, limits=Limits(in_flight=1)) as one:
        async with Client(one.port) as first:
            await first.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: backend.requests)
            answer = await ask(one, "GET /x")
            assert (answer.status, answer.one("Retry-After")) == (503, "1")
        assert refusals(one) == {"in_flight": 1}
        await until(lambda: balances(one))


@live
async def test_no_server_is_told_too():
    async with Backend() as backend, gateway(backend) as one:

        def nobody(*_):
            raise NoServerError("none")

        one.balancer.router.route = nobody
        answer = await ask(one, "GET /x")
        assert (answer.status, answer.one("Retry-After")) == (503, "1")
        assert one.balancer.counts.totals.requests[-1, 0, 3] == 1


@live
async def test_every_request_is_answered_once_and_booked_once_whatever_happens():
    turns = [OK, BUSY, None, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]

    async def moody(got, writer):
        said = turns[int(got.target[1:]) % len(turns)]
        if said is None:
            return await slams(got, writer)
        writer.write(said)
        return said in (OK, BUSY)

    async def one_request(one, number):
        try:
            return (await ask(one, f"GET /{number}")).status
        except (ConnectionError, asyncio.IncompleteReadError):
            return None

    async with Backend(moody) as first, Backend(moody) as second, gateway(first, second) as one:
        statuses = await asyncio.gather(*[one_request(one, number) for number in range(100)])
        await until(lambda: balances(one))
        totals = one.balancer.counts.totals.requests.sum(axis=(0, 1))
        assert statuses.count(200) == totals[0] == one.balancer.router.counts.served == 20
        assert statuses.count(None) == totals[4] == 20
        assert sum(totals) == 100
        assert one.balancer.router.counts.sent == len(first.requests) + len(second.requests)
        assert one.balancer.window.read(one.balancer.clock()).served_rps > 0
        assert SERVED in one.balancer.router._ended

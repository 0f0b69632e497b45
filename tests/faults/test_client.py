"""What the campaign says of a request that was not answered 200 must be true: its verdicts are read off that."""

import asyncio
import importlib.util
from pathlib import Path

import pytest

from gateway.wire import HOST, OK, live

# By its file: the campaign is a program, and its folder on the path would hide modules of other tests.
SPEC = importlib.util.spec_from_file_location("campaign_client", Path(__file__).with_name("client.py"))
campaign = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(campaign)

HEAD = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n"
RATE_RPS, SEED = 1000.0, 0


def whole(status, body):
    return HEAD % (status, len(body)) + body


async def driven(answer, count=1, *, ends=True):
    """What a client says of `count` requests, sent one after the other to a server with this answer, which ends each connection or not."""

    open_ones = []

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if ends:
            writer.close()
        else:
            open_ones.append(writer)

    async with await asyncio.start_server(serve, HOST, 0) as listener:
        one = campaign.Client(listener.sockets[0].getsockname()[1], "test")
        for _ in range(count):
            await one.drive(RATE_RPS, 1, SEED)
        one.close()
        for writer in open_ones:
            writer.close()
    return one.answers


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        (OK, 200, ""),
        (b"", 0, "new connection ended before an answer"),
        (OK[:5], 0, "broken off after its answer began"),
        (OK[:-1], 0, "broken off after its answer began"),
        (b"nonsense\r\n\r\n", 0, "answer that is not proper HTTP"),
        (whole(b"503 Busy", b"503 no server has room\n"), 503, "503 no server has room"),
        (whole(b"503 Busy", b"<html>"), 503, "503"),
        (whole(b"500 Bad", b'{"server": "server-2", "error": "crashed"}'), 500, "500 of a server (crashed)"),
    ],
)
@live
async def test_the_cause_of_a_failure_is_named(answer, status, why):
    (found,) = await driven(answer)
    assert (found.status, found.why) == (status, why)


@pytest.mark.parametrize(("answer", "why"), [(b"", "no answer within 0.2 s"), (OK[:-1], "answer begun and not whole within 0.2 s")])
@live
async def test_a_stuck_request_is_told_from_a_broken_one(answer, why, monkeypatch):
    monkeypatch.setattr(campaign, "ANSWER_S", 0.2)
    (found,) = await driven(answer, ends=False)
    assert (found.status, found.why) == (0, why)


@live
async def test_a_port_without_a_listener_is_no_connection():
    async with await asyncio.start_server(lambda _reader, writer: writer.close(), HOST, 0) as listener:
        port = listener.sockets[0].getsockname()[1]
    (found,) = await campaign.Client(port, "test").drive(RATE_RPS, 1, SEED)
    assert (found.status, found.why) == (0, "no connection (Connection refused)")


@live
async def test_a_kept_connection_that_ends_unasked_counts_as_a_loss():
    first, second = await driven(OK, 2)
    assert first.ok
    assert (second.status, second.why) == (0, "kept connection ended before an answer")


@live
async def test_a_connection_that_was_free_for_long_is_not_used_again(monkeypatch):
    monkeypatch.setattr(campaign, "KEPT_S", 0.0)
    assert [one.status for one in await driven(OK, 2)] == [200, 200]


def test_failures_are_told_by_cause():
    causes = ["", "no connection", "500 of a server (crashed)", "no connection"]
    answers = [campaign.Answer("", 0.0, 0.0, 0 if why else 200, "", True, why) for why in causes]
    assert campaign.told(answers) == "; 2 x no connection; 1 x 500 of a server (crashed)"

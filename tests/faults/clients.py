"""Clients that mean harm, beside those that do not."""

import asyncio

from client import HOST, Client, failed, p99_ms, told
from results import Result
from stage import gateway

HALF_OPEN, BYTE_EVERY_S, DEADLINE_S = 500, 5.0, 10.0
SLACK_S = 1.0  # the gateway's timer, and this program's own delay with 500 connections
HEAD = b"GET /job/page HTTP/1.1\r\nX-Slow: "
CUT_S = 60.0  # a connection that lives longer than this is never cut


async def slowloris(fleet, args):
    """500 connections that send a byte of a header every 5 s; as soon as one is cut, another takes its place."""
    async with gateway(fleet.urls, seed=args.seed) as balancer:
        client = Client(balancer.port, "slowloris")
        load = asyncio.create_task(client.drive(fleet.rate_rps, int(50 * fleet.rate_rps), args.seed))
        await asyncio.sleep(20)
        at_s = asyncio.get_running_loop().time()
        lives_s: list[float] = []
        attackers = [asyncio.create_task(_attack(balancer.port, lives_s, n * 2.0 / HALF_OPEN)) for n in range(HALF_OPEN)]
        answers = await load
        for one in attackers:
            one.cancel()
        errors = [one for one in await asyncio.gather(*attackers, return_exceptions=True) if not isinstance(one, asyncio.CancelledError)]
    before_ms, during_ms = p99_ms(answers, at_s - 15, at_s), p99_ms(answers, at_s)
    longest_s = max(lives_s, default=CUT_S)
    figure = f"p99 {before_ms:.0f} -> {during_ms:.0f} ms; {len(lives_s)} cut, the last after {longest_s:.1f} s{told(answers)}"
    kept = not errors and len(lives_s) >= HALF_OPEN and longest_s <= DEADLINE_S + SLACK_S
    kept = kept and during_ms < 2 * before_ms and failed(answers) == 0
    return Result("slowloris, 500 connections", len(answers), failed(answers), figure, "p99 < 2x, cut at 10 s", kept)


async def _attack(port, lives_s, delay_s):
    """One attacker after the other, until cancelled. Notes how long each was let live after its first byte."""
    await asyncio.sleep(delay_s)
    while True:
        reader, writer = await asyncio.open_connection(HOST, port)
        began_s = asyncio.get_running_loop().time()
        trickle = asyncio.create_task(_trickle(writer))
        try:
            async with asyncio.timeout(CUT_S):
                await reader.read(1)
            lives_s.append(asyncio.get_running_loop().time() - began_s)
        except ConnectionError:
            lives_s.append(asyncio.get_running_loop().time() - began_s)
        except TimeoutError:
            lives_s.append(CUT_S)
        finally:
            trickle.cancel()
            writer.close()


async def _trickle(writer):
    writer.write(HEAD)
    while True:
        await asyncio.sleep(BYTE_EVERY_S)
        writer.write(b"x")

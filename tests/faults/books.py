"""Every request accounted for: at the client, in the gateway, at the servers; and how often it is sent when nothing answers."""

import asyncio
import contextlib
import random
from collections import Counter

from client import HOST, Client, failed
from results import Result
from stage import SETTLE_S, gateway, sums, until

SECONDS = 30
RATIO = 0.2  # of the gateway's retry budget


async def conservation(fleet, args):
    """Servers crash, fail and slow down at random while every fiftieth client leaves; then all books must agree."""
    before = fleet.requests()
    async with gateway(fleet.urls, seed=args.seed) as balancer:
        client = Client(balancer.port, "books")
        trouble = asyncio.create_task(_trouble(fleet, random.Random(args.seed)))
        count = int(fleet.rate_rps * SECONDS)
        answers = await client.drive(fleet.rate_rps, count, args.seed, leave=lambda n: 0.02 if n % 50 == 49 else None)
        await trouble
        await until(balancer.quiet, SETTLE_S, "requests stay in flight")
        await until(fleet.idle, SETTLE_S, "servers stay busy")
        counts, page = balancer.state()["counts"], balancer.metrics()
    served = fleet.requests() - before
    sent = sums(page, "trimtab_gateway_decisions_total")
    missing = sent - served  # where a client left before the server had read the request
    once = Counter(one.identity for one in answers)
    errors = {
        "not booked": counts["sent"] - counts["served"] - counts["failed"] - counts["unmeasured"] - counts["in_flight"],
        "sent but not counted by servers": missing if not 0 <= missing <= counts["unmeasured"] else 0,
        "sent but not decided": counts["sent"] - sent,
        "forwards and retries": sent - count - counts["retries"],
        "not counted as answered": sums(page, "trimtab_gateway_requests_total") - count,
        "not answered once": sum(many != 1 for many in once.values()) + sum(not one.matches for one in answers),
    }
    wrong = [f"{what} {number:+.0f}" for what, number in errors.items() if number]
    figure = (
        "; ".join(wrong)
        or f"{count} + {counts['retries']} retries = {sent:.0f}, {served:.0f} at the servers; {counts['unmeasured']} clients left"
    )
    return Result("conservation", count, failed(answers), figure, "all books agree", not wrong and counts["retries"] > 0)


async def _trouble(fleet, generator):
    """A fault every two seconds, none that loses a server's own count."""
    kinds = ({"kind": "crash"}, {"kind": "error_share", "share": 0.3}, {"kind": "slowdown", "factor": 5}, {"kind": "fail_fast"})
    for _ in range(SECONDS // 2 - 2):
        await asyncio.sleep(2)
        index, fault = generator.randrange(len(fleet.ids)), generator.choice(kinds)
        await asyncio.to_thread(lambda index=index, fault=fault: fleet.fault(index, duration_s=3, **fault))


class Breaker:
    """A server that answers until told to break: then it reads each request and ends the connection. Counts what it was sent."""

    def __init__(self):
        self.seen: Counter[tuple[str, str]] = Counter()
        self.breaks = False

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError, EOFError, ValueError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = dict(line.lower().split(": ", 1) for line in head.rstrip().split("\r\n")[1:])
        await reader.readexactly(int(headers.get("content-length", 0)))
        if not head.startswith("GET /health"):
            self.seen[head.split()[0], headers["x-request-id"]] += 1
            if self.breaks:
                return False
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        return True


async def retries(fleet, args):
    """A full outage in which every server takes the request and breaks the connection off; half of the requests are POST."""
    breaker = Breaker()
    async with contextlib.AsyncExitStack() as stack:
        listeners = [await asyncio.start_server(breaker.serve, HOST, 0) for _ in fleet.ids]
        stack.callback(lambda: [one.close() for one in listeners])
        urls = [f"http://{HOST}:{one.sockets[0].getsockname()[1]}" for one in listeners]
        balancer = await stack.enter_async_context(gateway(urls, seed=args.seed))
        client = Client(balancer.port, "retries")
        await client.drive(fleet.rate_rps, int(2 * fleet.rate_rps), args.seed, ("GET", "POST"))  # fills the pools of connections
        breaker.breaks = True
        breaker.seen.clear()
        count = int(20 * fleet.rate_rps)
        answers = await client.drive(fleet.rate_rps, count, args.seed + 1, ("GET", "POST"))
    sent = sum(breaker.seen.values())
    twice = sum(many > 1 for (method, _), many in breaker.seen.items() if method == "POST")
    figure = f"amplification {sent / count:.3f} ({sent} for {count}); {twice} POST sent twice"
    kept = sent <= count * (1 + RATIO) and twice == 0 and len(answers) == count
    return Result("retries in an outage", count, failed(answers), figure, "<= 1.2; 0", kept)

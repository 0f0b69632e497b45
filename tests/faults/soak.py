"""A longer run with random faults: nothing may grow, nothing may get stuck."""

import asyncio
import random
import signal
from collections import Counter

from client import Client, failed
from results import Result
from stage import SETTLE_S, gateway, until

WARM_SHARE, REST_S = 0.2, 3.0
# The gateway uses no connection to a server that was idle for 15 s, but looks for such ones only every 15 s, so that one may stay open
# for 30. They are no leak: their number is that of the last burst.
IDLE_S = 33.0
FAULTS = (
    {"kind": "crash", "duration_s": 4},
    {"kind": "fail_fast", "duration_s": 4},
    {"kind": "error_share", "share": 0.5, "duration_s": 4},
    {"kind": "slowdown", "factor": 10, "duration_s": 4},
    {"kind": "freeze", "duration_s": 4},
    "kill",
    "stop",
)


async def soak(fleet, args):
    """--minutes of load; a random fault of a random server every few seconds. Memory and descriptors after it, at rest."""
    seconds = 60 * args.minutes
    async with gateway(fleet.urls, seed=args.seed) as balancer:
        client, generator = Client(balancer.port, "soak"), random.Random(args.seed)
        answers = await _stretch(fleet, client, generator, WARM_SHARE * seconds)
        before = await _footprint(balancer, client)
        answers += await _stretch(fleet, client, generator, (1 - WARM_SHARE) * seconds)
        after = await _footprint(balancer, client)
    growth = max(now / then - 1 for now, then in zip(after, before, strict=True))
    unanswered = Counter(one.status for one in answers)[0]
    figure = f"{before[0] / 1024:.1f} -> {after[0] / 1024:.1f} MiB, {before[1]} -> {after[1]} descriptors; {unanswered} without an answer"
    kept = growth <= 0.05 and unanswered == 0
    return Result(f"soak, {args.minutes:g} min", len(answers), failed(answers), figure, "<= 5 % growth, 0", kept)


async def _stretch(fleet, client, generator, seconds):
    load = asyncio.create_task(client.drive(fleet.rate_rps, int(seconds * fleet.rate_rps), generator.randrange(2**31)))
    while not load.done():
        await asyncio.sleep(generator.uniform(2, 6))
        await _break(fleet, generator.randrange(len(fleet.ids)), generator.choice(FAULTS))
    return await load


async def _break(fleet, index, fault):
    """One fault from its beginning to its end, so that a server that is stopped or dead is not asked for another."""
    if fault == "kill":
        await asyncio.to_thread(fleet.servers.kill, index)
        await asyncio.sleep(REST_S)
        await asyncio.to_thread(fleet.servers.restart, index)
        await asyncio.to_thread(fleet.learn_group, index)  # only this one: another may be frozen
    elif fault == "stop":
        fleet.signal(index, signal.SIGSTOP)
        await asyncio.sleep(REST_S)
        fleet.signal(index, signal.SIGCONT)
    else:
        await asyncio.to_thread(lambda: fleet.fault(index, **fault))


async def _footprint(balancer, client):
    """Resident memory in KiB and descriptors, when nothing is in flight and idle connections have had time to end."""
    client.close()
    await until(balancer.quiet, SETTLE_S, "requests stay in flight")
    await asyncio.sleep(IDLE_S)
    return balancer.memory_kib(), balancer.descriptors()

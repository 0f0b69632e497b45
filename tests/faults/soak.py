"""A longer run with random faults: nothing may grow, nothing may get stuck."""

import asyncio
import random
import signal

from client import BROKEN, KEPT_S, Client, failed, told
from results import Result
from stage import SETTLE_S, START_S, gateway, until

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
        answers, missed = await _stretch(fleet, client, generator, WARM_SHARE * seconds)
        before = await _footprint(balancer, client)
        others, missed_too = await _stretch(fleet, client, generator, (1 - WARM_SHARE) * seconds)
        after = await _footprint(balancer, client)
    answers, missed = answers + others, missed + missed_too
    growth = max(now / then - 1 for now, then in zip(after, before, strict=True))
    unanswered = sum(one.status == BROKEN for one in answers)
    figure = f"{before[0] / 1024:.1f} -> {after[0] / 1024:.1f} MiB, {before[1]} -> {after[1]} descriptors; {unanswered} without an answer"
    figure += f"{told(answers)}; {client.outlived} connections ended by the gateway after {KEPT_S:g} s without a request, or more"
    figure += f"; {missed} faults that a busy server did not confirm" if missed else ""
    kept = growth <= 0.05 and unanswered == 0
    return Result(f"soak, {args.minutes:g} min", len(answers), failed(answers), figure, "<= 5 % growth, 0", kept)


async def _stretch(fleet, client, generator, seconds):
    """The answers, and how many faults no server confirmed."""
    load = asyncio.create_task(client.drive(fleet.rate_rps, int(seconds * fleet.rate_rps), generator.randrange(2**31)))
    missed = 0
    while not load.done():
        await asyncio.sleep(generator.uniform(2, 6))
        missed += not await _break(fleet, generator.randrange(len(fleet.ids)), generator.choice(FAULTS))
    return await load, missed


async def _break(fleet, index, fault):
    """One fault from its beginning to its end, so that a server that is stopped or dead is not asked for another; False where it did
    not confirm it."""
    if fault == "kill":
        await asyncio.to_thread(fleet.servers.kill, index)
        await asyncio.sleep(REST_S)
        await asyncio.to_thread(fleet.servers.restart, index)
        await until(lambda: _done(lambda: fleet.learn_group(index)), START_S, "a restarted server does not say who it is")
    elif fault == "stop":
        fleet.signal(index, signal.SIGSTOP)
        await asyncio.sleep(REST_S)
        fleet.signal(index, signal.SIGCONT)
    else:
        return await asyncio.to_thread(_done, lambda: fleet.fault(index, **fault))
    return True


def _done(call):
    """Whether a server took a call in time; on a starved machine it may be too busy."""
    try:
        call()
    except OSError:
        return False
    return True


async def _footprint(balancer, client):
    """Resident memory in KiB and descriptors, when nothing is in flight and idle connections have had time to end."""
    client.close()
    await until(balancer.quiet, SETTLE_S, "requests stay in flight")
    await asyncio.sleep(IDLE_S)
    return balancer.memory_kib(), balancer.descriptors()

"""Servers that die, freeze, fail or crawl, under load."""

import asyncio
import signal

from client import Client, failed, p99_ms, share_of, told
from results import Result
from stage import SETTLE_S, gateway, sums, until

WARM_S = 5.0  # of load before anything is broken: policy, connections and slow start have settled
VICTIM = 2
TIMEOUT_S = 10.0  # the gateway's first_byte_s


def _now_s():
    return asyncio.get_running_loop().time()


def _count(fleet, seconds):
    return int(fleet.rate_rps * seconds)


async def kill(fleet, args):
    """kill -9 of one of five servers, a quarter of the way."""
    async with gateway(fleet.urls, seed=args.seed) as balancer:
        return judged_kill(*await killed(fleet, args, balancer), "kill -9 one of five")


async def killed(fleet, args, balancer):
    """The answers, when the server was killed, and the share of requests that it had before."""
    client = Client(balancer.port, "kill")
    load = asyncio.create_task(client.drive(fleet.rate_rps, args.requests, args.seed))
    await asyncio.sleep(args.requests / fleet.rate_rps / 4)
    at_s = _now_s()
    await asyncio.to_thread(fleet.servers.kill, VICTIM)
    answers = await load
    return answers, at_s, share_of(answers, fleet.ids[VICTIM], until_s=at_s - 1)


def judged_kill(answers, at_s, reached, name):
    """No request may fail; one that never reached the victim would prove nothing."""
    lost = failed(answers)
    numbers = {"p99 before, ms": p99_ms(answers, WARM_S, at_s), "p99 after, ms": p99_ms(answers, at_s), "failed": lost}
    figure = f"p99 {numbers['p99 before, ms']:.0f} ms before, {numbers['p99 after, ms']:.0f} ms after{told(answers)}"
    return Result(name, len(answers), lost, figure, "0 failed", lost == 0 and reached > 0.1, numbers)


async def passive(fleet, args):
    """A server that answers 500 after its usual time, under a policy that learns nothing from it: health alone must keep it away."""
    return await _exposure("passive ejection", fleet, args, "round-robin", kind="error_share", share=1.0)


async def black_hole(fleet, args):
    """A server that answers 500 in half a millisecond, and so looks the fastest of all."""
    return await _exposure("black hole", fleet, args, "sed-online", kind="fail_fast", after_ms=0.5)


async def _exposure(name, fleet, args, policy, **fault):
    async with gateway(fleet.urls, "--policy", policy, seed=args.seed) as balancer:
        answers, share = await exposed(name, fleet, args, balancer, **fault)
        ejections = sums(balancer.metrics(), "trimtab_gateway_ejections_total")
    bad = failed(answers)
    figure = f"{share:.2%} of requests in 60 s, {policy}; {ejections:.0f} ejections{told(answers)}"
    return Result(name, len(answers), bad, figure, "<= 1 %", share <= 0.01 and bad > 0, {"share, %": 100 * share})


async def exposed(name, fleet, args, balancer, **fault):
    """The answers, and the share of requests that a server with this fault got in 60 s."""
    client = Client(balancer.port, name.replace(" ", "-"))
    load = asyncio.create_task(client.drive(fleet.rate_rps, _count(fleet, WARM_S + 60), args.seed))
    await asyncio.sleep(WARM_S)
    at_s = _now_s()
    await asyncio.to_thread(lambda: fleet.fault(VICTIM, **fault))
    answers = await load
    return answers, share_of(answers, fleet.ids[VICTIM], at_s)


async def restart(fleet, args):
    """A server dies, comes back, and is used again without being flooded."""
    async with gateway(fleet.urls, seed=args.seed) as balancer:
        client = Client(balancer.port, "restart")
        load = asyncio.create_task(client.drive(fleet.rate_rps, _count(fleet, 50), args.seed))
        await asyncio.sleep(15)
        killed_s = _now_s()
        await asyncio.to_thread(fleet.servers.kill, VICTIM)
        await until(lambda: balancer.status(VICTIM) in {"down", "ejected"}, 20, "the dead server was not noticed")
        await asyncio.sleep(3)
        await asyncio.to_thread(fleet.servers.restart, VICTIM)
        up_s = _now_s()
        back_s = await until(lambda: balancer.status(VICTIM) in {"ramping", "ok"}, 20, "the server is not used again")
        answers = await load
    before_ms, after_ms = p99_ms(answers, killed_s - 10, killed_s), p99_ms(answers, up_s)
    used = share_of(answers, fleet.ids[VICTIM], up_s + back_s + 10)
    figure = f"back after {back_s:.1f} s, then {used:.0%} of requests; p99 {before_ms:.0f} -> {after_ms:.0f} ms{told(answers)}"
    kept = back_s <= 5 and used >= 0.1 and after_ms <= 2 * before_ms and failed(answers) == 0
    return Result("restart", len(answers), failed(answers), figure, "<= 5 s, used, p99 <= 2x", kept)


async def grey(fleet, args):
    """A server is twenty times slower for 30 s; the same under a full-scan peak-EWMA, the policy to beat."""
    own, own_p99_ms, over_s = await _grey(fleet, args, "sed-online")
    fleet.repair()
    _, other_p99_ms, _ = await _grey(fleet, args, "peak-ewma")
    figure = f"p99 {own_p99_ms:.0f} ms, peak-EWMA {other_p99_ms:.0f} ms; over 1 s: {over_s:.2%}{told(own)}"
    kept = own_p99_ms <= other_p99_ms and over_s < 0.0005 and failed(own) == 0
    numbers = {"p99, ms": own_p99_ms, "peak-EWMA p99, ms": other_p99_ms, "over 1 s, %": 100 * over_s}
    return Result("grey failure x20, 30 s", len(own), failed(own), figure, "<= peak-EWMA, 0.0 % > 1 s", kept, numbers)


async def _grey(fleet, args, policy):
    async with gateway(fleet.urls, "--policy", policy, seed=args.seed) as balancer:
        return await greyed(fleet, args, balancer)


async def greyed(fleet, args, balancer):
    """The answers; of the 30 s in which a server is slow, p99 in ms and the share of requests beyond a second."""
    client = Client(balancer.port, "grey")
    load = asyncio.create_task(client.drive(fleet.rate_rps, _count(fleet, WARM_S + 32), args.seed))
    await asyncio.sleep(WARM_S)
    at_s = _now_s()
    await asyncio.to_thread(lambda: fleet.fault(VICTIM, kind="slowdown", factor=20, duration_s=30))
    answers = await load
    inside = [one for one in answers if at_s <= one.due_s < at_s + 30]
    return answers, p99_ms(inside), sum(one.latency_s > 1 for one in inside) / len(inside)


async def stop(fleet, args):
    """SIGSTOP: connections are taken, and nothing is answered."""
    async with gateway(fleet.urls, seed=args.seed) as balancer:
        client = Client(balancer.port, "stop")
        load = asyncio.create_task(client.drive(fleet.rate_rps, _count(fleet, 40), args.seed))
        await asyncio.sleep(WARM_S)
        fleet.signal(VICTIM, signal.SIGSTOP)
        try:
            out_s = await until(lambda: balancer.status(VICTIM) in {"down", "ejected"}, SETTLE_S, "the stopped server stayed in")
            answers = await load
        finally:
            fleet.signal(VICTIM, signal.SIGCONT)
    lost = failed(answers)
    late = sum(one.latency_s > 1 for one in answers)
    figure = f"out after {out_s:.1f} s; {late} waited for a time-out{told(answers)}"
    return Result("SIGSTOP one of five", len(answers), lost, figure, "0 failed, out <= 20 s", lost == 0 and out_s <= 2 * TIMEOUT_S)


async def outage(fleet, args):
    """All servers refuse for 15 s, checks included; then they do not."""
    async with gateway(fleet.urls, seed=args.seed) as balancer:
        client = Client(balancer.port, "outage")
        load = asyncio.create_task(client.drive(fleet.rate_rps, _count(fleet, 40), args.seed))
        await asyncio.sleep(WARM_S)
        at_s = _now_s()
        await asyncio.gather(*(asyncio.to_thread(fleet.fault, one, kind="crash", duration_s=15) for one in range(len(fleet.ids))))
        begun_s = _now_s()
        await until(lambda: balancer.state()["panic"], 15, "no panic")
        answers = await load
    bad = [one for one in answers if not one.ok]
    slowest_ms = 1e3 * max((one.latency_s for one in bad), default=float("nan"))
    spread = len({one.server for one in bad if at_s + 8 < one.due_s < at_s + 14})
    recovered_s = max((one.due_s for one in bad), default=0) - (begun_s + 15)
    figure = f"slowest refusal {slowest_ms:.0f} ms, over {spread} servers; last {max(0.0, recovered_s):.1f} s after the end"
    statuses = {one.status for one in bad}
    kept = statuses <= {500, 502, 503} and slowest_ms <= 1000 and recovered_s <= 1 and spread == len(fleet.ids)
    return Result("all servers fail, 15 s", len(answers), len(bad), figure, "5xx <= 1 s, all asked, back <= 1 s", kept)

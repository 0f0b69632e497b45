"""Clients that break the rules of HTTP, beside those that do not; every byte that reaches a server is looked at on its way."""

import asyncio
import contextlib
import random
import re
import socket
import urllib.parse
from collections import Counter

from attacks import ATTACKS, LASTING, RESET
from client import HOST, Client, failed, p99_ms, told
from results import Result
from stage import SETTLE_S, gateway, until

CALM_S, ATTACKED_S = 20, 45
ATTACKERS, PAUSE_S = 8, (0.2, 1.0)  # about a dozen attacks a second
HOLDERS = 3  # of each kind that lasts
PIECE, MARK = 64 * 1024, re.compile(rb"(attack|smuggled)=(\d+)")
# Of an answer: for a client that leaves in the middle, and for one that reads slowly, more than the kernel keeps for it.
SIZES = {b"GET /big?": 2**20, b"GET /huge": 16 * 2**20}
SLOW_BYTES, SLOW_S = 1024, 0.5
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


class Watch:
    """Stands before every server, passes bytes on, and counts the marks in them. Answers /big and /huge itself, and /sink never."""

    def __init__(self):
        self.seen: Counter[tuple[str, int]] = Counter()  # (mark, number of the attack)

    async def before(self, stack, urls):
        """URLs to give to the gateway in place of these."""
        found = []
        for url in urls:
            port = urllib.parse.urlsplit(url).port
            listener = await asyncio.start_server(lambda reader, writer, port=port: self._serve(reader, writer, port), HOST, 0)
            stack.callback(listener.close)
            found.append(f"http://{HOST}:{listener.sockets[0].getsockname()[1]}")
        return found

    async def _serve(self, reader, writer, port):
        with contextlib.suppress(OSError):
            back, forth = await asyncio.open_connection(HOST, port)
            answers = asyncio.create_task(_pump(back, writer))
            with contextlib.suppress(OSError):
                await self._watch(reader, writer, forth)
            answers.cancel()
            forth.close()
        writer.close()

    async def _watch(self, reader, writer, forth):
        kept, sinks = b"", False
        while piece := await reader.read(PIECE):
            text = kept + piece
            for mark in MARK.finditer(text):
                self.seen[mark[1].decode(), int(mark[2])] += 1
            kept = b"" if b"\r\n" in text else text  # a mark stands in a request line
            if size := SIZES.get(text[:9]):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                for _ in range(size // PIECE):
                    writer.write(bytes(PIECE))
                    await writer.drain()
                continue
            sinks = sinks or text.startswith(b"POST /sink")
            if not sinks:
                forth.write(piece)


async def _pump(reader, writer):
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
        writer.close()


class Attackers:
    """Sends attacks and notes which were not answered as they should be."""

    def __init__(self, port, seed):
        self.port, self.generator = port, random.Random(seed)
        self.sent: dict[int, tuple[str, int]] = {}  # kind, and how often a server may see it
        self.wrong: Counter[str] = Counter()

    async def run(self, stop_s):
        """All attackers, until `stop_s` on the loop's clock and the last attack's end."""
        holders = [self._attack(name, one) for name, one in LASTING.items() for _ in range(HOLDERS)]
        await asyncio.gather(*holders, *(self._many(stop_s) for _ in range(ATTACKERS)))

    async def _many(self, stop_s):
        while asyncio.get_running_loop().time() < stop_s:
            await asyncio.sleep(self.generator.uniform(*PAUSE_S))
            await self._attack(*self.generator.choice(list(ATTACKS.items())))

    async def _attack(self, name, attack):
        number = len(self.sent)
        self.sent[number] = name, attack.reach
        try:
            async with asyncio.timeout(attack.ends_s):
                found = await self._answers(attack, number)
        except TimeoutError:
            self.wrong[f"{name}: open after {attack.ends_s:g} s"] += 1
            return
        if found not in attack.statuses:
            self.wrong[f"{name}: {found}"] += 1

    async def _answers(self, attack, number):
        channel = socket.socket()
        channel.setblocking(False)
        if attack.then == "read slowly":
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(channel, (HOST, self.port))
        reader, writer = await asyncio.open_connection(sock=channel, limit=SLOW_BYTES)
        try:
            writer.write(attack.raw.replace(b"%ID%", str(number).encode()))
            return tuple(int(one) for one in STATUS.findall(await _ended(attack.then, channel, reader, writer)))
        finally:
            writer.close()


async def _ended(then, channel, reader, writer):
    """What came until the connection ended."""
    try:
        if then.startswith("reset"):
            return await _reset(then, channel, reader, writer)
        if then == "half-close":
            writer.write_eof()
        if then != "read slowly":
            return await _all(reader)
        head = await reader.read(SLOW_BYTES)
        while await reader.read(SLOW_BYTES):
            await asyncio.sleep(SLOW_S)
    except ConnectionError:
        pass
    return head if then == "read slowly" else b""


async def _all(reader):
    """Bytes up to the end; those that came before a reset count, for they are an answer too."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(PIECE):
            found += piece
    return found


async def _reset(then, channel, reader, writer):
    await writer.drain()
    found = await reader.read(SLOW_BYTES) if then == "reset in answer" else b""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
    return found


async def bad_clients(fleet, args):
    """About a dozen attacks a second of all kinds, and some that hold connections; legitimate load must not notice."""
    watch = Watch()
    async with contextlib.AsyncExitStack() as stack:
        urls = await watch.before(stack, fleet.urls)
        balancer = await stack.enter_async_context(gateway(urls, seed=args.seed))
        client, attackers = Client(balancer.port, "bad-clients"), Attackers(balancer.port, args.seed)
        load = asyncio.create_task(client.drive(fleet.rate_rps, int((CALM_S + ATTACKED_S) * fleet.rate_rps), args.seed))
        await asyncio.sleep(CALM_S)
        at_s = asyncio.get_running_loop().time()
        await attackers.run(at_s + ATTACKED_S - 5)
        answers = await load
        await until(balancer.quiet, SETTLE_S, "requests stay in flight")
    before_ms, during_ms = p99_ms(answers, at_s - 15, at_s), p99_ms(answers, at_s)
    wrong = _wrong(attackers, watch.seen)
    figure = f"p99 {before_ms:.0f} -> {during_ms:.0f} ms; {len(attackers.sent)} attacks of {len(ATTACKS) + len(LASTING)} kinds, "
    figure += f"{sum(wrong.values())} not answered as documented{_listed(wrong)}{told(answers)}"
    kept = not wrong and failed(answers) == 0 and during_ms < 2 * before_ms
    return Result("bad clients", len(answers), failed(answers), figure, "0 failed, p99 < 2x, none smuggled", kept)


def _wrong(attackers, seen):
    """Attacks that were answered otherwise, and those of which a server saw what it must not see."""
    wrong = Counter(attackers.wrong)
    for (mark, number), times in seen.items():
        name, reach = attackers.sent[number]
        if mark == "smuggled" or times > reach:
            wrong[f"{name}: {times} {mark} at a server"] += 1
    return wrong


def _listed(wrong):
    return " (" + "; ".join(f"{many} x {what}" for what, many in wrong.most_common(6)) + ")" if wrong else ""

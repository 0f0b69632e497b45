"""One request from its arrival to the end of its answer: routed, sent to a server, sent to another where that is allowed, and booked.

Every attempt is booked once, whatever happens to it: served, failed by the server, or not measurable, which is when the client is at fault.
A latency is what servers and gateway took: the time from arrival to the end of the answer, less the time that was spent waiting for the
client, to send its body or to take the answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import numpy as np
from aiohttp import web

from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.errors import NoServerError, RouterFullError
from trimtab.fleets.base import Mask
from trimtab.fleets.client import server_timing_s
from trimtab.fleets.load_header import HEADER as LOAD_REPORT
from trimtab.gateway import circuit
from trimtab.gateway.answer import Answer
from trimtab.gateway.body import ClientFaultError, RequestBody
from trimtab.gateway.classes import ClassMatcher
from trimtab.gateway.connection import plain
from trimtab.gateway.headers import Sender, believes, request_headers, request_id
from trimtab.gateway.health import HealthBook
from trimtab.gateway.limits import Limits, Timeouts
from trimtab.gateway.phases import Phase, Phases
from trimtab.gateway.refusals import origin_form, path_of
from trimtab.gateway.reply import Reply
from trimtab.gateway.retries import RetryBudget, may_retry
from trimtab.gateway.router import Router, Ticket
from trimtab.gateway.scores import Scores
from trimtab.gateway.telemetry import GATEWAY_FULL, SERVERS_FULL, GatewayCounts
from trimtab.gateway.upstream import BrokenError, Upstream
from trimtab.gateway.window import Window

RETRY_AFTER_S: Final = 1
# What clients are told: not the library's words, which name the servers' addresses.
NO_ANSWER: Final = "the server could not be reached, or broke the connection off"
NOT_HTTP: Final = "the server's answer is not proper HTTP"
_RESULTS: Final = {SERVED: "served", FAILED: "failed", UNMEASURED: "unmeasured"}


@dataclass(frozen=True)
class Balancer:
    """What decides and what keeps the books. The event loop's thread owns all of it."""

    router: Router
    health: HealthBook
    budget: RetryBudget
    matcher: ClassMatcher
    counts: GatewayCounts
    window: Window
    scores: Scores
    clock: Callable[[], float]  # monotonic seconds
    generator: np.random.Generator  # of the slow start's draws


class ServerFailedError(Exception):
    """An attempt failed before anything of an answer went to the client. `status` is what the client is told if it was the last.

    `repeat`: it is settled that there will be another, and the budget has paid for it.
    """

    def __init__(self, status: int, reason: str, *, repeat: bool = False) -> None:
        super().__init__(reason)
        self.status, self.reason, self.repeat = status, reason, repeat


class Exchange:
    """One request of one client, through all its attempts."""

    def __init__(
        self,
        balancer: Balancer,
        upstream: Upstream,
        request: web.BaseRequest,
        limits: Limits,
        timeouts: Timeouts,
        is_closing: Callable[[], bool],
    ) -> None:
        self.balancer, self.upstream, self.request, self.timeouts = balancer, upstream, request, timeouts
        self.server_limit = limits.server_in_flight
        self.arrived_s = balancer.clock()
        self.body = RequestBody(request, limits)
        self.identity = request_id(request.headers.get("X-Request-Id"))
        authority, self.target = origin_form(request.raw_path)
        address, host = request.remote or "unknown", authority or request.headers.get("Host", "")
        version = f"{request.version.major}.{request.version.minor}"
        sender = Sender(address, host, version, believes(limits.trusted_proxies, address))
        self.headers = request_headers(request.headers.items(), sender, self.identity)
        self.kind = balancer.matcher.kind_of(path_of(request.raw_path), request.headers)
        self.servers_s = 0.0  # waited for servers
        self.clients_s = 0.0  # waited for the client, which is no part of the latency
        self.is_closing = is_closing  # whether connections end with the answers that are given now
        self.repeated = False  # on a fresh connection: once, or an outage would double every try
        self._tried: Mask = np.zeros(len(upstream.urls), dtype=np.bool_)
        self._attempts = 0

    async def run(self) -> web.StreamResponse:
        """The answer, already written if it is a server's. Cancelled when the client leaves."""
        server: int | None = None
        status: int | None = None
        try:
            response, server = await self._try_servers()
            if not (isinstance(response, Reply) and response.broken):
                status = response.status
            if server is not None and status is not None and status < 500:
                self.balancer.budget.deposit()
            return response
        finally:
            self.balancer.counts.answered(server, self.kind, status)

    async def _try_servers(self) -> tuple[web.StreamResponse, int | None]:
        failure: ServerFailedError | None = None
        while True:
            try:
                ticket = self._route()
            except (NoServerError, RouterFullError) as error:
                if failure is None:
                    self.balancer.counts.refused(SERVERS_FULL if isinstance(error, NoServerError) else GATEWAY_FULL)
                return self._unavailable(failure), None
            attempt = Attempt(self, ticket, self._attempts)
            try:
                return await attempt.run(), ticket.server
            except ClientFaultError as fault:
                return plain(fault.status, fault.reason, close=True), None
            except ServerFailedError as error:
                failure = error
                if not (error.repeat or self.again(sent=attempt.sent)):
                    return self._unavailable(failure), ticket.server

    def again(self, *, sent: bool) -> bool:
        """Whether the request goes to another server, now that an attempt has failed; takes it out of the budget."""
        method, gone = self.request.method, self.body.gone
        if not may_retry(method, self._attempts, request_bytes_sent=sent, response_started=False, body_gone=gone):
            return False
        if not (self._open() & ~self._tried).any():
            return False
        if self.balancer.budget.withdraw():
            return True
        self.balancer.counts.retried("no_budget")
        return False

    def _route(self) -> Ticket:
        now_s = self.balancer.clock()
        ticket = self.balancer.router.route(self.kind, now_s, self._offered(now_s))
        self._tried[ticket.server] = True
        self._attempts += 1
        return ticket

    def _offered(self, now_s: float) -> Mask:
        """Servers that the next attempt may go to.  # [S]"""
        health, router = self.balancer.health, self.balancer.router
        if self._attempts == 0 and router.busy < self.server_limit and health.is_calm(now_s):
            return health.everybody
        mask = health.thinned(now_s, self.balancer.generator.random(self._tried.size)) & self._room() & ~self._tried
        return mask if mask.any() else self._open() & ~self._tried

    def _open(self) -> Mask:
        return self.balancer.health.mask(self.balancer.clock()) & self._room()

    def _room(self) -> Mask:
        return circuit.with_room(self.balancer.router.in_flight, self.server_limit)

    def _unavailable(self, failure: ServerFailedError | None) -> web.Response:
        if failure is None:
            return plain(503, "no server has room for this request", retry_after_s=RETRY_AFTER_S, close=self._is_unread())
        wait = RETRY_AFTER_S if failure.status == 503 else None
        return plain(failure.status, failure.reason, retry_after_s=wait, close=self._is_unread())

    def _is_unread(self) -> bool:
        return self.is_closing() or not self.request.content.is_eof()


class Attempt:
    """One request to one server."""

    def __init__(self, exchange: Exchange, ticket: Ticket, number: int) -> None:
        self.sent = False  # bytes may have reached the server
        self._is_told = False  # `_tell` has been called
        self._exchange, self._ticket, self._number = exchange, ticket, number
        self._timeouts = exchange.timeouts
        self._outcome = UNMEASURED
        self._reused = False
        self._reply: Reply | None = None
        self._answered: Mapping[str, str] = {}  # headers of an answer that is passed on
        self._is_full = False  # the server said so: it is busy, not broken
        self._clients_s = 0.0
        self._asked_s = exchange.balancer.clock()

    async def run(self) -> web.StreamResponse:
        """The relayed answer. Raises ServerFailedError where another server may be asked, ClientFaultError where none should."""
        try:
            async with asyncio.timeout(None) as timeout:
                phases = Phases(timeout, self._exchange.upstream.deadlines)
                try:
                    return await self._ask_and_relay(phases)
                except (ConnectionError, aiohttp.ClientError):
                    return self._give_up(phases.current, NO_ANSWER, 502)
                finally:
                    phases.close()
        except TimeoutError:
            return self._give_up(phases.current, str(phases.current), 504)
        except ServerFailedError:
            self._outcome = FAILED
            raise
        finally:
            self._book()

    async def _ask_and_relay(self, phases: Phases) -> Reply:
        answer = await self._ask(phases)
        try:
            reply = self._reply = self._begin(answer)
            await self._relay(answer, reply, phases)
        finally:
            answer.close()  # nothing happens to a connection whose answer was read to its end: the pool has it back
        self._outcome = FAILED if answer.status >= 500 else SERVED
        return reply

    async def _ask(self, phases: Phases) -> Answer:
        """The answer's head, after one repetition at most where a pooled connection turned out to be dead."""
        exchange = self._exchange
        try:
            return await self._ask_once(phases, fresh=False)
        except BrokenError as error:
            # The server may have closed an idle connection at the very moment: no failure of its own, where repeating does no harm.
            harmless = may_retry(exchange.request.method, 1, request_bytes_sent=True, response_started=False, body_gone=exchange.body.gone)
            # The budget pays for it all the same: in an outage every pooled connection is dead, and a server may have read the request.
            if not self._reused or not harmless or exchange.repeated or not exchange.balancer.budget.withdraw():
                raise ServerFailedError(502, NO_ANSWER) from error
        exchange.repeated = True
        try:
            return await self._ask_once(phases, fresh=True)
        except BrokenError as error:
            if self._reused:  # still as the first time: no connection was had, so nothing was sent again
                exchange.balancer.budget.give_back()
            raise ServerFailedError(502, NO_ANSWER) from error

    async def _ask_once(self, phases: Phases, *, fresh: bool) -> Answer:
        exchange, ticket = self._exchange, self._ticket
        feed = exchange.body.for_server(phases, self._timeouts, exchange.balancer.clock)

        def on_send(reused: bool) -> None:
            self.sent, self._reused = True, reused
            phases.enter(Phase.FIRST_BYTE, self._timeouts.first_byte_s)

        phases.enter(Phase.CONNECT, self._timeouts.connect_s)
        self._asked_s = exchange.balancer.clock()
        try:
            answer = await exchange.upstream.ask(
                ticket.server, exchange.request.method, exchange.target, exchange.headers, feed, on_send, self._tell, fresh=fresh
            )
        except (BrokenError, aiohttp.ClientError) as error:
            raise self._cause(error) from error
        finally:
            if feed is not None:
                feed.detach()
            self._waited(0.0 if feed is None else feed.waited_s)
        return answer

    def _cause(self, error: Exception) -> Exception:
        """What a failed request really failed of: the client's body, the time to connect, or the connection."""
        if self._exchange.body.fault is not None:
            return self._exchange.body.fault
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return ServerFailedError(504, str(Phase.CONNECT))
        return error if isinstance(error, BrokenError) else ServerFailedError(502, NOT_HTTP)

    def _begin(self, answer: Answer) -> Reply:
        """Judge the head. Raises ServerFailedError for an answer that is not passed on."""
        exchange = self._exchange
        self._is_full = answer.status == 503 and "Retry-After" in answer.headers
        if self._is_full and exchange.again(sent=True):
            raise ServerFailedError(503, "the servers ask to be left alone for a while", repeat=True)
        if answer.status < 200:
            raise ServerFailedError(502, f"the server switched protocols, unasked ({answer.status})")
        self._answered = answer.headers
        try:
            return Reply(exchange.request, answer, exchange.identity, close=exchange.is_closing())
        except ValueError as error:
            raise ServerFailedError(502, NOT_HTTP) from error

    async def _relay(self, answer: Answer, reply: Reply, phases: Phases) -> None:
        content, idle_s = answer.content, self._timeouts.idle_s
        while True:
            phases.enter(Phase.ANSWER, idle_s)
            piece = content.read_nowait()
            if not piece:
                if content.at_eof():
                    break
                await self._deliver(reply, reply.send_head(), phases)
                phases.enter(Phase.ANSWER, idle_s)
                self._asked_s = self._exchange.balancer.clock()
                piece = await content.readany()
                self._waited(0.0)
            if piece:
                await self._deliver(reply, reply.relay(piece), phases)
        await self._deliver(reply, reply.finish(), phases)

    async def _deliver(self, reply: Reply, writing: Awaitable[None], phases: Phases) -> None:
        """Write, and wait until the client has room for more."""
        phases.enter(Phase.DELIVERY, self._timeouts.idle_s)
        await writing
        if reply.held_up:
            began_s = self._exchange.balancer.clock()
            await reply.until_taken()
            self._of_client(self._exchange.balancer.clock() - began_s)

    def _waited(self, clients_s: float) -> None:
        """Since it was asked, the server was waited for, but for `clients_s` the client."""
        self._exchange.servers_s += self._exchange.balancer.clock() - self._asked_s - clients_s
        self._of_client(clients_s)

    def _of_client(self, seconds: float) -> None:
        self._clients_s += seconds
        self._exchange.clients_s += seconds

    def _give_up(self, phase: Phase, reason: str, status: int) -> Reply:
        """The attempt ended in the middle: raise for another one, or break an answer off that has begun."""
        if self._reply is not None and self._reply.started:
            self._outcome = UNMEASURED if phase.is_clients else FAILED
            self._reply.break_off()
            return self._reply
        if phase.is_clients:
            raise ClientFaultError(408, reason)
        self._outcome = FAILED
        raise ServerFailedError(status, reason)

    def _tell(self) -> None:
        """Books, counts and window hear of the decision once the request is on its way, or at the latest when the attempt ends."""
        if self._is_told:
            return
        self._is_told = True
        balancer, ticket = self._exchange.balancer, self._ticket
        balancer.router.settle()
        balancer.counts.decided(ticket.decided_by, ticket.server, ticket.kind)
        balancer.window.sent(ticket.server, ticket.kind, ticket.sent_s)

    def _book(self) -> None:
        exchange, balancer, ticket = self._exchange, self._exchange.balancer, self._ticket
        now_s = balancer.clock()
        self._tell()
        timing, load = server_timing_s(self._answered.get("Server-Timing", "")), self._answered.get(LOAD_REPORT, "")
        service_s, queue_s = timing.get("work", 0.0), timing.get("queue", 0.0)
        balancer.router.finish(ticket, self._outcome, now_s, service_s, queue_s, self._clients_s, load)
        balancer.scores.ended(ticket.decided_by, self._outcome, now_s - ticket.sent_s - self._clients_s, now_s)
        if self._number > 1:
            balancer.counts.retried(_RESULTS[self._outcome])
        if self._outcome == UNMEASURED:
            return
        if self._is_full:
            balancer.health.overloaded(ticket.server, now_s)
        else:
            balancer.health.answered(ticket.server, self._outcome == SERVED, now_s)
        if self._outcome == SERVED:
            latency_s = now_s - exchange.arrived_s - exchange.clients_s
            balancer.window.served(ticket.server, latency_s, now_s)
            balancer.counts.served(ticket.kind, latency_s, max(0.0, latency_s - exchange.servers_s))

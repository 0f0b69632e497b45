"""Routing without a network: one ledger, one decider, and a slot for every request in flight.

Knows no socket and no clock; times are monotonic seconds that the caller passes in. One thread, the event loop's, owns it: no locks.
"""

import math
from typing import Final, NamedTuple, Protocol

import numpy as np

from trimtab.core.ledger import empty_ledger, record_dispatch, record_outcomes
from trimtab.core.reports import Reports, empty_load_log, empty_reports, record_reports
from trimtab.core.request_log import FAILED, I64, SERVED, UNMEASURED, Outcomes, empty_log
from trimtab.core.scenario import Scenario
from trimtab.core.view import View
from trimtab.errors import GatewayError, NoServerError, RouterFullError
from trimtab.fleets.base import Mask
from trimtab.fleets.load_header import parse_load
from trimtab.gateway.guard import Decider
from trimtab.policies.base import RoutingView

CAPACITY: Final = 4096

# A gap between arrivals counts as at most so many mean ones. The ledger takes every gap for a sample of the traffic, and a gateway idles
# overnight: one gap of hours would let `load` read nothing for hundreds of requests, which no training ever showed a network. Poisson
# traffic has a longer gap once in 22 000 (e^-10), so the feature means what it meant in training; a rate that falls is followed within
# some tens of arrivals.
LONGEST_GAP: Final = 10.0

# A service time that exceeds the whole latency by more than this is not believed: it would poison the averages of that server. The
# allowance is for clocks of two machines that do not tick alike.
CLOCK_ALLOWANCE_S: Final = 0.001

# A failure counts as a service of two seconds, and a server that reports no times may then never be asked again: what the ledger knows of
# it is dropped so long after its last failure (NGINX, fail_timeout, after which it tries a failed server again). Servers that report
# their times keep the rule that training has.
FORGIVEN_S: Final = 10.0


class Ticket(NamedTuple):
    """One attempt of one request, on its way. `finish` wants this very object back, once."""

    slot: int
    server: int
    kind: int
    sent_s: float
    decided_by: str
    sharing: int  # requests at that server, this one included, when it was sent


class Counts(NamedTuple):
    """Attempts since the start: sent = served + failed + unmeasured + in_flight."""

    sent: int
    served: int
    failed: int
    unmeasured: int
    in_flight: int


class Observer(Protocol):
    """Is told of every attempt; must be quick and must not raise."""

    def rehearse(self, view: RoutingView) -> None:
        """Do once whatever `decided` may need, so that nothing is compiled while a request waits."""

    def decided(self, ticket: Ticket, view: RoutingView) -> None:
        """A server was chosen; the view is as the decider saw it, the attempt not yet booked."""

    def ended(self, ticket: Ticket, status: int, latency_s: float, service_s: float, queue_s: float) -> None:
        """An attempt has ended; its times as they were booked."""


class Router:
    """Chooses servers and keeps the books; at most `capacity` requests in flight.

    Every attempt is booked by itself: a retry is `finish(ticket, FAILED, ...)`, then `route` with that server left out of the mask.
    """

    def __init__(self, scenario: Scenario, decider: Decider, capacity: int = CAPACITY, observer: Observer | None = None) -> None:
        if capacity < 1:
            raise GatewayError(f"capacity is {capacity}; allowed: 1 or more requests in flight; raise it")
        servers, classes = len(scenario.servers), len(scenario.classes)
        self.decider = decider
        self.capacity = capacity
        self._observer = observer
        self._classes = classes
        slots = np.array([[one.slots for one in scenario.servers]], dtype=np.int64)
        self._ledger = empty_ledger(1, servers, classes, capacity, slots)
        self._log = empty_log(np.zeros((1, capacity)), np.zeros((1, capacity), dtype=np.int32), np.zeros((1, capacity)))
        self._first = Outcomes(start=np.zeros(1, dtype=np.int64), stop=np.ones(1, dtype=np.int64))
        self._chosen: I64 = np.zeros(1, dtype=np.int64)
        self._view: RoutingView = View(
            now_s=np.zeros(1),
            request_class=np.zeros(1, dtype=np.int32),
            available=np.ones((1, servers), dtype=np.bool_),
            slots=slots,
            service_rate_rps=scenario.service_rate_rps()[None, :],
            ledger=self._ledger,
            reports=self._load_reports,
        )
        self._loads = empty_load_log(1, capacity)
        self._heard: Reports | None = None  # kept from the first time that a policy asks for it
        self._origin_s: float | None = None
        self._open: list[Ticket | None] = [None] * capacity
        self._unbooked: Ticket | None = None  # decided last, and not in the ledger yet
        self._free = list(reversed(range(capacity)))  # a stack: the slot freed last is still in the cache
        self._sent = 0
        self._reports: list[bool | None] = [None] * servers  # its own service times; None before it has served anything
        self._forgiven_s = [math.inf] * servers
        self._ended = {SERVED: 0, FAILED: 0, UNMEASURED: 0}

    @property
    def in_flight(self) -> I64:
        """Attempts in flight at each server.  # [S], a copy"""
        self.settle()
        return np.array(self._ledger.outstanding[0])

    @property
    def busy(self) -> int:
        """Attempts in flight, at all servers together."""
        return self.capacity - len(self._free)

    @property
    def counts(self) -> Counts:
        served, failed, unmeasured = self._ended[SERVED], self._ended[FAILED], self._ended[UNMEASURED]
        return Counts(self._sent, served, failed, unmeasured, self.busy)

    def view(self, kind: int, now_s: float, open_servers: Mask) -> RoutingView:
        """What a policy is shown of a request of class `kind`; `open_servers` [S].

        One view for ever: its arrays hold until the next call of any method. Its time is counted from the first call, as an episode's
        is from its start: the ledger would take the machine's uptime for a gap between arrivals.
        """
        if not 0 <= kind < self._classes:  # compiled code would write beside its arrays
            raise GatewayError(f"request class is {kind}; allowed: 0 to {self._classes - 1}; pass what ClassMatcher.kind_of returns")
        self.settle()
        if self._origin_s is None:
            self._origin_s = now_s
        view = self._view
        view.now_s[0] = now_s - self._origin_s
        view.request_class[0] = kind
        view.available[0] = open_servers
        return view

    def route(self, kind: int, now_s: float, open_servers: Mask) -> Ticket:
        """Choose one of `open_servers` [S] for a request of class `kind` and book it as sent, at `settle` or whatever else is called next.

        Raises NoServerError where the mask is empty, RouterFullError at capacity; nothing is booked then.
        """
        if not self._free:
            raise RouterFullError(f"{self.capacity} requests are in flight, which is all that fit; answer 503 or raise the capacity")
        if not np.count_nonzero(open_servers):  # a tenth of what any() takes
            raise NoServerError(f"none of {open_servers.size} servers is open to this request; answer 503 until one is back")
        self._forgive(now_s)
        view = self.view(kind, now_s, open_servers)
        server, decided_by = self.decider.decide(view)
        if not 0 <= server < open_servers.size or not open_servers[server]:
            raise GatewayError(f"{decided_by} chose server {server}, which is not open; put a GuardedDecider before this policy")
        return self._take(self._ticket(kind, now_s, server, decided_by))

    def settle(self) -> None:
        """Enter the last decision into the ledger and tell the observer, if that is not done yet.

        Both take as long as the decision itself, and the request need not wait for them: it is sent first. Every method that reads or
        writes the ledger settles before, so nobody sees it without a request that was decided about.
        """
        ticket, self._unbooked = self._unbooked, None
        if ticket is None:
            return
        if self._observer is not None:
            self._observer.decided(ticket, self._view)
        self._book(ticket)

    def finish(
        self,
        ticket: Ticket,
        status: int,
        now_s: float,
        service_s: float = 0.0,
        queue_s: float = 0.0,
        clients_s: float = 0.0,
        load: str = "",
    ) -> None:
        """Book how an attempt ended: SERVED, FAILED or UNMEASURED. Times as the server reports them, 0 where it does not.

        `clients_s` of the time since it was sent were spent waiting for the client, and are no part of the latency. `load` is the
        server's load report in ORCA's text form, if it sent one.
        Raises GatewayError for a ticket that has ended or is none of this router's, and for any other status.
        """
        slot = ticket.slot
        if not 0 <= slot < self.capacity or self._open[slot] is not ticket:
            raise GatewayError(f"{ticket} is not in flight; allowed: tickets of this router, once each; look for a second finish")
        if status not in self._ended:
            raise GatewayError(f"status is {status}; allowed: SERVED, FAILED, UNMEASURED of core.request_log; pass one of them")
        self.settle()
        log, latency_s = self._log, max(0.0, now_s - ticket.sent_s - clients_s)
        log.status[0, slot] = status
        log.latency_s[0, slot] = latency_s
        log.service_s[0, slot] = self._service_s(ticket, status, service_s, latency_s)
        log.queue_s[0, slot] = queue_s
        log.completed_s[0, slot] = now_s - (self._origin_s or 0.0)
        log.order[0, 0] = slot
        record_outcomes(self._ledger, log, self._first)
        if self._heard is not None:
            self._record_report(self._heard, slot, load)
        self._open[slot] = None
        self._free.append(slot)
        self._ended[status] += 1
        if status == FAILED:
            self._forgiven_s[ticket.server] = now_s + FORGIVEN_S
        if self._observer is not None:
            self._observer.ended(ticket, status, latency_s, float(log.service_s[0, slot]), queue_s)

    def forget(self, server: int) -> None:
        """Drop what was learnt of a server that comes back, as of one never seen: what is in flight stays booked.

        A failure counts as a slow service, so a policy such as `sed-online` would shun a server for what it did before it was repaired,
        and never learn better.
        """
        self.settle()
        ledger = self._ledger
        ledger.service_s[0, server] = 0.0
        ledger.samples[0, server] = 0
        ledger.latency_peak_s[0, server] = 0.0
        ledger.error_rate[0, server] = 0.0
        ledger.ratio_fast[0, server] = ledger.ratio_slow[0, server] = 1.0
        self._reports[server], self._forgiven_s[server] = None, math.inf
        if self._heard is not None:
            self._heard.response_mean_s[0, server] = self._heard.service_mean_s[0, server] = self._heard.queued_mean[0, server] = 0.0

    def _load_reports(self) -> Reports:
        if self._heard is None:
            self._heard = empty_reports(1, len(self._forgiven_s))
        return self._heard

    def _record_report(self, heard: Reports, slot: int, text: str) -> None:
        load, loads = parse_load(text), self._loads
        loads.in_flight[0, slot], loads.cpu_utilization[0, slot], loads.memory_utilization[0, slot] = load
        record_reports(heard, self._log, loads, self._first, self._view.slots)

    def _service_s(self, ticket: Ticket, status: int, reported_s: float, latency_s: float) -> float:
        """The service time that is booked: the server's own word, or an estimate for a server that never gives it; 0 for neither.

        The estimate takes requests to share the server's slots: with n of them on c slots the n-th waits (n - c) / c services, so that
        its latency is max(1, n / c) services. It is exact where there was a free slot and the network takes no time, and crude where
        classes differ much; without it such servers would all look alike, and one that failed would never look better.
        """
        if 0.0 < reported_s <= latency_s + CLOCK_ALLOWANCE_S:
            self._reports[ticket.server] = True
            return reported_s
        if status != SERVED or self._reports[ticket.server]:
            return 0.0
        self._reports[ticket.server] = False
        return latency_s / max(1.0, ticket.sharing / float(self._view.slots[0, ticket.server]))

    def _forgive(self, now_s: float) -> None:
        for server, due_s in enumerate(self._forgiven_s):
            if due_s <= now_s:
                self._forgiven_s[server] = math.inf
                known = self._reports[server]
                # One that has only failed is taken to be as the others are.
                if known is False or (known is None and not any(self._reports)):
                    self.forget(server)

    def _ticket(self, kind: int, now_s: float, server: int, decided_by: str) -> Ticket:
        """For the next free slot, which it does not take yet."""
        return Ticket(self._free[-1], server, kind, now_s, decided_by, int(self._ledger.outstanding[0, server]) + 1)

    def _take(self, ticket: Ticket) -> Ticket:
        self._free.pop()
        self._open[ticket.slot] = self._unbooked = ticket
        self._sent += 1
        return ticket

    def _book(self, ticket: Ticket) -> None:
        slot = ticket.slot
        self._log.request_class[0, slot] = ticket.kind
        self._log.server[0, slot] = ticket.server
        self._chosen[0] = ticket.server
        self._shorten_gap(float(self._view.now_s[0]))
        record_dispatch(self._ledger, self._log, slot, self._chosen, self._view.now_s)

    def _shorten_gap(self, now_s: float) -> None:
        ledger = self._ledger
        longest_s = LONGEST_GAP * float(ledger.gap_s[0])
        if longest_s > 0.0 and now_s - float(ledger.last_arrival_s[0]) > longest_s:
            ledger.last_arrival_s[0] = now_s - longest_s


def rehearse(scenario: Scenario, decider: Decider, observer: Observer | None = None) -> None:
    """Run every kernel once, on books that are thrown away: a kernel takes seconds to compile, and the first requests would wait for it.

    Raises what a policy raises that cannot run here, such as an oracle.
    """
    router, everybody = Router(scenario, decider, 2), np.ones(len(scenario.servers), dtype=np.bool_)
    view = router.view(0, 0.0, everybody)
    decider.rehearse(view)
    if observer is not None:
        observer.rehearse(view)
    router.finish(router._take(router._ticket(0, 0.0, 0, decider.primary)), SERVED, 0.0)

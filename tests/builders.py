"""Small scenarios, episodes, ledgers and views for tests, and the shortest driver of a fleet."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trimtab.core.ledger import Ledger, empty_ledger
from trimtab.core.moods import PRIOR_BOUNDS, SPREAD_BOUNDS, Moods
from trimtab.core.reports import ProbeAnswers, ProbeLog, Reports, empty_probe_log, empty_reports
from trimtab.core.request_log import empty_log
from trimtab.core.scenario import RequestClass, Scenario, Server, Traffic
from trimtab.core.view import View
from trimtab.fleets.base import Episodes, Oracle
from trimtab.fleets.simulated import SimulatedFleet

ONE_CLASS = (RequestClass("a", 1.0, 1.0, "exponential"),)


def server(slots=1, speed=1.0, number=1, classes=("a",), **rest):
    """A server that is equally fast for every class, unless `speed` is a table."""
    table = speed if isinstance(speed, dict) else dict.fromkeys(classes, speed)
    return Server(f"server-{number}", slots, table, **rest)


def scenario(*servers, classes=ONE_CLASS, faults=(), rate_rps=1.0, **rest):
    numbered = tuple(replace(one, id=f"server-{index}") for index, one in enumerate(servers or (server(),), 1))
    return Scenario("tiny", classes, numbered, Traffic(rate_rps=rate_rps), faults=tuple(faults), **rest)


def episodes(arrival_s, work_s, request_class=0, chance=0):
    """From lists [N] (one fleet) or arrays [B, N]."""
    arrival = np.atleast_2d(np.asarray(arrival_s, dtype=np.float64))
    shape = arrival.shape
    return Episodes(
        arrival,
        np.broadcast_to(np.asarray(request_class, dtype=np.int32), shape).copy(),
        np.broadcast_to(np.asarray(work_s, dtype=np.float64), shape).copy(),
        np.broadcast_to(np.asarray(chance, dtype=np.uint64), shape[:1]).copy(),
    )


def drive(fleet, drawn, choice=0):
    """Send every request of every fleet on schedule to `choice` (broadcast to [B, N]); the log after the last completion."""
    fleet.reset(drawn)
    chosen = np.broadcast_to(np.asarray(choice, dtype=np.int64), drawn.arrival_s.shape)
    for n in range(drawn.arrival_s.shape[1]):
        fleet.wait_until(drawn.arrival_s[:, n].copy())
        fleet.dispatch(n, chosen[:, n].copy())
    fleet.wait_until(np.full(drawn.arrival_s.shape[0], np.inf))
    return fleet.log


def twin_log(world, arrival_s, work_s, choice=0, **rest):
    """The log of one simulated fleet."""
    return drive(SimulatedFleet([world]), episodes(arrival_s, work_s, **rest), choice)


def written_log(rows: Sequence[tuple], requests: int | None = None):
    """A log of one fleet whose requests completed in the order of `rows`: (request, server, class, status, latency, service, end)."""
    count = requests if requests is not None else 1 + max(row[0] for row in rows)
    log = empty_log(np.zeros((1, count)), np.zeros((1, count), dtype=np.int32), np.ones((1, count)))
    for place, (request, where, kind, status, latency, service, end) in enumerate(rows):
        log.server[0, request], log.request_class[0, request], log.status[0, request] = where, kind, status
        log.latency_s[0, request], log.service_s[0, request], log.completed_s[0, request] = latency, service, end
        log.scheduled_s[0, request] = end - latency
        log.order[0, place] = request
    log.completed[0] = len(rows)
    return log


def random_ledger(rng, batch, servers, classes, now_s):
    """A ledger in some state that could have come about: counts that agree, some pairs never seen, someone in flight for a while."""
    ledger = empty_ledger(batch, servers, classes, 4 * servers)
    ledger.in_flight[:] = rng.integers(0, 4, ledger.in_flight.shape) * rng.integers(0, 2, ledger.in_flight.shape)
    ledger.outstanding[:] = ledger.in_flight.sum(axis=2)
    ledger.samples[:] = rng.integers(0, 30, ledger.samples.shape) * rng.integers(0, 2, ledger.samples.shape)
    ledger.service_s[:] = np.where(ledger.samples > 0, rng.lognormal(-4, 1, ledger.samples.shape), 0.0)
    ledger.latency_peak_s[:] = np.where(ledger.samples.sum(axis=2) > 0, rng.lognormal(-3, 1, (batch, servers)), 0.0)
    ledger.latency_stamp_s[:] = now_s[:, None] - rng.exponential(1.0, (batch, servers))
    ledger.ratio_fast[:] = rng.lognormal(0, 1, (batch, servers))
    ledger.ratio_slow[:] = rng.lognormal(0, 0.3, (batch, servers))
    ledger.error_rate[:] = rng.random((batch, servers)) * rng.integers(0, 2, (batch, servers))
    ledger.last_completion_s[:] = ledger.latency_stamp_s
    ledger.gap_s[:] = rng.exponential(0.01, batch)
    ledger.class_share[:] = rng.dirichlet(np.ones(classes), batch)
    ledger.dispatched_s[:] = now_s[:, None] - rng.exponential(0.1, ledger.dispatched_s.shape)
    ledger.oldest[:] = np.where(ledger.outstanding > 0, np.arange(servers), -1)
    return ledger


def random_moods(rng, ledger, slots):
    """Fill the moods of that ledger in the same spirit: a slow spell here and there, the oldest request of a server in service."""
    moods, batch, servers = ledger.moods, *ledger.outstanding.shape
    moods.slots[:] = slots
    moods.weight[:] = np.minimum(ledger.samples, 50)
    moods.calm_s[:] = ledger.service_s * rng.uniform(0.5, 1.5, ledger.service_s.shape)
    moods.pace_s[:] = ledger.service_s.mean(axis=2)
    moods.ratios[:] = np.clip(rng.normal(0.0, 1.0, moods.ratios.shape), -4.0, 4.0)
    moods.slow[:], moods.failing[:] = rng.random((2, batch, servers))
    moods.stamp_s[:] = ledger.last_completion_s
    moods.square[:] = rng.exponential(30.0, moods.square.shape)
    moods.excess[:] = moods.square * rng.normal(0.2, 1.0, moods.square.shape)
    moods.spread[:] = rng.uniform(*SPREAD_BOUNDS, moods.spread.shape)
    moods.prior[:] = rng.uniform(*PRIOR_BOUNDS, batch)
    moods.phase[:, :servers] = np.where(ledger.outstanding > 0, 1, 2)  # in service, gone
    moods.started_s[:] = ledger.dispatched_s
    moods.others[:, :servers] = rng.integers(0, slots)
    moods.kind[:] = rng.integers(0, ledger.in_flight.shape[2], moods.kind.shape)


def random_reports(rng, ledger, now_s):
    """Reports that could have come with the answers of that ledger: some servers never heard of, sums that only grow with time."""
    batch, servers = ledger.outstanding.shape
    reports, outcomes = empty_reports(batch, servers), ledger.samples.sum(axis=2)
    known = outcomes > 0
    reports.outcomes[:] = reports.reports[:] = outcomes
    reports.failures[:] = rng.integers(0, 1 + outcomes)
    reports.cpu_total[:] = outcomes * rng.random((batch, servers))
    reports.in_flight[:] = np.where(known, rng.integers(0, 5, known.shape), 0)
    reports.queued_mean[:] = np.where(known, rng.exponential(1.0, known.shape), 0.0)
    reports.response_mean_s[:] = np.where(known, rng.lognormal(-3, 1, known.shape), 0.0)
    reports.service_mean_s[:] = np.where(known, rng.lognormal(-4, 1, known.shape), 0.0)
    reports.reported_s[:] = np.where(known, now_s[:, None] - rng.exponential(1.0, known.shape), -np.inf)
    return reports


class GivenAnswers:
    """Answers to probes written down beforehand; `asked` holds what the policy asked."""

    def __init__(self, log, start, stop):
        self.log, self.start, self.stop, self.asked = log, start, stop, []

    def ask(self, servers):
        self.asked.append(servers.copy())

    def answers(self):
        return ProbeAnswers(self.log, self.start, self.stop)

    def alone(self, b):
        log = ProbeLog(*(column[b : b + 1].copy() for column in self.log))
        return GivenAnswers(log, self.start[b : b + 1].copy(), self.stop[b : b + 1].copy())


def random_answers(rng, now_s, servers, most=4):
    """Up to `most` answers to each fleet, of any server, some of them old."""
    batch = now_s.size
    log = empty_probe_log(batch, most)
    log.server[:] = rng.integers(0, servers, log.server.shape)
    log.in_flight[:] = rng.integers(0, 6, log.server.shape)
    log.latency_s[:] = rng.lognormal(-3, 1, log.server.shape)
    log.answered_s[:] = np.sort(now_s[:, None] - rng.exponential(0.5, log.server.shape), axis=1)
    return GivenAnswers(log, np.zeros(batch, dtype=np.int64), rng.integers(0, most + 1, batch))


def random_view(rng, batch, servers, classes, load=None):
    """A view of B random fleets; `load` [B, S] overrides the requests in flight."""
    now_s = 100.0 + rng.random(batch)
    ledger = random_ledger(rng, batch, servers, classes, now_s)
    available = rng.random((batch, servers)) < 0.7
    available[np.arange(batch), rng.integers(0, servers, batch)] = True
    if load is not None:
        ledger.in_flight[:] = 0
        ledger.in_flight[:, :, 0] = load
        ledger.outstanding[:] = load
    apart = rng.spawn(1)[0]  # so that the rest of a view is the same whatever is reported
    reports = random_reports(apart, ledger, now_s)
    truth = Oracle(
        mean_service_s=rng.lognormal(-4, 1, (batch, servers, classes)),
        slowness=1.0 + rng.exponential(1.0, (batch, servers)),
        down=rng.random((batch, servers)) < 0.2,
        delay_s=rng.exponential(0.1, (batch, servers)),
    )
    request_class, slots = rng.integers(0, classes, batch).astype(np.int32), rng.integers(1, 5, (batch, servers))
    random_moods(rng.spawn(1)[0], ledger, slots)
    return View(
        now_s=now_s,
        request_class=request_class,
        available=available,
        slots=slots,
        service_rate_rps=rng.uniform(1.0, 100.0, (batch, servers)),
        ledger=ledger,
        oracle=lambda: truth,
        reports=lambda: reports,
        probes=random_answers(apart, now_s, servers),
    )


def columns(ledger):
    """Every array of a ledger by name, those of its moods too."""
    found = {name: column for name, column in ledger._asdict().items() if name != "moods"}
    return found | {f"moods.{name}": column for name, column in ledger.moods._asdict().items()}


def with_columns(found):
    """The reverse of `columns`."""
    moods = {name.removeprefix("moods."): column for name, column in found.items() if name.startswith("moods.")}
    return Ledger(**{name: column for name, column in found.items() if "." not in name}, moods=Moods(**moods))


def fleet_alone(view, b):
    """The view that fleet b has when it runs by itself."""
    truth = view.oracle()
    alone = Oracle(*(column[b : b + 1].copy() for column in truth))
    reports = Reports(*(column[b : b + 1].copy() for column in view.reports()))
    return View(
        now_s=view.now_s[b : b + 1].copy(),
        request_class=view.request_class[b : b + 1].copy(),
        available=view.available[b : b + 1].copy(),
        slots=view.slots[b : b + 1].copy(),
        service_rate_rps=view.service_rate_rps[b : b + 1].copy(),
        ledger=with_columns({name: column[b : b + 1].copy() for name, column in columns(view.ledger).items()}),
        oracle=lambda: alone,
        reports=lambda: reports,
        probes=view.probes.alone(b),
    )


def arrays_of(view):
    """Every array of a view, copied, so that a change to any of them can be seen."""
    names = ("now_s", "request_class", "available", "slots", "service_rate_rps")
    told = (*columns(view.ledger).values(), *view.reports(), *view.probes.answers().log)
    return [*(getattr(view, name).copy() for name in names), *(column.copy() for column in told)]

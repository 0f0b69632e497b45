"""The live fleet: real requests to real servers, on schedule, from a pool of threads.

One thread, the caller's, keeps the books: workers only put answers in a queue, and `wait_until` takes them out in order of
time and writes the log. Beside the servers runs their model (the twin of the scenario), fed with the same dispatches; it
answers what nobody can measure: what an oracle would know, and which server had the least expected completion.
"""

import math
import queue
import threading
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from trimtab.core.reports import LoadLog, ProbeAnswers
from trimtab.core.request_log import F64, I64, Outcomes, RequestLog
from trimtab.core.scenario import Scenario
from trimtab.errors import FleetError, UsageError
from trimtab.fleets.base import Episodes, Mask, Oracle
from trimtab.fleets.client import READ_TIMEOUT_S, Answer, ServerClient
from trimtab.fleets.faults import FaultTimeline
from trimtab.fleets.live_reports import PROBE_PATH, LiveReports
from trimtab.fleets.simulated import SimulatedFleet

CONCURRENCY: Final = 256  # threads, hence requests in flight at most; beyond it requests go out late, and the lag says so
DRAIN_GRACE_S: Final = 5.0
_PROBE: Final = -1  # stands for the number of a request: the job is a probe

Job = tuple[int, int, int, str, dict[str, str]]  # round, request, server, path, headers
Done = tuple[float, int, int, int, Answer]  # finish, round, request, server, answer


class HttpFleet:
    """One fleet (B = 1) of live servers. Time is the wall clock's, counted from `reset`."""

    realtime = True

    def __init__(self, scenario: Scenario, urls: Sequence[str], *, concurrency: int = CONCURRENCY) -> None:
        if len(urls) != len(scenario.servers):
            raise UsageError(f"{len(urls)} server URLs for scenario {scenario.id!r} of {len(scenario.servers)} servers; give one a server")
        self.scenarios = (scenario,)
        self._shadow = SimulatedFleet([scenario])
        self.log: RequestLog = self._shadow.log
        self.client = ServerClient(urls, concurrency)
        self._sender = self.client  # where jobs go
        self.client.states()  # now, so that a silent server is an error here and not two thousand failed requests
        self._paths = [f"/job/{name}" for name in scenario.class_names]
        self._mean_work_s = np.array([one.work_s for one in scenario.classes])
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._probed: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._reports = LiveReports(0)
        self._round = 0
        self._in_flight = 0
        self._started_s = time.monotonic()
        self._lag_s = np.zeros((1, 0))
        self._faults = FaultTimeline(scenario, self.client)
        self._threads = [threading.Thread(target=self._work, name=f"http-{i}", daemon=True) for i in range(concurrency)]
        for thread in self._threads:
            thread.start()

    def reset(self, episodes: Episodes) -> None:
        """Wait for stragglers, then start the clock. A request of an earlier episode that comes back later is ignored."""
        if self._in_flight:
            self.wait_until(np.array([math.inf]))
        self._round += 1
        self._in_flight = 0
        self._shadow.reset(episodes)
        self.log = _own_log(self._shadow.log)
        self._reports = LiveReports(self.log.scheduled_s.shape[1])
        self._lag_s = np.zeros(self.log.scheduled_s.shape)
        self._faults.stop()
        self._started_s = time.monotonic()
        self._faults.start(self._started_s)

    def now_s(self) -> F64:
        return np.array([time.monotonic() - self._started_s])

    def available(self) -> Mask:
        return self._shadow.available()

    def dispatch(self, request: int, server: I64) -> None:
        self.log.server[0, request] = server[0]
        self._send(request, int(server[0]))
        self._shadow.dispatch(request, server)

    def wait_until(self, deadline_s: F64) -> Outcomes:
        outcomes = self._take_answers(float(deadline_s[0]))
        self._shadow.wait_until(deadline_s)
        return outcomes

    def load_reports(self) -> LoadLog:
        return self._reports.loads(self.log)

    def probe(self, servers: I64) -> None:
        """On the same connections and threads as the requests: probes are paid for. One may overtake the request it was sent behind."""
        self._reports.make_room(servers.shape[1] * self.log.scheduled_s.shape[1])
        for server in servers[0]:
            if server >= 0:
                self._jobs.put((self._round, _PROBE, int(server), PROBE_PATH, {}))

    def probe_answers(self) -> ProbeAnswers:
        return self._reports.take(self._probed, self._round, self._started_s)

    def oracle(self, request: int) -> Oracle:
        """As the model beside the fleet has it, fed with the same dispatches."""
        return self._shadow.oracle(request)

    def expected_best(self) -> Mask:
        """Estimated with the model beside the fleet."""
        return self._shadow.expected_best()

    def lag_s(self) -> F64:
        return self._lag_s

    def close(self) -> None:
        self._faults.stop()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(READ_TIMEOUT_S)
        self.client.close()

    def _send(self, request: int, address: int) -> None:
        """Hand a request to the threads, for the sender's URL number `address`."""
        log = self.log
        request_class = int(log.request_class[0, request])
        work = log.work_s[0, request] / self._mean_work_s[request_class]
        headers = {"X-Work": f"{work:.6f}", "X-Request-Id": f"{self._round}-{request}"}
        self._in_flight += 1
        self._jobs.put((self._round, request, address, self._paths[request_class], headers))
        self._lag_s[0, request] = time.monotonic() - self._started_s - log.scheduled_s[0, request]

    def _take_answers(self, deadline_s: float) -> Outcomes:
        """Let time pass to the deadline and write what was answered to the log, in order of time."""
        start = self.log.completed.copy()
        for done in sorted(self._collect(deadline_s), key=lambda one: one[0]):
            self._record(done)
        if math.isinf(deadline_s):  # the episode is over: its later faults must not hit who uses these servers next, perhaps another fleet
            self._faults.stop()
        return Outcomes(start, self.log.completed.copy())

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            number, request, server, path, headers = job
            answer = self._sender.send(server, path, headers)
            (self._probed if request == _PROBE else self._done).put((answer.finished_s, number, request, server, answer))

    def _collect(self, deadline_s: float) -> list[Done]:
        """Answers until the deadline; an infinite one ends when nothing is in flight."""
        arrived: list[Done] = []
        started_s = time.monotonic()
        # Behind silent servers requests wait for a thread too, one time-out after the other.
        give_up_s = started_s + READ_TIMEOUT_S * (1 + self._in_flight // len(self._threads)) + DRAIN_GRACE_S
        while not math.isinf(deadline_s) or self._in_flight > len(arrived):
            now = time.monotonic()
            left = min(deadline_s + self._started_s, give_up_s) - now
            try:
                done = self._done.get(timeout=left) if left > 0 else self._done.get_nowait()
            except queue.Empty:
                if math.isinf(deadline_s):
                    lost, self._in_flight = self._in_flight - len(arrived), 0  # the next reset must not wait for them again
                    raise FleetError(f"{lost} requests have no answer after {give_up_s - started_s:.0f} s; check the servers") from None
                break
            if done[1] == self._round:
                arrived.append(done)
        return arrived

    def _record(self, done: Done) -> None:
        finished, _, request, _, answer = done
        log = self.log
        self._reports.heard(request, answer.load)
        log.status[0, request] = answer.status
        log.completed_s[0, request] = finished - self._started_s
        log.latency_s[0, request] = log.completed_s[0, request] - log.scheduled_s[0, request]
        log.service_s[0, request] = answer.service_s
        log.queue_s[0, request] = answer.queue_s
        log.order[0, log.completed[0]] = request
        log.completed[0] += 1
        self._in_flight -= 1


def _own_log(model: RequestLog) -> RequestLog:
    """A log of the same requests, with outcome columns of its own: the model's outcomes are not the servers'."""
    inputs = {"scheduled_s", "request_class", "work_s"}
    return RequestLog(**{name: column if name in inputs else column.copy(order="K") for name, column in model._asdict().items()})

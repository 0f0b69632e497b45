"""The open loop: every request goes out when the schedule says so, whether or not earlier ones have been answered."""

import time
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.pool import Pool
from schedule import Request, draw_schedule
from sender import Sender
from settings import Settings
from tally import Tally

_BEHIND_S = 0.25  # a schedule that is stopped this late or less has been kept: stopping itself takes a moment

Announce = Callable[[str, str, float], None]  # path, outcome, latency in s: for Locust's own statistics


class OpenLoop:
    """One process's part of a schedule, played from `started_s` (monotonic) on.

    A greenlet a request, `max_in_flight` at most: beyond them requests wait, go out late, and the lag says so. None is left out.
    """

    def __init__(self, settings: Settings, index: int, workers: int, started_s: float, announce: Announce) -> None:
        self.tally = Tally()
        self.finished = Event()
        self._schedule = draw_schedule(settings)
        self._settings, self._index, self._workers = settings, index, workers
        self._started_s, self._announce = started_s, announce
        self._paths = [f"/job/{name}" for name in settings.scenario.class_names]
        self._sender = Sender(settings.targets, settings.http_timeout_s, settings.max_in_flight)
        self._stopping = Event()

    def start(self) -> None:
        """Begins in the background; `finished` is set when all has been sent and answered."""
        gevent.spawn(self._play)

    def stop(self) -> None:
        """Sends nothing more, and returns when the requests in flight have been answered or timed out."""
        self._stopping.set()
        self.finished.wait()

    def _play(self) -> None:
        in_flight = Pool(self._settings.max_in_flight)
        try:
            self.tally.span_s = self._send_all(in_flight)
            in_flight.join()
        finally:
            self._sender.close()
            self.finished.set()

    def _send_all(self, in_flight: Pool) -> float:
        """How many seconds of the schedule were played: all of it, unless it was stopped."""
        for request in self._schedule.part(self._index, self._workers):
            # With nothing left to wait for this returns after one turn of the event loop, so that a late schedule catches up.
            if self._stopping.wait(max(0.0, -self._since(request.due_s))):
                late_s = self._since(request.due_s)
                return request.due_s + (late_s if late_s > _BEHIND_S else 0.0)
            in_flight.spawn(self._send, request)
        self._stopping.wait(max(0.0, -self._since(self._schedule.span_s)))
        return self._schedule.span_s

    def _since(self, due_s: float) -> float:
        """Seconds since that moment of the schedule, negative before it."""
        return time.monotonic() - self._started_s - due_s

    def _send(self, request: Request) -> None:
        path = self._paths[request.request_class]
        request_id = f"{self._settings.seed}-{self._settings.episode}-{request.number}"
        sent_s = self._since(0.0)
        self.tally.count_sent(sent_s, request.due_s)
        outcome = self._sender.send(request.number, path, request.work, request_id)
        ended_s = self._since(0.0)
        self.tally.count_answer(request.request_class, outcome, ended_s - sent_s, ended_s - request.due_s)
        self._announce(path, outcome, ended_s - request.due_s)

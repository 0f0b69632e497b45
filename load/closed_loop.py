"""The closed loop: users that send, wait for the answer, think, and send again. A slow server slows them down, too."""

import time
from collections import Counter
from collections.abc import Iterator

from gevent.event import Event
from open_loop import Announce
from schedule import user_work
from sender import Sender
from settings import Settings
from tally import Tally

_MOST_USERS = 10_000  # of one process; only a bound for the connection pool, sockets are opened when needed
_GRACE_S = 1.0


class ClosedLoop:
    """What the closed-loop users of one process share: connections and counts."""

    def __init__(self, settings: Settings, index: int, workers: int, started_s: float, announce: Announce) -> None:
        self.tally = Tally()
        self.finished = Event()
        self._settings, self._index, self._workers = settings, index, workers
        self._started_s, self._announce = started_s, announce
        self._sender = Sender(settings.targets, settings.http_timeout_s, _MOST_USERS)
        self._paths = [f"/job/{name}" for name in settings.scenario.class_names]
        self._users: Counter[int] = Counter()
        self._in_flight = 0
        self._idle = Event()
        self._idle.set()
        self.stopping = False

    def start(self) -> None:
        """Nothing to do: Locust starts the users."""

    def stop(self) -> None:
        """Lets users send nothing more, and returns when the requests in flight have been answered or timed out."""
        if not self.stopping:
            self.stopping = True
            self.tally.span_s = max(0.0, time.monotonic() - self._started_s)
            self._idle.wait(self._settings.http_timeout_s + _GRACE_S)
            self._sender.close()
            self.finished.set()

    def enter(self, request_class: int) -> tuple[int, Iterator[float]]:
        """A new user of that class: its number over all workers, and its work."""
        user = self._users[request_class] * self._workers + self._index
        self._users[request_class] += 1
        return user, user_work(self._settings.scenario, request_class, self._settings.seed, user)

    def request(self, request_class: int, user: int, number: int, work: float) -> None:
        """One request of a user, answered or failed when this returns. A user that is stopped meanwhile abandons it."""
        path = self._paths[request_class]
        sent_s = time.monotonic()
        self.tally.count_sent(sent_s - self._started_s)
        self._in_flight += 1
        self._idle.clear()
        outcome = None
        try:
            outcome = self._sender.send(user + number, path, work, f"{self._settings.seed}-{request_class}-{user}-{number}")
        finally:
            self._in_flight -= 1
            self.tally.abandoned += outcome is None
            if not self._in_flight:
                self._idle.set()
        latency_s = time.monotonic() - sent_s
        self.tally.count_answer(request_class, outcome, latency_s)
        self._announce(path, outcome, latency_s)

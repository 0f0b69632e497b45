"""Locust's users: one class for each request class in a closed loop, a single user a process for the open loop."""

from typing import TYPE_CHECKING, Any

import gevent
import numpy as np
from locust import User, constant, task
from locust.exception import StopUser
from settings import Settings

if TYPE_CHECKING:
    from performer import Performer


class OpenLoopUser(User):
    """Stands for the schedule that its process plays, so that Locust sees a user at work. The schedule does not depend on it."""

    performer: "Performer | None" = None

    @task
    def play(self) -> None:
        """Wait for the end of the schedule; Locust then stops this user."""
        if self.performer is not None and self.performer.loop is not None:
            self.performer.loop.finished.wait()
        gevent.sleep(1.0)


class ClosedLoopUser(User):
    """Sends requests of one class, one after the other."""

    abstract = True
    performer: "Performer"
    request_class: int
    settings: Settings

    def on_start(self) -> None:
        """Take a number, and by it a stream of work and of thinking."""
        if self.performer.loop is None:
            raise StopUser
        self._user, self._work = self.performer.loop.enter(self.request_class)
        self._sent = 0
        self._chance = np.random.default_rng([self.settings.seed, self.request_class, self._user])

    @task
    def request(self) -> None:
        """One request."""
        if self.performer.loop.stopping:
            gevent.sleep(1.0)
            return
        self.performer.loop.request(self.request_class, self._user, self._sent, next(self._work))
        self._sent += 1

    def think(self) -> float:
        """Seconds until the next request."""
        return float(self._chance.exponential(self.settings.think_s)) if self.settings.think == "exponential" else self.settings.think_s


def user_classes(settings: Settings, performer: "Performer | None") -> list[type[User]]:
    """What Locust spawns for these settings. On a master, which has no performer, they only stand for those of its workers."""
    if settings.loop == "open":
        return [_made("OpenLoopUser", OpenLoopUser, performer=performer)]
    wait_time = ClosedLoopUser.think if settings.think_s else constant(0)
    common = {"performer": performer, "settings": settings, "abstract": False, "wait_time": wait_time}
    classes = enumerate(settings.scenario.classes)
    return [_made(f"{one.name}_user", ClosedLoopUser, request_class=index, weight=one.share, **common) for index, one in classes]


def _made(name: str, base: type[User], **traits: Any) -> type[User]:
    return type(name, (base,), traits)

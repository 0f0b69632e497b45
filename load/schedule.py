"""Which requests go out when, and which worker sends them: pure functions of settings, seed and worker."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from product import F64, RequestClass, Scenario, Traffic, draw_episode
from settings import Settings

_BLOCK = 1000  # work of a closed-loop user is drawn this many at a time; another number would change every user's work
_USERS_APART = 1_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """One arrival: its number in the whole schedule, seconds from the start, class, and work in units of the class mean."""

    number: int
    due_s: float
    request_class: int
    work: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """All requests of a run in order of arrival. `span_s` is how long it lasts: the duration asked for, else the last arrival."""

    due_s: F64  # [N]
    request_class: np.ndarray  # [N]
    work: F64  # [N], in units of the class mean
    span_s: float

    def part(self, index: int, workers: int) -> Iterator[Request]:
        """The requests of worker `index`: those whose number modulo `workers` is `index`."""
        for n in range(index, self.due_s.size, workers):
            yield Request(n, float(self.due_s[n]), int(self.request_class[n]), float(self.work[n]))

    def due_before(self, time_s: float) -> int:
        """How many requests are due before `time_s`, all of them at the end of the schedule."""
        return self.due_s.size if time_s >= self.span_s else int(np.searchsorted(self.due_s, time_s, side="left"))


def draw_schedule(settings: Settings) -> Schedule:
    """The episode of these settings; with a duration, cut to it.

    An episode that ends before the duration is drawn anew with more requests, so that the traffic keeps its shape instead of starting
    over; its numbers then differ from those of the shorter episode, and depend on seed, episode and duration only.
    """
    scenario, span_s = settings.scenario, settings.duration_s
    episode = draw_episode(scenario, settings.seed, settings.episode, settings.trace_rps)
    while span_s is not None and episode.arrival_s[-1] < span_s:
        scenario = replace(scenario, requests=2 * scenario.requests)
        episode = draw_episode(scenario, settings.seed, settings.episode, settings.trace_rps)
    end_s = float(episode.arrival_s[-1]) if span_s is None else span_s
    count = int(np.searchsorted(episode.arrival_s, end_s, side="right"))
    means_s = np.array([one.work_s for one in scenario.classes])
    kind = episode.request_class[:count]
    return Schedule(episode.arrival_s[:count], kind, episode.work_s[:count] / means_s[kind], end_s)


def user_work(scenario: Scenario, request_class: int, seed: int, user: int) -> Iterator[float]:
    """Endless work of closed-loop user number `user` of one class, in units of the class mean; every user draws from its own stream."""
    alone = _alone(scenario, scenario.classes[request_class])
    block = 0
    while True:
        number = (block * len(scenario.classes) + request_class) * _USERS_APART + user
        drawn = draw_episode(alone, seed, number)
        yield from (drawn.work_s / scenario.classes[request_class].work_s).tolist()
        block += 1


def _alone(scenario: Scenario, one: RequestClass) -> Scenario:
    traffic = Traffic(rate_rps=1.0)  # arrivals are drawn, too, and thrown away
    return replace(scenario, classes=(replace(one, share=1.0),), traffic=traffic, requests=_BLOCK, warmup=0)

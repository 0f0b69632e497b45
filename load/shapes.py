"""How many users when: from the traffic definitions of the scenarios."""

import math
from typing import TYPE_CHECKING

from locust import LoadTestShape
from product import UsageError, intensity_rps
from settings import Settings

if TYPE_CHECKING:
    from conductor import Conductor

_SPAWN_RATE = 100  # users a second; more, and Locust warns


class OpenLoopShape(LoadTestShape):
    """One user in each process until the whole schedule has been played and answered."""

    abstract = True  # made by the locustfile, not found by Locust

    def __init__(self, conductor: "Conductor") -> None:
        super().__init__()
        self._conductor = conductor

    def tick(self) -> tuple[int, float] | None:
        """Users and spawn rate; None ends the run."""
        return None if self._conductor.finished else (self._conductor.workers, _SPAWN_RATE)


class TrafficShape(LoadTestShape):
    """As many closed-loop users as the traffic's intensity needs now: poisson, sinusoid, flash, ramp or trace (thinned)."""

    abstract = True

    def __init__(self, settings: Settings, user_rate_rps: float) -> None:
        super().__init__()
        if settings.scenario.traffic.kind == "mmpp":
            raise UsageError("mmpp traffic has a random intensity, which users cannot follow; allowed: the others; use --loop open for it")
        self._settings, self._user_rate_rps = settings, user_rate_rps

    def tick(self) -> tuple[int, float] | None:
        """Users and spawn rate; None after the duration."""
        now_s, settings = self.get_run_time(), self._settings
        if settings.duration_s is not None and now_s >= settings.duration_s:
            return None
        return users_for(settings, now_s, self._user_rate_rps), _SPAWN_RATE


def users_for(settings: Settings, now_s: float, user_rate_rps: float) -> int:
    """Users whose requests add up to the intensity at `now_s` seconds, at least one."""
    scenario = settings.scenario
    rate_rps = float(intensity_rps(scenario.traffic, scenario.rate_rps(), now_s, settings.trace_rps))
    return max(1, math.ceil(rate_rps / user_rate_rps - 1e-9))

"""The twin: a batch of simulated fleets, exact for the server model of the scenario file."""

import copy
from collections.abc import Sequence

import numpy as np

from trimtab.core import request_log
from trimtab.core.branching import rows_of
from trimtab.core.reports import LoadLog, ProbeAnswers
from trimtab.core.request_log import F64, I64, Outcomes, RequestLog, empty_log
from trimtab.core.scenario import Scenario
from trimtab.errors import UsageError
from trimtab.fleets import twin_kernels, twin_replay, twin_state
from trimtab.fleets.base import Episodes, Mask, Oracle
from trimtab.fleets.twin_replay import Heard, build_replay
from trimtab.fleets.twin_state import TwinModel, TwinState, build_model, build_state


class SimulatedFleet:
    """B simulated fleets of equal size, one scenario each. Deterministic: all chance is in the episodes."""

    realtime = False

    def __init__(self, scenarios: Sequence[Scenario]) -> None:
        sizes = {(len(one.servers), len(one.classes)) for one in scenarios}
        if len(sizes) != 1:
            raise UsageError(f"a batch of fleets has (servers, classes) {sorted(sizes)}; one size a batch is allowed; batch them by size")
        self.scenarios = tuple(scenarios)
        self._model: TwinModel = build_model(self.scenarios)
        nobody = np.zeros((len(self.scenarios), 0))
        self.log: RequestLog = empty_log(nobody, nobody.astype(np.int32), nobody)
        self._state: TwinState = build_state(self._model, 0, nobody)
        self._heard: Heard | None = None  # made when somebody asks
        self._has_faults = bool(self._model.fault_count.any())
        self._everybody = np.ones(self._model.slots.shape, dtype=np.bool_)

    def reset(self, episodes: Episodes) -> None:
        """Empty servers, clocks at zero, episodes [B, N] about to arrive."""
        requests = episodes.arrival_s.shape[1]
        self.log = empty_log(episodes.arrival_s, episodes.request_class, episodes.work_s)
        draws = [np.random.Generator(np.random.PCG64(int(one))).random(requests) for one in episodes.chance] if self._has_faults else []
        self._state = build_state(self._model, requests, np.array(draws).reshape(len(draws), requests))
        self._heard = None

    def now_s(self) -> F64:
        return self._state.now_s.copy()

    def available(self) -> Mask:
        if not self._has_faults:
            return self._everybody
        mask = np.empty(self._model.slots.shape, dtype=np.bool_)
        twin_kernels.availability(self._model, self._state, mask)
        return mask

    def dispatch(self, request: int, server: I64) -> None:
        twin_kernels.dispatch(self._model, self._state, self.log, request, server)

    def wait_until(self, deadline_s: F64) -> Outcomes:
        start = self.log.completed.copy()
        twin_kernels.advance(self._state, self.log, deadline_s)
        return Outcomes(start, self.log.completed.copy())

    def load_reports(self) -> LoadLog:
        return self._caught_up(0).loads

    def probe(self, servers: I64) -> None:
        replay = self._caught_up(servers.shape[1]).replay
        twin_replay.send_probes(replay, np.ascontiguousarray(servers), self._state.now_s)

    def probe_answers(self) -> ProbeAnswers:
        heard = self._heard
        start = np.zeros(len(self.scenarios), dtype=np.int64) if heard is None else heard.replay.answered.copy()
        heard = self._caught_up(0)
        return ProbeAnswers(heard.answers, start, heard.replay.answered.copy())

    def oracle(self, request: int) -> Oracle:
        shape = self._model.slots.shape
        slowness, down, delay = np.empty(shape), np.empty(shape, dtype=np.bool_), np.empty(shape)
        twin_kernels.foresee(self._model, self._state, self.log, request, slowness, down, delay)
        return Oracle(self._model.mean_service_s, slowness, down, delay)

    def foreseen_latency_s(self, request: int) -> F64:
        """Response time of a request just sent as far as the present fixes it; later crashes and freezes aside.  # [B]"""
        return self._state.quiet_latency_s[:, request]

    def expected_best(self) -> Mask:
        return self._state.best

    def lag_s(self) -> F64:
        return np.zeros(self.log.scheduled_s.shape)

    def branch(self, rows: I64, requests: int) -> "SimulatedFleet":
        """Copies of the fleets `rows` [R] as they are now, which know of the first `requests` requests only and go on by themselves."""
        other = copy.copy(self)
        other.scenarios = tuple(self.scenarios[row] for row in rows)
        other._model = rows_of(self._model, rows)
        other._state = rows_of(self._state, rows, twin_state.PER_REQUEST, requests)
        other.log = rows_of(self.log, rows, request_log.PER_REQUEST, requests)
        other._everybody = np.ones(other._model.slots.shape, dtype=np.bool_)
        other._heard = None
        return other

    def close(self) -> None:
        """Nothing to let go of."""

    def _caught_up(self, probes: int) -> Heard:
        """The servers as they were one overhead ago; with `probes` a request from now on, at most. The past can be replayed at any time."""
        requests = self.log.scheduled_s.shape[1]
        heard = self._heard
        if heard is None or heard.answers.server.shape[1] < probes * requests:
            heard = self._heard = build_replay(self.scenarios, self._model, requests, probes * requests)
        twin_replay.catch_up(self._model, self.log, *heard, self._state.now_s)
        return heard

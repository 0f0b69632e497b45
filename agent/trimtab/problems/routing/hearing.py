"""What the servers of one batch of episodes say of themselves, for policies that ask."""

import numpy as np

from trimtab.core.reports import ProbeAnswers, Reports, empty_reports, record_reports
from trimtab.core.request_log import I64, Outcomes
from trimtab.fleets.base import Fleet


class Hearing:
    """Brings reports up to date when it is called, and carries probes out behind the request they were asked with."""

    def __init__(self, fleet: Fleet, slots: I64) -> None:
        self._fleet = fleet
        self._slots = slots
        self._reports: Reports | None = None
        self._read: I64 = np.zeros(len(slots), dtype=np.int64)
        self._wanted: I64 | None = None
        self.probes: I64 = np.zeros(slots.shape, dtype=np.int64)  # sent so far  # [B, S]

    def reports(self) -> Reports:
        """Of everything that has completed."""
        if self._reports is None:
            self._reports = empty_reports(*self._slots.shape)
        loads, stop = self._fleet.load_reports(), self._fleet.log.completed.copy()
        record_reports(self._reports, self._fleet.log, loads, Outcomes(self._read, stop), self._slots)
        self._read = stop
        return self._reports

    def ask(self, servers: I64) -> None:
        self._wanted = servers

    def answers(self) -> ProbeAnswers:
        return self._fleet.probe_answers()

    def dispatched(self) -> None:
        """The request of the present decision is on its way: its probes follow."""
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        self._fleet.probe(wanted)
        fleets, servers = np.nonzero(wanted >= 0)[0], wanted[wanted >= 0]
        np.add.at(self.probes, (fleets, servers), 1)

    def probe_rates(self, b: int, elapsed_s: float) -> dict[str, float]:
        """What asking cost fleet b; empty where nobody asked, since it is no column of the results."""
        count = int(self.probes[b].sum())
        return {"probes_per_second": count / elapsed_s} if count and elapsed_s > 0.0 else {}

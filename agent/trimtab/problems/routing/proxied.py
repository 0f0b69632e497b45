"""Episodes that a real proxy decides: the books are kept from the answers, since nobody is told of the decisions."""

from typing import Final

import numpy as np

from trimtab.core.request_log import I64, Outcomes, finished_requests
from trimtab.core.tally import Key, Tally, tally_decisions, tally_outcomes
from trimtab.problems.routing.env import RoutingEnv

NOBODY: Final = "none"  # counts under this name what no server answered


class ProxiedEnv(RoutingEnv):
    """See `RoutingEnv`; actions are not looked at. The ledger stays empty: a proxy keeps its own."""

    def _book_decision(self, actions: I64) -> None:
        """A decision is known with its answer."""

    def _book(self, outcomes: Outcomes) -> None:
        if self._tally is None:
            return
        log, last = self._fleet.log, len(self._tally.outcomes) - 1
        for request in finished_requests(log, outcomes)[1]:
            server = log.server[:, request].astype(np.int64)
            tally_decisions(self._tally, log, int(request), np.where(server < 0, last, server))
        tally_outcomes(self._tally, log, outcomes)  # an unknown server is -1, and the last row is nobody's

    def _present_tally(self) -> Tally | None:
        if self._counting is None:
            return None
        (tallies, policy), scenario = self._counting, self._fleet.scenarios[0]
        return tallies.of(Key("http", policy, (*scenario.server_ids, NOBODY), scenario.class_names))

"""Books of episodes that somebody else decides."""

import numpy as np

from builders import scenario, server
from trimtab.core.request_log import FAILED
from trimtab.core.tally import Tallies
from trimtab.experiments.loop import play
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.problems.routing.env import Plan
from trimtab.problems.routing.proxied import NOBODY, ProxiedEnv
from trimtab.problems.routing.world import draw_episodes

WORLD = scenario(server(slots=4), server(slots=4))
PLAN = Plan(warmup=2, decisions=8, closing=False)
CHOSEN = (0, 1, 1, 1, 0, 1, -1, 1, 1, -1)  # who answers; two fail in the proxy itself


class SelfWilled(SimulatedFleet):
    """Sends where CHOSEN says, and tells with the answer only."""

    def reset(self, episodes):
        super().reset(episodes)
        self.told = []

    def dispatch(self, request, server):
        super().dispatch(request, np.array([max(CHOSEN[request], 0)]))
        self.told.append(int(self.log.server[0, request]))
        self.log.server[0, request] = -1

    def wait_until(self, deadline_s):
        outcomes = super().wait_until(deadline_s)
        for request in self.log.order[0, outcomes.start[0] : outcomes.stop[0]]:
            self.log.server[0, request] = CHOSEN[request]
            if CHOSEN[request] < 0:
                self.log.status[0, request], self.log.service_s[0, request] = FAILED, 0.0
        return outcomes


def played(tallies=None):
    env = ProxiedEnv(lambda seed, numbers: (SelfWilled([WORLD]), draw_episodes([WORLD], PLAN, seed, numbers)), PLAN, 1)
    if tallies is not None:
        env.count_into(tallies, "a-proxy")
    for moment in play(env, lambda view: np.zeros(1, dtype=np.int64), 0, [0]):
        assert not moment.view.ledger.outstanding.any(), "nobody tells the ledger"
    env.drain()
    return env.metrics()[0]


def test_decisions_and_outcomes_are_counted_where_they_were_answered():
    tallies = Tallies()
    played(tallies)
    ((key, tally),) = tallies
    assert (key.backend, key.policy, key.servers) == ("http", "a-proxy", ("server-1", "server-2", NOBODY))
    assert tally.decisions[:, 0].tolist() == [2, 6, 2]
    assert tally.outcomes.tolist() == [[2, 0, 0], [6, 0, 0], [0, 2, 0]]


def test_metrics_say_what_is_known():
    row = played()
    assert row["error_rate"] == 2 / 8
    assert np.isnan(row["optimal_decision_rate"])
    assert row["gini_coefficient"] > 0

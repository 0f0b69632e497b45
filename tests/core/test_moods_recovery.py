"""A server that is slow when it is first met, and well later: what is believed of classes that it was not asked for since."""

import numpy as np

from builders import episodes, scenario, server
from trimtab.core.scenario import Fault, RequestClass
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.problems.routing.env import Plan, RoutingEnv

CLASSES = (RequestClass("a", 0.6, 0.010), RequestClass("b", 0.4, 0.030))
WORK_S = np.array([0.010, 0.030])


def played(world, drawn):
    """The ledger of one fleet of one server after every request was decided."""
    env = RoutingEnv(lambda seed, numbers: (SimulatedFleet([world]), drawn), Plan(0, drawn.arrival_s.shape[1], closing=False), 1)
    view = env.reset(0, [0])
    while view is not None:
        ledger = view.ledger
        view = env.step(np.zeros(1, dtype=np.int64))
    env.drain()
    return ledger


def recovered(*, known):
    """What class b is thought to take at a server that was slow when it was met and is well again, since when it answered class a only.

    `known` answers of class b and sixty of class a came from the slow spell.
    """
    kind = np.array([1] * known + [0] * 60 + [0] * 20)
    arrival_s = 0.5 * np.arange(1.0, len(kind) + 1)
    slow_until_s = arrival_s[known + 59] + 0.25
    world = scenario(
        server(1, {"a": 1.0, "b": 1.0}), classes=CLASSES, faults=(Fault("server-1", "slowdown", 0.0, slow_until_s, factor=6.0),)
    )
    ledger = played(world, episodes(arrival_s, WORK_S[kind], request_class=kind))
    assert ledger.moods.calm_s[0, 0, 0] < 3.0 * WORK_S[0], "class a was seen to be faster"
    return float(ledger.moods.calm_s[0, 0, 1] / WORK_S[1])


def test_a_server_that_recovers_is_believed_to_have_recovered_for_its_rare_classes():
    assert recovered(known=1) < 3.0, "6 when it was measured"
    assert recovered(known=14) > 4.0, "what many answers said stands"

"""A server that never served a class: hoped to be the best of it, as long as few others have served it."""

import numpy as np
import pytest

from builders import episodes, scenario, server
from trimtab.core.ledger import UNSEEN_FACTOR, empty_ledger, mood_columns, service_estimate_s
from trimtab.core.moods import COLUMNS, UNTRIED_AMONG, UNTRIED_FACTOR
from trimtab.core.scenario import Fault, RequestClass
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.policies import catalogue
from trimtab.problems.routing.env import Plan, RoutingEnv

COLUMN = {name: place for place, name in enumerate(COLUMNS)}


def ledger_of(calm_s):
    """One fleet of servers with one slot that took so long, [S, K]; 0: never served."""
    table = np.array([calm_s], dtype=np.float64)
    ledger = empty_ledger(1, *table.shape[1:], 10)
    ledger.service_s[:] = ledger.moods.calm_s[:] = table
    ledger.samples[:] = ledger.moods.weight[:] = 5 * (table > 0.0)
    return ledger


def column(ledger, name, request_class=0):
    """One column of one fleet.  # [S]"""
    kind, now_s = np.array([request_class], dtype=np.int32), np.ones(1)
    return mood_columns(ledger, service_estimate_s(ledger), kind, now_s)[0, :, COLUMN[name]].tolist()


def test_the_untried_server_is_hoped_to_be_faster_than_the_best():
    own_s = column(ledger_of([[0.010], [0.0], [0.040], [0.030]]), "own_s")
    assert own_s == pytest.approx([0.010, UNTRIED_FACTOR * 0.010, 0.040, 0.030])
    assert own_s[1] < UNSEEN_FACTOR * np.mean([0.010, 0.040, 0.030]), "the average alone would not be tried"


def test_two_untried_servers_are_hoped_to_be_alike():
    assert column(ledger_of([[0.0], [0.020], [0.0]]), "own_s") == pytest.approx([UNSEEN_FACTOR * 0.020, 0.020, UNSEEN_FACTOR * 0.020])


def test_an_average_that_is_lower_still_stands():
    """0.7 x the mean of equal servers is below 0.8 x the best."""
    assert column(ledger_of([[0.010], [0.0], [0.010]]), "own_s") == pytest.approx([0.010, UNSEEN_FACTOR * 0.010, 0.010])


def test_what_was_tried_is_believed():
    found = ledger_of([[0.010], [0.050]])
    assert column(found, "own_s") == pytest.approx([0.010, 0.050])


def test_where_nobody_served_the_class_the_estimate_stands():
    found = ledger_of([[0.010, 0.0], [0.030, 0.0]])
    assert column(found, "own_s", request_class=1) == pytest.approx([0.020, 0.020]), "the mean of everything that is known"


def test_classes_are_apart():
    found = ledger_of([[0.010, 0.090], [0.0, 0.020], [0.030, 0.0]])
    assert column(found, "own_s", request_class=0) == pytest.approx([0.010, UNTRIED_FACTOR * 0.010, 0.030])
    assert column(found, "own_s", request_class=1) == pytest.approx([0.090, 0.020, UNTRIED_FACTOR * 0.020])


@pytest.mark.parametrize("known", [1, UNTRIED_AMONG - 1, UNTRIED_AMONG, UNTRIED_AMONG + 4])
def test_among_many_that_are_known_there_is_no_hope(known):
    served_s = np.linspace(0.010, 0.090, known) if known > 1 else np.array([0.010])
    own_s = column(ledger_of([*([one] for one in served_s), [0.0], [0.0]]), "own_s")
    average = UNSEEN_FACTOR * served_s.mean()
    wanted = min(average, UNTRIED_FACTOR * 0.010) if known < UNTRIED_AMONG else average
    assert own_s[-2:] == pytest.approx([wanted, wanted])
    assert own_s[:-2] == pytest.approx(served_s.tolist())


def test_hope_is_no_reason_to_wait_in_a_queue():
    """What is in flight there is expected to take what it did without hope."""
    found = ledger_of([[0.010], [0.0], [0.060]])
    found.in_flight[0, 1, 0] = found.outstanding[0, 1] = 3
    assert column(found, "own_s")[1] == pytest.approx(UNTRIED_FACTOR * 0.010)
    assert column(found, "wait_s")[1] == pytest.approx(3 * UNSEEN_FACTOR * 0.035)


def chosen_by_moods(world, drawn):
    """Where `sed-moods` sent each request.  # [N]"""
    env = RoutingEnv(lambda seed, numbers: (SimulatedFleet([world]), drawn), Plan(0, drawn.arrival_s.shape[1], closing=False), 1)
    policy = catalogue.build("sed-moods")
    policy.reset(np.zeros(1, dtype=np.int64))
    view = env.reset(0, [0])
    while view is not None:
        view = env.step(policy.select(view))
    return env.fleet.log.server[0]


def test_a_server_that_joins_is_tried_for_every_class_and_kept_where_it_is_better():
    """One server is good at each class, and the one that joins is better still at the second."""
    classes = (RequestClass("a", 0.5, 0.010), RequestClass("b", 0.5, 0.010))
    servers = (server(1, {"a": 1.0, "b": 0.2}), server(1, {"a": 0.2, "b": 1.0}), server(1, {"a": 0.2, "b": 2.0}))
    world = scenario(*servers, classes=classes, faults=(Fault("server-3", "join", 20.25),))
    kind = np.arange(80) % 2
    chosen = chosen_by_moods(world, episodes(0.5 * np.arange(1.0, 81.0), 0.010, request_class=kind))
    before, after = slice(0, 40), slice(40, 80)
    assert not (chosen[before] == 2).any()
    assert (chosen[after][kind[after] == 0] == 2).sum() == 1, "tried once, and found slow"
    assert (chosen[after][kind[after] == 1] == 2).all(), "tried at once, and found fast"

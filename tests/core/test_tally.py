"""Running totals: every decision and every outcome once."""

import numpy as np

from builders import scenario, server, written_log
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED, Outcomes
from trimtab.core.scenario import Fault, RequestClass
from trimtab.core.tally import LATENCY_EDGES_S, Key, Tallies, empty_tally, tally_decisions, tally_outcomes
from trimtab.experiments.loop import play
from trimtab.problems.routing.world import fixed_twin

ROWS = [  # request, server, class, status, latency, service, end
    (0, 0, 1, SERVED, 0.0005, 0.0005, 1.0),
    (1, 1, 0, FAILED, 9.0, 0.0, 1.1),
    (2, 1, 1, SERVED, 0.02, 0.01, 1.2),
    (3, 0, 1, UNMEASURED, 0.3, 0.0, 1.3),
    (4, 0, 1, SERVED, 99.0, 1.0, 1.4),
]


def counted(rows, start=0):
    tally = empty_tally(2, 2)
    tally_outcomes(tally, written_log(rows), Outcomes(np.array([start]), np.array([len(rows)])))
    return tally


def test_outcomes_are_counted_by_server_and_kind():
    assert counted(ROWS).outcomes.tolist() == [[2, 0, 1], [1, 1, 0]]


def test_latencies_of_served_requests_fall_into_their_buckets():
    tally = counted(ROWS)
    buckets = np.zeros((2, len(LATENCY_EDGES_S) + 1), dtype=int)
    buckets[1, 0] = buckets[1, LATENCY_EDGES_S.index(0.02)] = buckets[1, -1] = 1  # an edge belongs to the bucket below it
    assert tally.latencies.tolist() == buckets.tolist()
    assert tally.latency_s.tolist() == [0.0, 0.0005 + 0.02 + 99.0]


def test_only_what_is_new_is_counted():
    assert counted(ROWS, start=3).outcomes.sum() == 2


def test_decisions_are_counted_by_server_and_class():
    log, tally = written_log(ROWS), empty_tally(2, 2)
    for request, where in ((0, 1), (1, 1), (2, 0)):
        tally_decisions(tally, log, request, np.array([where]))
    assert tally.decisions.tolist() == [[0, 1], [1, 1]]


def test_an_environment_counts_each_request_once_and_its_totals_only_grow():
    classes = (RequestClass("a", 0.5, 0.01), RequestClass("b", 0.5, 0.02))
    stormy = scenario(
        server(2, {"a": 1.0, "b": 1.0}), server(1, {"a": 1.0, "b": 0.5}), classes=classes, rate_rps=90.0, requests=50, warmup=10,
        faults=(Fault("server-2", "crash", 0.2, 0.4),),
    )  # fmt: skip
    env, tallies, rng = fixed_twin(stormy).evaluation_env(3), Tallies(), np.random.default_rng(0)
    env.count_into(tallies, "random")
    for done in (1, 2):
        for _ in play(env, lambda view: rng.integers(0, 2, view.now_s.size), 0, [0, 1, 2]):
            pass
        env.drain()
        ((key, tally),) = tallies
        assert key == Key("twin", "random", ("server-1", "server-2"), ("a", "b"))
        assert tally.decisions.sum() == tally.outcomes.sum() == done * 3 * 60
    assert tally.outcomes[1, 1] > 0, "the crashed server failed some"
    assert tally.outcomes[:, 0].sum() == tally.latencies.sum()


def test_without_a_tally_nothing_is_counted():
    env = fixed_twin(scenario(server(slots=2), server(), rate_rps=1.0, requests=5)).evaluation_env(1)
    for _ in play(env, lambda view: np.zeros(view.now_s.size, dtype=np.int64), 0, [0]):
        pass
    assert env._tally is None


def test_counts_of_elsewhere_are_added():
    tallies, key = Tallies(), Key("twin", "p2c", ("server-1", "server-2"), ("a", "b"))
    log, counted = written_log(ROWS), empty_tally(2, 2)
    tally_decisions(counted, log, 0, np.array([1]))
    counted.latency_s[:] = 0.5
    for times in (1, 2):
        tallies.merge(key, counted)
        assert tallies.of(key).decisions.sum() == times
        assert tallies.of(key).latency_s.tolist() == [0.5 * times] * 2
    assert counted.decisions.sum() == 1

"""What each policy chooses: by hand on small states, by chi-square where chance decides, in order of strength on a grey fleet."""

import numpy as np
import pytest
from scipy import stats

from builders import random_view
from policies.one_fleet import REJECTED_BELOW, assert_uniform, choices, state
from trimtab.core.ledger import PEAK_DECAY_S
from trimtab.experiments.evaluate import evaluate
from trimtab.policies import catalogue, load, pick
from trimtab.problems.routing.world import family_twin

# Turns


def test_round_robin_gives_exact_turns():
    assert choices("round-robin", state([5, 0, 0]), 7) == [0, 1, 2, 0, 1, 2, 0]


def test_round_robin_steps_over_the_missing_and_does_not_make_up_for_it():
    policy = catalogue.build("round-robin")
    policy.reset(np.array([0]))
    everybody, without = state([0, 0, 0]), state([0, 0, 0], available=[True, False, True])
    away = [int(policy.select(without)[0]) for _ in range(20)]
    assert away == [0, 2] * 10
    back = [int(policy.select(everybody)[0]) for _ in range(9)]
    assert np.abs(np.bincount(back) - 3).max() <= 1  # twenty turns were missed, none is made up for


def test_weighted_round_robin_is_exact_in_every_cycle_and_smooth():
    chosen = choices("weighted-round-robin", state([0, 0, 0], rates=[40.0, 20.0, 10.0]), 70)
    for cycle in np.array(chosen).reshape(10, 7):
        assert np.bincount(cycle).tolist() == [4, 2, 1]
    longest = max(len(run) for run in "".join(str(one) for one in chosen).replace("1", " ").replace("2", " ").split())
    assert longest <= 3  # four in a row is what a plain cycle would send


def test_weighted_round_robin_keeps_within_one_turn_of_its_share():
    rates = np.array([49.0, 45.0, 43.0, 38.0])
    chosen = choices("weighted-round-robin", state([0] * 4, rates=rates), 700)
    counts = np.cumsum(np.eye(4)[chosen], axis=0)
    fair = np.arange(1, 701)[:, None] * rates / rates.sum()
    assert np.abs(counts - fair).max() < len(rates)
    assert counts[-1] == pytest.approx(700 * rates / rates.sum(), abs=1.5)


def test_fleets_take_their_own_turns():
    view = random_view(np.random.default_rng(0), 3, 2, 1)
    view.available[:] = [[True, True], [False, True], [True, True]]
    policy = catalogue.build("round-robin")
    policy.reset(np.arange(3))
    assert [policy.select(view).tolist() for _ in range(3)] == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


# Chance


def test_random_is_uniform_over_the_available():
    chosen = np.array(choices("random", state([9, 0, 0, 0, 0], available=[True, False, True, True, True]), 4000))
    assert 1 not in chosen
    assert_uniform(np.searchsorted([0, 2, 3, 4], chosen), 4)


def test_successive_random_choices_do_not_depend_on_each_other():
    chosen = np.array(choices("random", state([0, 0, 0]), 6000))
    assert_uniform(chosen[:-1] * 3 + chosen[1:], 9)


@pytest.mark.parametrize("name", ["least-outstanding", "peak-ewma", "sed-online"])
def test_ties_are_uniform(name):
    view = state([2, 1, 1, 1, 3], service=[0.1] * 5)
    view.ledger.latency_peak_s[:] = 0.5
    chosen = np.array(choices(name, view, 3000))
    assert set(chosen) == {1, 2, 3}
    assert_uniform(chosen - 1, 3)


def test_ties_are_uniform_across_seeds_too():
    """The first choices of many fleets, since each fleet has a seed of its own."""
    view = random_view(np.random.default_rng(0), 4000, 4, 1, load=np.ones((4000, 4), dtype=int))
    view.available[:] = True
    policy = catalogue.build("least-outstanding")
    policy.reset(np.arange(4000))
    assert_uniform(policy.select(view), 4)


def test_p2c_compares_two_distinct_servers_and_every_pair_is_equally_likely():
    loads = np.arange(5.0)[None, :]
    chosen, draws, seeds = np.empty(1, dtype=np.int64), np.zeros(1, dtype=np.uint64), np.array([3], dtype=np.uint64)
    everyone = np.ones((1, 5), dtype=bool)
    least = []
    for _ in range(6000):
        pick.less_of_two(loads, everyone, seeds, draws, chosen)
        least.append(int(chosen[0]))
    # Of ten equally likely pairs, server s is the less loaded of the 4 - s that hold a higher one; the last never wins.
    assert 4 not in least
    assert stats.chisquare(np.bincount(least), 6000 * np.array([4, 3, 2, 1]) / 10).pvalue > REJECTED_BELOW


def test_p2c_of_equal_servers_is_uniform_and_of_one_it_is_that_one():
    assert_uniform(choices("p2c", state([1, 1, 1, 1]), 4000), 4)
    assert choices("p2c", state([7, 0], available=[True, False]), 5) == [0] * 5


def test_p2c_of_two_takes_the_less_busy():
    assert choices("p2c", state([3, 2]), 50) == [1] * 50
    assert set(choices("p2c", state([3, 2, 9], available=[True, False, True]), 50)) == {0}


# Loads by hand


def test_least_outstanding_takes_the_fewest_in_flight():
    assert choices("least-outstanding", state([3, 1, 2])) == [1]
    assert choices("least-outstanding", state([3, 1, 2], available=[True, False, True])) == [2]


def test_peak_ewma_multiplies_decayed_latency_and_requests_in_flight():
    view = state([0, 3, 1], now_s=10.0)
    view.ledger.latency_peak_s[0], view.ledger.latency_stamp_s[0] = [1.0, 0.2, 0.9], [10.0, 10.0, 0.0]
    expected = [1.0 * 1, 0.2 * 4, 0.9 * np.exp(-10 / PEAK_DECAY_S) * 2]
    assert load.peak_ewma(view)[0] == pytest.approx(expected)
    assert choices("peak-ewma", view) == [2]


def test_peak_ewma_tries_an_unseen_idle_server_first_and_an_unseen_busy_one_last():
    view = state([1, 0, 1])
    view.ledger.latency_peak_s[0] = [0.5, 0.0, 0.0]
    assert choices("peak-ewma", view) == [1]
    view.ledger.outstanding[0, 1] = 2
    assert choices("peak-ewma", view) == [0]
    view.available[0, 0] = False
    assert choices("peak-ewma", view) == [2]  # of two that nobody knows, the one with fewer in flight


def test_sed_online_adds_wait_and_own_service_of_the_class():
    view = state([[2, 1], [0, 2]], classes=2, service=[[1.0, 4.0], [3.0, 9.0]], slots=[2, 3])
    # Server 0: three in flight with 6 s of work, mean 2 s, (3 + 1 - 2) / 2 turns = 2 s. Server 1: a slot is free.
    assert load.expected_delay(view)[0] == pytest.approx([2 + 1, 3])
    view.request_class[0] = 1
    assert load.expected_delay(view)[0] == pytest.approx([2 + 4, 9])
    assert choices("sed-online", view) == [0]
    view.ledger.in_flight[0, 0, 1], view.ledger.outstanding[0, 0] = 3, 5  # 14 s, mean 2.8 s, 2 turns = 5.6 s
    assert load.expected_delay(view)[0] == pytest.approx([5.6 + 4, 9])
    assert choices("sed-online", view) == [1]


def test_sed_online_gives_an_unseen_server_a_chance():
    assert choices("sed-online", state([0, 0], service=[1.0, 0.0])) == [1]  # 0.7 of what the other takes
    assert choices("sed-online", state([0, 1], service=[1.0, 0.0])) == [0]


def test_oracles_use_what_only_a_simulator_knows():
    view = state([0, 1, 0], service=[0.1, 0.1, 0.1])
    truth = view.oracle()
    truth.mean_service_s[0, :, 0], truth.slowness[0], truth.down[0], truth.delay_s[0] = [3, 1, 2.5], [1, 1, 2], False, [9, 8, 7]
    assert load.true_mean_delay(view)[0] == pytest.approx([3, 2, 2.5])
    assert load.true_mood_delay(view)[0] == pytest.approx([3, 2, 5])
    assert (choices("oracle-sed", view), choices("oracle-moods", view), choices("oracle-greedy", view)) == ([1], [1], [2])
    truth.down[0, 1] = True
    assert (choices("oracle-sed", view), choices("oracle-moods", view)) == ([1], [0])
    truth.delay_s[0, 2] = np.inf
    assert choices("oracle-greedy", view) == [1]


def test_estimates_do_not_depend_on_which_servers_are_available():
    for estimate in (load.outstanding, load.peak_ewma, load.expected_delay, load.true_mean_delay, load.true_mood_delay):
        view = random_view(np.random.default_rng(3), 5, 4, 2)
        before = estimate(view).copy()
        view.available[:] = True
        assert np.array_equal(estimate(view), before)


# In order of strength


def test_knowing_more_helps_on_a_grey_fleet():
    """Same arrivals, same work: sizes beat moods, moods beat averages, averages beat counting, counting beats chance."""
    names = ("oracle-greedy", "oracle-moods", "sed-online", "least-outstanding", "random")
    rows = evaluate(family_twin("grey"), [catalogue.build(name) for name in names], 48, 5)
    mean_ms = {batch[0]["policy"]: np.exp(np.mean([np.log(row["mean_latency_ms"]) for row in batch])) for batch in rows}
    ordered = [mean_ms[name] for name in names]
    assert ordered == sorted(ordered), mean_ms

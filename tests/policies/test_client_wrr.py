"""Client-side weighted round robin by hand: weights as in A58, turns as in gRPC's static stride scheduler."""

import numpy as np
import pytest

from policies.one_fleet import state
from trimtab.policies import client_wrr
from trimtab.policies.client_wrr import ERROR_PENALTY, EXPIRY_S, MAX_WEIGHT, ClientSideWrr, _no_state, _schedule, _turn


def heard_of(view, outcomes, cpu_total, failures=0, reports=None):
    told = view.reports()
    told.outcomes[0], told.failures[0], told.cpu_total[0] = outcomes, failures, cpu_total
    told.reports[0] = outcomes if reports is None else reports
    return view


def policy(**rest):
    made = ClientSideWrr("wrr", **rest)
    made.reset(np.array([0]))
    return made


def picks(made, view, count):
    return [int(made.select(view)[0]) for _ in range(count)]


def weights(made):
    return made._state.weight[0].tolist()


def test_the_weight_is_rate_over_utilisation_and_error_share():
    made = policy(blackout_s=0.0)
    made.select(heard_of(state([0, 0], now_s=2.0), [40, 20], [20.0, 5.0], failures=[0, 10]))
    # 20/s at .5; 10/s at .25, half of them errors
    assert weights(made) == pytest.approx([20 / 0.5, 10 / (0.25 + 0.5 * ERROR_PENALTY)])


def test_nothing_is_weighed_between_updates_and_earlier_seconds_fade():
    made = policy(blackout_s=0.0, window_s=1.0)
    made.select(heard_of(state([0, 0], now_s=1.0), [10, 10], [5.0, 5.0]))
    first = weights(made)
    made.select(heard_of(state([0, 0], now_s=1.9), [500, 10], [5.0, 5.0]))
    assert weights(made) == first
    made.select(heard_of(state([0, 0], now_s=2.0), [30, 10], [25.0, 5.0]))
    kept = np.exp(-1.0)
    rate = (10 * kept + 20) / (kept + 1)
    utilization = (5 * kept + 20) / (10 * kept + 20)
    assert weights(made) == pytest.approx([rate / utilization, first[1]]), "who has answered nothing keeps what it has"


def test_an_update_takes_a_tenth_of_a_second_at_least():
    made = policy(blackout_s=0.0, update_s=0.0)
    made.select(heard_of(state([0, 0], now_s=1.0), [10, 10], [5.0, 5.0]))
    made.select(heard_of(state([0, 0], now_s=1.05), [99, 10], [50.0, 5.0]))
    assert weights(made) == [20.0, 20.0]


def test_no_weight_without_utilisation():
    made = policy(blackout_s=0.0)
    made.select(heard_of(state([0, 0], now_s=1.0), [10, 10], [0.0, 5.0], failures=[10, 0]))
    assert weights(made) == [0.0, 20.0]


def test_plain_turns_until_the_blackout_is_over():
    made = policy()
    for second in range(1, 11):
        view = heard_of(state([0, 0], now_s=float(second)), [20 * second, 10 * second], [10.0 * second, 5.0 * second])
        assert sorted(picks(made, view, 2)) == [0, 1]
    assert made._state.scaled[0].tolist() == [MAX_WEIGHT, MAX_WEIGHT]
    made.select(heard_of(state([0, 0], now_s=11.0), [220, 110], [110.0, 55.0]))
    assert made._state.scaled[0].tolist() == [MAX_WEIGHT, round(MAX_WEIGHT / 2)]


def test_a_weight_expires_and_begins_anew():
    made = policy(blackout_s=5.0)
    view = heard_of(state([0, 0], now_s=1.0), [20, 10], [10.0, 5.0])
    made.select(view)
    made.select(state_at(view, 7.0))
    assert made._state.scaled[0].tolist() == [MAX_WEIGHT, round(MAX_WEIGHT / 2)]
    made.select(state_at(view, 1.0 + EXPIRY_S))
    assert made._state.scaled[0].tolist() == [MAX_WEIGHT] * 2
    assert made._state.since_s[0].tolist() == [np.inf] * 2


def state_at(view, now_s):
    view.now_s[0] = now_s
    return view


def scheduled(weight, available=None):
    one = _no_state(1, len(weight))
    one.weight[0], one.since_s[0] = weight, 0.0
    here = np.ones((1, len(weight)), dtype=np.bool_) if available is None else np.array([available])
    _schedule(one, here, 0, 1.0, 0.0)
    return one.scaled[0].tolist(), one, here


def test_a_server_without_a_weight_gets_the_mean_of_the_others():
    assert scheduled([30.0, 10.0, 0.0])[0] == [MAX_WEIGHT, round(MAX_WEIGHT / 3), round(MAX_WEIGHT * 2 / 3)]


def test_one_weight_alone_means_plain_turns():
    assert scheduled([30.0, 0.0, 0.0])[0] == [MAX_WEIGHT] * 3


def test_weights_are_held_between_a_hundredth_of_the_mean_and_ten_times_it():
    scaled = scheduled([1.0] * 19 + [1000.0])[0]  # mean 50.95: the largest counts as 509.5
    assert scaled[-1] == MAX_WEIGHT
    assert scaled[0] == round(MAX_WEIGHT / 509.5)
    assert scheduled([10.0, 1e-6, 10.0])[0][1] == round(round(MAX_WEIGHT * 2 / 3) / 100)


def test_turns_are_in_proportion_and_spread():
    _, one, here = scheduled([3.0, 1.0, 2.0])
    chosen, taken = np.empty(1, dtype=np.int64), []
    for _ in range(600):
        _turn(one.scaled, one.sequence, here, chosen)
        taken.append(int(chosen[0]))
    assert np.bincount(taken) == pytest.approx([300, 100, 200], abs=2)
    assert all(0 in taken[i : i + 4] for i in range(590)), "the heaviest is never skipped for long"


def test_the_first_turns_by_hand():
    """Weights 65535 and 32768, generation g: server 1 is taken where (32768 g + 32767) mod 65535 is at least 32767."""
    _, one, here = scheduled([2.0, 1.0])
    chosen, taken = np.empty(1, dtype=np.int64), []
    for _ in range(6):
        _turn(one.scaled, one.sequence, here, chosen)
        taken.append(int(chosen[0]))
    assert one.scaled[0].tolist() == [65535, 32768]
    # g = 0: 32767, taken; g = 1: 65535 mod 65535 = 0, skipped; g = 2: 32768, taken; g = 3: 1, skipped
    assert taken == [0, 1, 0, 0, 1, 0]


def test_turns_skip_servers_that_are_away():
    scaled, one, here = scheduled([3.0, 1.0, 2.0], available=[False, True, True])
    chosen, taken = np.empty(1, dtype=np.int64), []
    for _ in range(300):
        _turn(one.scaled, one.sequence, here, chosen)
        taken.append(int(chosen[0]))
    assert scaled[1:] == [round(MAX_WEIGHT / 2), MAX_WEIGHT]
    assert np.bincount(taken, minlength=3) == pytest.approx([0, 100, 200], abs=2)


def test_the_kernels_are_their_python():
    _, one, here = scheduled([3.0, 1.0, 2.0])
    _, other, _ = scheduled([3.0, 1.0, 2.0])
    chosen, plain = np.empty(1, dtype=np.int64), np.empty(1, dtype=np.int64)
    for _ in range(50):
        client_wrr._turn(one.scaled, one.sequence, here, chosen)
        client_wrr._turn.py_func(other.scaled, other.sequence, here, plain)
        assert chosen[0] == plain[0]

"""LSQ by hand: what the local view knows, and what it cannot."""

import numpy as np

from policies.one_fleet import assert_uniform, state
from trimtab.policies.local_queue import LocalShortestQueue


def after(view, count, samples=1, seed=0):
    policy = LocalShortestQueue("lsq", samples)
    policy.reset(np.array([seed]))
    return [int(policy.select(view)[0]) for _ in range(count)]


def test_a_server_once_asked_is_known_to_be_long():
    chosen = after(state([40, 0, 0]), 300)
    assert 0 not in chosen[20:], "asked within twenty requests, it counts 40 and the others never reach that"
    assert_uniform(np.array(chosen[20:]) - 1, 2)


def test_completions_are_not_seen_until_the_server_is_asked():
    """Everything completes at once, yet the local counts rise, so that the servers take turns as if they did not."""
    policy = LocalShortestQueue("lsq", samples=0)
    policy.reset(np.array([0]))
    chosen = [int(policy.select(state([0, 0, 0]))[0]) for _ in range(30)]
    assert np.bincount(chosen).tolist() == [10, 10, 10]


def test_asking_everybody_is_least_outstanding():
    assert after(state([3, 1, 2]), 20, samples=60) == [1] * 20
    assert after(state([3, 1, 2], available=[True, False, True]), 20, samples=60) == [2] * 20


def test_one_answer_corrects_one_count():
    policy, view = LocalShortestQueue("lsq"), state([7, 7, 7])
    policy.reset(np.array([1]))
    policy.select(view)
    assert sorted(policy._length[0]) == [0, 1, 7], "one asked, another sent to, the third not heard of"

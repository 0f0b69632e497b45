"""Outcomes, latencies and rewards by decider; the reward is training's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.core.reward import FAILURE_COST, own_response
from trimtab.gateway.scores import Scores

UNIT_S = 0.05


def scores(*names, **more):
    return Scores(names or ("dqn", "sed-online"), UNIT_S, 100.0, **more)


@given(st.lists(st.tuples(st.sampled_from([SERVED, FAILED, UNMEASURED]), st.floats(1e-4, 10.0)), min_size=1, max_size=30))
def test_rewards_are_those_of_training(ends):
    book = scores()
    for status, latency_s in ends:
        book.ended("dqn", status, latency_s, 101.0)
    status, latency_s = (np.array(column) for column in zip(*ends, strict=True))
    rewards, known = own_response(latency_s, status.astype(np.int8), np.full(len(ends), UNIT_S))
    everybody, each = book.read(101.0)
    if known.any():
        assert everybody.reward == pytest.approx(float(rewards[known].mean()))
        assert each["dqn"] == everybody
    else:
        assert everybody.reward is None
    assert book.totals.cost.tolist() == pytest.approx([-float(rewards[known].sum()), 0.0])


def test_each_decider_has_its_own():
    book = scores("dqn", "canary")
    for _ in range(30):
        book.ended("dqn", SERVED, 0.1, 101.0)
        book.ended("canary", SERVED, 0.2, 101.0)
    book.ended("canary", FAILED, 0.01, 101.0)
    book.ended("canary", UNMEASURED, 9.0, 101.0)
    everybody, each = book.read(102.0)
    assert each["dqn"].reward == pytest.approx(-2.0)
    assert each["canary"].reward == pytest.approx(-(30 * 4.0 + FAILURE_COST) / 31)
    assert (each["dqn"].failed_share, each["canary"].failed_share) == (0.0, pytest.approx(1 / 31))
    assert (each["dqn"].mean_s, each["canary"].mean_s) == (pytest.approx(0.1), pytest.approx(0.2))
    assert each["canary"].p50_s == pytest.approx(0.2, rel=0.05)
    assert each["canary"].p95_s is None  # thirty have no 95th percentile
    assert each["canary"].rate_rps == pytest.approx(32 / 2)
    assert everybody.failed_share == pytest.approx(1 / 61)
    assert book.totals.outcomes.tolist() == [[30, 0, 0], [30, 1, 1]]
    assert book.totals.latencies.sum(axis=1).tolist() == [30, 30]


def test_ten_seconds_later_only_the_totals_are_left():
    book = scores()
    book.ended("dqn", SERVED, 0.1, 101.0)
    everybody, each = book.read(112.0)
    assert (everybody.reward, everybody.rate_rps, each["dqn"].mean_s) == (None, 0.0, None)
    assert book.totals.outcomes.sum() == 1


def test_a_decider_that_was_not_named_is_an_error_not_a_new_row():
    with pytest.raises(KeyError):
        scores().ended("somebody", SERVED, 0.1, 101.0)


def test_a_canary_hears_of_everything():
    class Ears:
        def __init__(self):
            self.heard = []

        def ended(self, *what):
            self.heard.append(what)

    ears = Ears()
    book = scores("dqn", "canary", canary=ears)
    book.ended("canary", FAILED, 0.1, 101.0)
    book.ended("dqn", UNMEASURED, 0.1, 102.0)
    assert ears.heard == [("canary", FAILED, 101.0), ("dqn", UNMEASURED, 102.0)]

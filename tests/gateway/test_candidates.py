"""Shadow and canary: what they decide never hurts, and what is counted is what a hand would count."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.test_guard import Clock, LastOpen, Primary, failing, network, view_of
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.gateway.candidates import (
    AGREE,
    CANARY,
    DIFFER,
    FEWEST_OUTCOMES,
    JUDGED_S,
    NO_DECISION,
    STOPPED,
    Canary,
    Shadow,
    TrialDecider,
    harm,
)
from trimtab.gateway.guard import MISSING, RESTING, Guard, GuardedDecider, PlainDecider
from trimtab.policies import catalogue
from trimtab.policies.load import expected_delay

UNIT_S = 0.05


class Thinks:
    """Chooses `answer` and shows Q-values, as a network does."""

    name = "thinks"

    def __init__(self, answer, q):
        self.answer, self.wanted = answer, np.array([q], dtype=np.float32)
        self.seen, self.q = np.zeros((1, 4, 18), dtype=np.float32), self.wanted

    def reset(self, seeds):
        pass

    def select(self, view):
        return np.array([self.answer])


def shadow_of(policy, clock=None):
    clock = clock or Clock()
    return Shadow(Guard(policy, clock, seed=7), UNIT_S, clock)


def canary_of(policy, share=0.5, clock=None, seed=0):
    clock = clock or Clock()
    return Canary(Guard(policy, clock, seed=7), share, np.random.default_rng(seed), clock)


def first_open():
    """The decider that everything here stands beside: sed-online's view of nobody's load is server 0."""
    return GuardedDecider(Primary(Clock(), np.array([0])), LastOpen(), Clock(), seed=7)


def fallback():
    return PlainDecider(LastOpen(), 7)


# Shadow


def test_agreement_is_counted_against_what_was_routed():
    shadow = shadow_of(Thinks(1, [-4.0, -1.0, np.nan, -2.0]))
    view = view_of()
    for routed in (1, 1, 1, 0):
        shadow.watch(view, routed)
    assert shadow.results.tolist() == [3, 1, 0]
    recent = shadow.read()
    assert recent.ratio == pytest.approx(0.75)
    assert recent.gain_q_s == pytest.approx(UNIT_S * 3.0 / 4)
    delay_s = expected_delay(view)[0]
    assert recent.gain_delay_s == pytest.approx(float(delay_s[0] - delay_s[1]) / 4)


def test_the_recent_part_is_forgotten_and_the_totals_stay():
    clock = Clock()
    shadow = shadow_of(Thinks(1, [-4.0, -1.0, -1.0, -2.0]), clock)
    shadow.watch(view_of(), 1)
    clock.now_s += 11.0
    assert tuple(shadow.read()) == (None, None, None)
    assert shadow.results[AGREE] == 1


def test_a_shadow_without_values_has_no_gain_by_them():
    shadow = shadow_of(catalogue.build("least-outstanding"))
    shadow.watch(view_of(), 3)
    assert shadow.results[DIFFER] == 1
    assert shadow.read().gain_q_s is None
    assert shadow.read().gain_delay_s is not None


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (None, "missing"),
        (Primary(Clock(), failing), "error"),
        (Primary(Clock(), np.array([2])), "invalid"),  # it is out
        (Thinks(1, [0.0, np.nan, 0.0, 0.0]), "invalid"),
        (network(lambda net: net.advantage.bias.fill_(np.inf)), "invalid"),
    ],
)
def test_a_shadow_that_fails_touches_nothing(policy, reason):
    shadow = shadow_of(policy)
    decider = TrialDecider(first_open(), fallback(), shadow=shadow)
    assert [decider.decide(view_of()) for _ in range(4)] == [(0, "primary")] * 4
    assert shadow.results.tolist() == [0, 0, 4]
    assert shadow.guard.reasons[reason] == 4
    assert tuple(shadow.read()) == (None, None, None)
    assert sum(decider.reasons.values()) == 0


def test_a_shadow_that_is_late_three_times_rests_and_the_requests_do_not():
    clock = Clock()
    late = Primary(clock, np.array([1]), takes_s=0.5)
    shadow = shadow_of(late, clock)
    decider = TrialDecider(first_open(), fallback(), shadow=shadow)
    assert [decider.decide(view_of())[1] for _ in range(6)] == ["primary"] * 6
    assert late.asked == 3
    assert shadow.guard.state == RESTING
    assert (shadow.results[NO_DECISION], shadow.guard.reasons["resting"]) == (3, 3)


# Canary


def test_a_canary_gets_its_share_by_the_generator():
    canary = canary_of(Primary(Clock(), np.array([1])), share=0.05)
    decider = TrialDecider(first_open(), fallback(), canary=canary)
    draws = np.random.default_rng(0).random(4000) < 0.05
    made = [decider.decide(view_of()) for _ in range(4000)]
    assert [by == CANARY for _, by in made] == draws.tolist()
    assert set(made) == {(0, "primary"), (1, CANARY)}
    assert 0.03 < draws.mean() < 0.07


def test_names_are_all_that_may_decide_each_once():
    plain = PlainDecider(catalogue.build("sed-online"))
    canary = canary_of(None)
    assert TrialDecider(plain, PlainDecider(catalogue.build("sed-online")), canary=canary).names == ("sed-online", CANARY)
    assert TrialDecider(first_open(), fallback(), canary=canary).names == ("primary", "fallback", CANARY)
    assert TrialDecider(plain, fallback(), shadow=shadow_of(None)).names == ("sed-online",)


@pytest.mark.parametrize("answer", [failing, np.array([2]), np.array([7]), None])
def test_a_canary_that_cannot_decide_is_helped_by_the_fallback(answer):
    canary = canary_of(Primary(Clock(), answer))
    decider = TrialDecider(first_open(), fallback(), canary=canary)
    made = {decider.decide(view_of()) for _ in range(100)}
    assert made == {(0, "primary"), (3, "fallback")}
    assert sum(decider.reasons.values()) == 0


def test_a_canary_without_a_model_gets_nothing():
    canary = canary_of(None)
    decider = TrialDecider(first_open(), fallback(), canary=canary)
    assert {decider.decide(view_of()) for _ in range(100)} == {(0, "primary")}
    assert canary.state == MISSING
    canary.replace(Primary(Clock(), np.array([1])))
    assert (1, CANARY) in {decider.decide(view_of()) for _ in range(100)}


@given(
    st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
    st.sampled_from([failing, np.array([0]), np.array([2]), None]),
    st.integers(),
)
def test_nobody_on_trial_chooses_a_server_that_is_out(mask, answer, seed):
    canary = canary_of(Primary(Clock(), answer), seed=abs(seed))
    shadow = shadow_of(Primary(Clock(), answer))
    decider = TrialDecider(PlainDecider(catalogue.build("sed-online")), fallback(), shadow, canary)
    for _ in range(10):
        server, by = decider.decide(view_of(mask))
        assert mask[server]
        assert by in decider.names


def end(canary, own, others, now_s=100.0):
    """Outcomes as (served, failed)."""
    for decider, (served, failed) in ((CANARY, own), ("dqn", others)):
        for status, times in ((SERVED, served), (FAILED, failed)):
            for _ in range(times):
                canary.ended(decider, status, now_s)


def test_a_canary_that_fails_clearly_more_often_is_stopped_and_says_why():
    canary, said = canary_of(Primary(Clock(), np.array([1]))), []
    canary.on_stop = said.append
    end(canary, (0, 0), (900, 9))
    end(canary, (60, 30), (0, 0))
    assert canary.state == STOPPED
    assert len(said) == 1
    assert "others" in said[0]
    decider = TrialDecider(first_open(), fallback(), canary=canary)
    assert {decider.decide(view_of()) for _ in range(100)} == {(0, "primary")}


def test_another_model_starts_with_a_clean_sheet():
    canary = canary_of(Primary(Clock(), np.array([1])))
    end(canary, (0, 0), (900, 9))
    end(canary, (0, 90), (0, 0))
    assert canary.state == STOPPED
    canary.replace(Primary(Clock(), np.array([1])))
    assert canary.state != STOPPED
    end(canary, (100, 0), (900, 9))
    end(canary, (0, 5), (0, 0))  # with the old ones it would be too many
    assert canary.state != STOPPED


def test_what_is_older_than_the_window_is_forgotten():
    canary = canary_of(Primary(Clock(), np.array([1])))
    end(canary, (0, FEWEST_OUTCOMES - 1), (900, 0), now_s=100.0)
    assert canary.state != STOPPED
    end(canary, (0, 1), (900, 0), now_s=100.0 + JUDGED_S + 1.0)
    assert canary.state != STOPPED


def test_clients_that_leave_are_nobodys_failure():
    canary = canary_of(Primary(Clock(), np.array([1])))
    for _ in range(500):
        canary.ended(CANARY, UNMEASURED, 100.0)
        canary.ended("dqn", SERVED, 100.0)
    assert canary.state != STOPPED


@pytest.mark.parametrize(
    ("own", "others", "stops"),
    [
        ((0, 49), (1000, 0), False),  # too few to say
        ((0, 50), (1000, 0), True),
        ((0, 50), (0, 0), False),  # nobody to compare with
        ((47, 3), (1000, 0), True),  # 6 points, and no chance for it at 0 of 1000
        ((95, 5), (1000, 0), False),  # 5 points are not more than 5
        ((45, 5), (970, 30), False),  # 7 points, as chance may have it
        ((0, 60), (0, 900), False),  # everybody fails alike
        ((900, 100), (9000, 0), True),
    ],
)
def test_the_rule(own, others, stops):
    assert (harm(np.array([others, own])) is not None) == stops


def test_chance_seldom_stops_a_good_canary():
    """Both fail at 2 %; a canary is judged at each of its failures."""
    generator, stopped = np.random.default_rng(1), 0
    for _ in range(200):
        own = generator.random(300) < 0.02
        others = int((generator.random(5700) < 0.02).sum())
        sums = np.cumsum(own)
        stopped += any(harm(np.array([[5700 - others, others], [n + 1 - sums[n], sums[n]]])) is not None for n in np.flatnonzero(own))
    assert stopped <= 4


# Rehearsal


def test_a_rehearsal_asks_all_and_leaves_no_trace():
    primary, trial = Primary(Clock(), np.array([0])), Primary(Clock(), np.array([1]))
    shadow, canary = shadow_of(trial), canary_of(trial)
    decider = TrialDecider(GuardedDecider(primary, LastOpen(), Clock(), seed=7), fallback(), shadow, canary)
    decider.rehearse(view_of())
    assert (primary.asked, trial.asked) == (1, 2)
    assert shadow.results.sum() == 0
    assert sum(shadow.guard.reasons.values()) == sum(canary.guard.reasons.values()) == 0
    assert math.isclose(canary.share, 0.5)

"""Ejection, checks, panic and slow start: tables of events with times worked out by hand, and what must hold for any events."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import UsageError
from trimtab.gateway.health import EVENTS_KEPT, HealthBook, HealthConfig

OK, BAD, PASS, FAIL = "ok", "bad", "pass", "fail"  # answers and checks


def told(book, *events):
    """(time, what, server, how often) in turn."""
    for now_s, what, server, times in events:
        for _ in range(times):
            (book.answered if what in (OK, BAD) else book.probed)(server, what in (OK, PASS), now_s)
    return book


def states(book, *times_s):
    return [" ".join(book.status(now_s)) for now_s in times_s]


# Overload


def test_a_server_that_is_full_is_not_ejected_and_its_failures_are_not_forgotten():
    book = told(HealthBook(2), (0, BAD, 0, 4))
    for _ in range(20):
        book.overloaded(0, 1.0)
    assert states(book, 1.0) == ["ok ok"]
    assert states(told(book, (2, BAD, 0, 1)), 2) == ["ejected ok"]


def test_a_server_that_says_it_is_full_while_its_checks_fail_is_ejected_as_any_other():
    book = told(HealthBook(2), (0, FAIL, 0, 1))
    for _ in range(5):
        book.overloaded(0, 1.0)
    assert states(book, 1.0) == ["ejected ok"]


@pytest.mark.parametrize("events", [((0, BAD, 0, 5),), ((0, FAIL, 1, 3),), ((0, BAD, 0, 5), (1, PASS, 0, 2)), ()])
def test_calm_is_when_everybody_may_be_chosen_with_full_weight(events):
    book = told(HealthBook(4), *events)
    for now_s in (0.0, 1.0, 5.0, 10.9, 11.1, 29.9, 30.1, 39.9, 40.1):
        all_of_them = book.mask(now_s).all() and bool((book.ramp(now_s) == 1).all()) and bool(book.up(now_s).all())
        assert book.is_calm(now_s) == all_of_them
    assert book.everybody.tolist() == [True] * 4


# Passive ejection


@pytest.mark.parametrize(
    ("events", "at_s", "expected"),
    [
        ([], 0, "ok ok ok ok"),
        ([(0, BAD, 1, 4)], 0, "ok ok ok ok"),
        ([(0, BAD, 1, 5)], 0, "ok ejected ok ok"),
        ([(0, BAD, 1, 4), (1, OK, 1, 1), (2, BAD, 1, 4)], 2, "ok ok ok ok"),  # a success begins the count anew
        ([(0, BAD, 1, 2), (5, BAD, 1, 3)], 5, "ok ejected ok ok"),  # a row has no time limit
        ([(0, BAD, 1, 5)], 29.9, "ok ejected ok ok"),
        ([(0, BAD, 1, 5)], 30, "ok ramping ok ok"),
        ([(0, BAD, 1, 5)], 39.9, "ok ramping ok ok"),
        ([(0, BAD, 1, 5)], 40, "ok ok ok ok"),
        ([(0, BAD, 1, 5), (1, OK, 1, 9)], 1, "ok ejected ok ok"),  # answers sent before bring nobody back
        ([(0, BAD, 1, 5), (30, BAD, 1, 4)], 30, "ok ramping ok ok"),  # and the count begins at 0 after it
        ([(0, BAD, 1, 5), (1, BAD, 1, 99), (30, BAD, 1, 4)], 30, "ok ramping ok ok"),
        ([(0, BAD, 0, 5), (0, BAD, 1, 5)], 0, "ejected ejected ok ok"),
        ([(0, BAD, 0, 5), (0, BAD, 1, 5), (0, BAD, 2, 99)], 0, "ejected ejected ok ok"),  # half is the most
        ([(0, BAD, 0, 5), (0, BAD, 1, 5), (0, BAD, 2, 99), (30, BAD, 2, 1)], 30, "ramping ramping ejected ok"),  # until there is room
    ],
)
def test_five_failures_in_a_row_eject_for_thirty_seconds(events, at_s, expected):
    assert states(told(HealthBook(4), *events), at_s) == [expected]


@pytest.mark.parametrize(("servers", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)])
def test_half_the_servers_and_at_least_one_may_be_ejected(servers, most):
    book = told(HealthBook(servers), *((0, BAD, server, 5) for server in range(servers)))
    assert book.status(0).count("ejected") == most


def test_the_allowance_of_a_share_that_binary_cannot_hold_is_exact():
    book = told(HealthBook(100, HealthConfig(max_ejected_share=0.29)), *((0, BAD, server, 5) for server in range(100)))
    assert book.status(0).count("ejected") == 29


def ejection_lengths(book, pauses_s):
    """How long each ejection lasts when the server fails again a pause after its return."""
    now_s, lengths = 0.0, []
    for pause_s in pauses_s:
        now_s += pause_s
        told(book, (now_s, BAD, 0, 5))
        assert book.status(now_s)[0] == "ejected"
        length_s = int(book.events[-1].what.split()[2])
        assert book.status(now_s + length_s - 0.01)[0] == "ejected"
        assert book.status(now_s + length_s)[0] == "ramping"
        lengths.append(length_s)
        now_s += length_s
    return lengths


@pytest.mark.parametrize(
    ("pauses_s", "expected"),
    [
        ([0] * 12, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]),
        ([0, 9, 9, 9], [30, 60, 90, 120]),  # under 10 s of health count nothing
        ([0, 10, 10, 10], [30, 30, 30, 30]),  # 10 s take one off, the new ejection puts one on
        ([0, 0, 0, 20], [30, 60, 90, 60]),  # three, less two, plus one
        ([0, 0, 0, 1000], [30, 60, 90, 30]),
        ([0] * 12 + [50], [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 180]),  # from the cap it decays at once: 10 - 5 + 1
    ],
)
def test_ejection_grows_with_each_is_capped_and_decays_in_health(pauses_s, expected):
    assert ejection_lengths(HealthBook(2), pauses_s) == expected


def test_the_longest_ejection_need_not_be_a_multiple_of_the_base():
    assert ejection_lengths(HealthBook(2, HealthConfig(max_ejection_s=70.0)), [0] * 4) == [30, 60, 70, 70]


def test_the_end_of_an_ejection_is_its_own_time_however_late_anybody_asks():
    book = told(HealthBook(4), (0, BAD, 0, 5))
    assert book.ramp(36)[0] == pytest.approx(0.6)  # back at 30, not at 36
    assert [(event.now_s, event.server) for event in book.events] == [(0, 0), (30, 0)]


def test_ejections_are_counted_for_good():
    book = told(HealthBook(4), (0, BAD, 0, 5), (30, BAD, 0, 5), (30, BAD, 3, 5))
    assert book.ejections.tolist() == [2, 0, 0, 1]


# Active checks


@pytest.mark.parametrize(
    ("events", "at_s", "expected"),
    [
        ([(0, FAIL, 2, 2)], 2, "ok ok ok ok"),
        ([(0, FAIL, 2, 3)], 4, "ok ok down ok"),
        ([(0, FAIL, 2, 2), (4, PASS, 2, 1), (6, FAIL, 2, 2)], 8, "ok ok ok ok"),
        ([(0, FAIL, 2, 3)], 9999, "ok ok down ok"),  # nothing but checks ends it
        ([(0, FAIL, 2, 3), (6, OK, 2, 9)], 6, "ok ok down ok"),  # answers in panic do not
        ([(0, FAIL, 2, 3), (6, PASS, 2, 1)], 6, "ok ok down ok"),
        ([(0, FAIL, 2, 3), (6, PASS, 2, 1), (8, FAIL, 2, 1), (10, PASS, 2, 1)], 10, "ok ok down ok"),
        ([(0, FAIL, 2, 3), (6, PASS, 2, 2)], 6, "ok ok ramping ok"),
        ([(0, FAIL, 2, 3), (6, PASS, 2, 2)], 16, "ok ok ok ok"),
        ([(0, FAIL, 0, 3), (0, FAIL, 1, 3), (0, FAIL, 2, 3), (0, FAIL, 3, 3)], 0, "down down down down"),  # no allowance: they are gone
        ([(0, BAD, 2, 5), (2, PASS, 2, 1)], 3, "ok ok ejected ok"),
        ([(0, BAD, 2, 5), (2, PASS, 2, 1), (4, PASS, 2, 1)], 4, "ok ok ramping ok"),  # a passive ejection ends too
        ([(0, PASS, 2, 9), (1, BAD, 2, 5), (2, PASS, 2, 1)], 2, "ok ok ejected ok"),  # by checks since, not before
        ([(0, BAD, 2, 5), (6, FAIL, 2, 3)], 31, "ok ok down ok"),  # down outlives the ejection
        ([(0, BAD, 0, 5), (0, BAD, 1, 5), (6, FAIL, 0, 3), (6, BAD, 2, 5)], 6, "down ejected ejected ok"),  # and frees its allowance
    ],
)
def test_three_failed_checks_take_out_and_two_good_ones_bring_back(events, at_s, expected):
    assert states(told(HealthBook(4), *events), at_s) == [expected]


@pytest.mark.parametrize(
    ("checks", "expected"),
    [(1, "ejected"), (3, "ejected"), (4, "ramping")],  # two for each ejection
)
def test_a_second_ejection_in_a_row_takes_twice_the_checks_to_end(checks, expected):
    book = told(HealthBook(4), (0, BAD, 2, 5), (2, PASS, 2, 2), (3, BAD, 2, 5), (4, PASS, 2, checks))
    assert book.status(4)[2] == expected


def test_down_takes_two_checks_however_often_a_server_was_ejected():
    book = told(HealthBook(4), (0, BAD, 2, 5), (30, BAD, 2, 5), (31, FAIL, 2, 3), (40, PASS, 2, 2))
    assert book.status(40)[2] == "ramping"


def exposure(servers, rate_rps, length_s=300):
    """Part of blind traffic (in turn over who is offered) that a server gets which fails it but passes its checks."""
    book, rng, to_bad = HealthBook(servers), np.random.default_rng(1), 0
    for number in range(length_s * rate_rps):
        now_s = number / rate_rps
        if number % int(2 * rate_rps) == 0:
            book.probed(0, True, now_s)
        offered = np.flatnonzero(book.thinned(now_s, rng.random(servers)))
        server = int(offered[number % offered.size])
        book.answered(server, server != 0, now_s)
        to_bad += server == 0
    return to_bad / (length_s * rate_rps)


def test_a_black_hole_whose_check_passes_gets_little_even_of_blind_traffic():
    assert max(exposure(servers=4, rate_rps=100), exposure(servers=5, rate_rps=100)) < 0.005


# Panic


@pytest.mark.parametrize(
    ("servers", "down", "panic"),
    [
        *((4, 2, False), (4, 3, True), (4, 4, True), (5, 2, False), (5, 3, True)),
        *((1, 0, False), (1, 1, True), (2, 1, False), (3, 1, False), (3, 2, True)),
    ],
)
def test_panic_begins_just_below_half_and_offers_everybody(servers, down, panic):
    book = told(HealthBook(servers), *((0, FAIL, server, 3) for server in range(down)))
    assert book.panic(0) is panic
    assert book.mask(0).tolist() == ([True] * servers if panic else [False] * down + [True] * (servers - down))
    assert book.up(0).tolist() == [False] * down + [True] * (servers - down)


def test_panic_ends_unaided():
    book = told(HealthBook(4), *((0, FAIL, server, 3) for server in range(4)), (60, PASS, 1, 2), (61, PASS, 3, 2))
    assert [book.panic(now_s) for now_s in (61, 62)] == [False, False]
    assert book.mask(61).tolist() == [False, True, False, True]


# Slow start


@pytest.mark.parametrize(("after_s", "weight"), [(0, 0.1), (0.5, 0.1), (1, 0.1), (2.5, 0.25), (9, 0.9), (10, 1), (500, 1)])
def test_a_server_that_came_back_ramps_from_a_tenth_to_all_in_ten_seconds(after_s, weight):
    book = told(HealthBook(3), (0, FAIL, 1, 3), (8, PASS, 1, 2))
    assert book.ramp(8 + after_s).tolist() == pytest.approx([1, weight, 1])


def test_nobody_ramps_at_the_start_or_while_out():
    book = HealthBook(3)
    assert book.ramp(0).tolist() == [1, 1, 1]
    told(book, (0, FAIL, 1, 3), (8, PASS, 1, 2), (9, FAIL, 1, 3))
    assert book.ramp(10).tolist() == [1, 1, 1]
    assert book.status(10) == ["ok", "down", "ok"]


@pytest.mark.parametrize(
    ("draw", "expected"),
    [(0.39, [True, True, True]), (0.4, [True, False, True]), (0.99, [True, False, True])],
)
def test_a_ramping_server_is_present_where_its_draw_is_below_its_weight(draw, expected):
    book = told(HealthBook(3), (0, FAIL, 1, 3), (8, PASS, 1, 2))
    assert book.thinned(12, np.array([0.999, draw, 0.999])).tolist() == expected


def test_where_all_are_cold_nobody_is_thinned_away():
    book = told(HealthBook(2), (0, FAIL, 0, 3), (0, FAIL, 1, 3), (8, PASS, 0, 2), (8, PASS, 1, 2))
    assert book.thinned(9, np.array([0.5, 0.5])).tolist() == [True, True]
    assert book.thinned(9, np.array([0.05, 0.5])).tolist() == [True, False]


def test_in_panic_the_one_that_came_back_is_always_offered():
    book = told(HealthBook(4), *((0, FAIL, server, 3) for server in range(4)), (8, PASS, 1, 2))
    assert book.panic(9)
    assert book.thinned(9, np.full(4, 0.99)).all()


# What people read


def test_events_say_what_happened_in_order_and_are_bounded():
    book = told(HealthBook(4), (1, BAD, 0, 5), (2, BAD, 1, 5), (3, BAD, 2, 9), (5, FAIL, 0, 3), (9, PASS, 0, 2), (50, OK, 3, 1))
    assert [tuple(event) for event in book.events] == [
        (1, 0, "ejected for 30 s: 5 failures in a row"),
        (2, 1, "ejected for 30 s: 5 failures in a row"),
        (3, 2, "failing, kept: 2 of 4 are ejected already"),
        (5, 0, "down: 3 checks failed"),
        (9, 0, "back: 2 checks passed"),
        (32, 1, "back: ejection over"),
    ]
    told(book, *((100 + now_s, what, 0, 3) for now_s in range(500) for what in (FAIL, PASS)))
    assert len(book.events) == EVENTS_KEPT


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ({"failures": 0}, "failures = 0"),
        ({"decay_s": -1.0}, "decay_s = -1.0"),
        ({"slow_start_s": math.nan}, "slow_start_s = nan"),
        ({"panic_below": 0.0}, "panic_below = 0.0"),  # would allow an empty mask
        ({"panic_below": 1.5}, "panic_below = 1.5"),
        ({"max_ejection_s": 20.0}, "max_ejection_s = 20.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(setting, found):
    with pytest.raises(UsageError, match=found) as refused:
        HealthConfig(**setting)
    assert "give" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_fleet_of_nobody_is_refused():
    with pytest.raises(UsageError, match="at least one"):
        HealthBook(0)


# For any events

configs = st.builds(
    HealthConfig,
    failures=st.integers(1, 5),
    max_ejected_share=st.floats(0.01, 1.0),
    panic_below=st.floats(0.01, 1.0),
    fall=st.integers(1, 3),
    rise=st.integers(1, 3),
)
steps = st.tuples(st.floats(0, 40), st.integers(0, 5), st.sampled_from([OK, BAD, BAD, BAD, PASS, FAIL]), st.integers(1, 5))


def played(servers, config, events):
    """The book and the time after each event; time only grows."""
    book, now_s = HealthBook(servers, config), 0.0
    for pause_s, server, what, times in events:
        now_s += pause_s
        yield told(book, (now_s, what, server % servers, times)), now_s


@given(st.integers(1, 6), configs, st.lists(steps, max_size=60), st.integers(0, 99))
def test_no_mask_is_ever_empty_and_thinning_only_takes_ramping_servers(servers, config, events, seed):
    draws = np.random.default_rng(seed)
    for book, now_s in played(servers, config, events):
        mask, thinned = book.mask(now_s), book.thinned(now_s, draws.random(servers))
        assert thinned.any()
        assert (thinned <= mask).all()
        assert (book.ramp(now_s)[mask & ~thinned] < 1).all()


@given(st.integers(1, 6), configs, st.lists(steps, max_size=60))
def test_only_checks_take_out_more_than_the_allowed_share(servers, config, events):
    for book, now_s in played(servers, config, events):
        assert book.status(now_s).count("ejected") <= max(1, math.floor(config.max_ejected_share * servers + 1e-9))


@given(st.integers(1, 6), configs, st.lists(steps, max_size=60))
def test_panic_is_less_than_the_threshold_in_and_offers_all_else_those_in(servers, config, events):
    for book, now_s in played(servers, config, events):
        up, panic = book.up(now_s), book.panic(now_s)
        assert panic == (up.sum() / servers < config.panic_below)
        assert book.mask(now_s).tolist() == ([True] * servers if panic else up.tolist())
        assert up.tolist() == [state in ("ok", "ramping") for state in book.status(now_s)]


@given(st.lists(st.floats(0, 9.99), min_size=1, max_size=15))
def test_without_ten_seconds_of_health_ejections_grow_up_to_the_cap(pauses_s):
    lengths = ejection_lengths(HealthBook(2), [0.0, *pauses_s])
    assert lengths == [min(30 * number, 300) for number in range(1, len(lengths) + 1)]


@given(configs, st.lists(st.floats(0, 30), min_size=2))
def test_the_ramp_only_rises_while_a_server_is_in(config, times_s):
    book = told(HealthBook(4, config), (0, FAIL, 2, config.fall), (100, PASS, 2, config.rise))
    weights = [book.ramp(100 + now_s)[2] for now_s in sorted(times_s)]
    assert weights == sorted(weights)
    assert config.slow_start_floor <= weights[0]
    assert weights[-1] <= 1


@given(st.integers(1, 6), configs, st.lists(steps, max_size=60))
def test_asking_changes_nothing(servers, config, events):
    silent = list(played(servers, config, events))
    asked = HealthBook(servers, config)
    now_s = 0.0
    for pause_s, server, what, times in events:
        for part in (0.3, 0.6):
            asked.mask(now_s + part * pause_s)
        now_s += pause_s
        told(asked, (now_s, what, server % servers, times))
    if silent:
        assert asked.status(now_s) == silent[-1][0].status(now_s)
        assert list(asked.events) == list(silent[-1][0].events)


def test_checks_come_faster_while_they_disagree_with_the_state():
    """A dead server is found out one ordinary interval and two fast ones after its death, and is back as soon after its return."""
    book = HealthBook(2)
    assert book.next_check_s(0) == 2.0
    for number in (1, 2):
        book.probed(0, ok=False, now_s=float(number))
        assert book.next_check_s(0) == 0.2
    book.probed(0, ok=False, now_s=3.0)
    assert book.status(3.0)[0] == "down"
    assert book.next_check_s(0) == 2.0, "down, and checks agree"
    book.probed(0, ok=True, now_s=5.0)
    assert book.next_check_s(0) == 0.2
    book.probed(0, ok=True, now_s=5.2)
    assert book.next_check_s(0) == 2.0
    assert book.next_check_s(1) == 2.0, "the other server's checks are its own"


def test_checks_of_an_ejected_server_keep_their_pace():
    book = HealthBook(2)
    for _ in range(5):
        book.answered(0, ok=False, now_s=1.0)
    book.probed(0, ok=True, now_s=2.0)
    assert book.status(2.0)[0] == "ejected"
    assert book.next_check_s(0) == 2.0

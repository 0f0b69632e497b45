"""Servers that report no service times: what is booked instead, and that one failure does not starve them for ever."""

import numpy as np
import pytest

from builders import scenario, server
from trimtab.core.ledger import FAILURE_SAMPLE_S
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.gateway.guard import PlainDecider
from trimtab.gateway.router import FORGIVEN_S, Router
from trimtab.policies import catalogue

FIRST, BOTH = np.array([True, False]), np.array([True, True])
SERVICE_S, GAP_S = 0.01, 0.1


def router(slots=1):
    return Router(scenario(server(slots), server(slots)), PlainDecider(catalogue.build("sed-online"), 0), 16)


def service_s(one):
    return one.view(0, 0.0, BOTH).ledger.service_s[0, 0, 0]


def fail_first(one, reported_s):
    """The first server has served some requests, then fails once; the other one only serves."""
    for only in (FIRST, ~FIRST):
        for _ in range(30):
            one.finish(one.route(0, 1.0, only), SERVED, 1.0 + SERVICE_S, reported_s)
    one.finish(one.route(0, 1.0, FIRST), FAILED, 1.0 + SERVICE_S)


def play(one, seconds, reported_s):
    """Requests one after the other, all served alike; which of them the first server got."""
    chosen = []
    for number in range(int(seconds / GAP_S)):
        now_s = 2.0 + number * GAP_S
        ticket = one.route(0, now_s, BOTH)
        one.finish(ticket, SERVED, now_s + SERVICE_S, reported_s)
        chosen.append(ticket.server == 0)
    return chosen


def test_a_server_without_times_gets_traffic_again_after_a_failure():
    one = router()
    fail_first(one, 0.0)
    chosen = play(one, 20.0, 0.0)
    first = chosen.index(True)
    assert first <= FORGIVEN_S / GAP_S, "about a hundred requests at this rate"
    assert sum(chosen[first:]) > 20, "and not one only"


def test_a_server_that_failed_at_first_sight_does_too():
    one = router()
    one.finish(one.route(0, 1.0, FIRST), FAILED, 1.01)
    assert any(play(one, 20.0, 0.0))


def test_a_server_that_failed_at_first_sight_is_taken_to_be_like_the_others():
    one = router()
    one.finish(one.route(0, 1.0, FIRST), FAILED, 1.01)
    assert not any(play(one, 20.0, SERVICE_S))


def test_a_server_that_goes_on_failing_is_tried_once_in_a_while():
    one = router()
    fail_first(one, 0.0)
    tried = 0
    for number in range(1000):
        now_s = 2.0 + number * GAP_S
        ticket = one.route(0, now_s, BOTH)
        one.finish(ticket, FAILED if ticket.server == 0 else SERVED, now_s + SERVICE_S)
        tried += ticket.server == 0
    assert 0 < tried <= 1000 * GAP_S / FORGIVEN_S


def test_a_server_that_reports_its_times_keeps_the_rule_of_training():
    one = router()
    fail_first(one, SERVICE_S)
    assert service_s(one) == pytest.approx(SERVICE_S + 0.05 * (FAILURE_SAMPLE_S - SERVICE_S))
    assert not any(play(one, 20.0, SERVICE_S))


@pytest.mark.parametrize(("slots", "ahead", "expected_s"), [(1, 0, 0.06), (4, 3, 0.06), (1, 1, 0.03), (2, 3, 0.03), (1, 5, 0.01)])
def test_the_estimate_takes_the_wait_for_a_slot_out_of_the_latency(slots, ahead, expected_s):
    one = router(slots)
    for _ in range(ahead):
        one.route(0, 1.0, FIRST)
    one.finish(one.route(0, 1.0, FIRST), SERVED, 1.06)
    assert service_s(one) == pytest.approx(expected_s)


def test_the_clients_time_is_no_part_of_it():
    one = router()
    one.finish(one.route(0, 1.0, FIRST), SERVED, 9.0, clients_s=7.9)
    ledger = one.view(0, 9.0, BOTH).ledger
    assert (ledger.service_s[0, 0, 0], ledger.latency_peak_s[0, 0]) == (pytest.approx(0.1), pytest.approx(0.1))


def test_nothing_is_estimated_of_a_server_that_has_given_its_times():
    one = router()
    one.finish(one.route(0, 1.0, FIRST), SERVED, 1.5, 0.2)
    one.finish(one.route(0, 2.0, FIRST), SERVED, 3.0)
    one.finish(one.route(0, 3.0, FIRST), UNMEASURED, 4.0)
    assert (service_s(one), one.view(0, 4.0, BOTH).ledger.samples[0, 0, 0]) == (0.2, 1)

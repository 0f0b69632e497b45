"""What may be sent again, how often all together may be, and limits that make sense."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import UsageError
from trimtab.gateway.limits import Limits, Timeouts
from trimtab.gateway.retries import RetryBudget, may_retry

METHODS = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "CONNECT", "BREW", "get"]


@pytest.mark.parametrize(
    ("method", "attempt", "sent", "started", "gone", "expected"),
    [
        ("GET", 1, False, False, False, True),
        ("GET", 1, True, False, False, True),
        ("GET", 2, True, False, False, True),
        ("GET", 3, True, False, False, False),  # three attempts in all
        ("GET", 1, True, True, False, False),  # the client has half an answer
        ("HEAD", 1, True, False, False, True),
        ("OPTIONS", 1, True, False, False, True),
        ("TRACE", 1, True, False, False, True),
        ("PUT", 1, True, False, False, True),
        ("PUT", 1, True, False, True, False),  # its body is gone
        ("DELETE", 2, True, False, False, True),
        ("POST", 1, False, False, False, True),  # the server cannot have seen it
        ("POST", 1, True, False, False, False),
        ("POST", 1, False, False, True, False),
        ("POST", 3, False, False, False, False),
        ("PATCH", 1, True, False, False, False),
        ("BREW", 1, True, False, False, False),  # unknown methods promise nothing
        ("get", 1, True, False, False, False),  # methods are case-sensitive
    ],
)
def test_what_may_be_sent_again(method, attempt, sent, started, gone, expected):
    assert may_retry(method, attempt, request_bytes_sent=sent, response_started=started, body_gone=gone) is expected


@given(st.sampled_from(METHODS), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(1, 5))
def test_nothing_is_retried_after_the_answer_began_or_too_often(method, attempt, sent, gone, attempts):
    assert not may_retry(method, attempt, request_bytes_sent=sent, response_started=True, body_gone=gone, attempts=attempts)
    if attempt >= attempts:
        assert not may_retry(method, attempt, request_bytes_sent=sent, response_started=False, body_gone=gone, attempts=attempts)


# The budget


def test_five_answered_requests_pay_for_one_retry_once_the_reserve_is_spent():
    budget = RetryBudget()
    assert [budget.withdraw() for _ in range(11)] == [True] * 10 + [False]
    granted = []
    for _ in range(20):
        budget.deposit()
        granted.append(budget.withdraw())
    assert [number for number, one in enumerate(granted, 1) if one] == [5, 10, 15, 20]


def test_ten_tenths_are_one_retry():
    """Their sum in binary is a little less."""
    budget = RetryBudget(ratio=0.1, reserve=1, most=1)
    assert budget.withdraw()
    granted = []
    for _ in range(10):
        budget.deposit()
        granted.append(budget.withdraw())
    assert granted == [False] * 9 + [True]


def test_a_quiet_hour_saves_up_no_more_than_the_most():
    budget = RetryBudget(ratio=0.2, reserve=1, most=3)
    for _ in range(1000):
        budget.deposit()
    assert budget.balance == 3
    assert [budget.withdraw() for _ in range(4)] == [True, True, True, False]


def test_a_refusal_takes_nothing():
    budget = RetryBudget(ratio=0.5, reserve=1)
    assert budget.withdraw()
    budget.deposit()
    assert not budget.withdraw()
    budget.deposit()
    assert budget.withdraw()


def test_without_ratio_and_reserve_there_are_no_retries():
    budget = RetryBudget(ratio=0, reserve=0)
    budget.deposit()
    assert not budget.withdraw()


@given(st.floats(0, 2), st.floats(0, 20), st.lists(st.integers(0, 4), min_size=1, max_size=300))
def test_amplification_is_bounded_in_any_order_of_attempts_and_retries(ratio, reserve, wishes):
    """Each number is how many retries are wished for after one first attempt, of whichever request."""
    budget, retries = RetryBudget(ratio, reserve, most=25), 0
    for number, wished in enumerate(wishes, 1):
        budget.deposit()
        retries += sum(budget.withdraw() for _ in range(wished))
        assert (number + retries) / number <= 1 + ratio + reserve / number + 1e-6


@pytest.mark.parametrize("first_attempts", [1, 10, 1000, 20_000])
def test_in_a_full_outage_a_hundred_retries_are_sent_at_most(first_attempts):
    budget, sent = RetryBudget(), 0
    for _ in range(10_000):
        budget.deposit()  # the hours before
    for _ in range(first_attempts):
        attempt = sent_of_this = 1
        while may_retry("GET", attempt, request_bytes_sent=False, response_started=False) and budget.withdraw():
            attempt += 1
            sent_of_this += 1
        sent += sent_of_this
    assert sent == min(3 * first_attempts, first_attempts + 100)


def test_a_reserve_beyond_what_may_be_saved_up_is_refused():
    with pytest.raises(UsageError, match="give its reserve, 10, or more"):
        RetryBudget(reserve=10, most=5)


@pytest.mark.parametrize("setting", [{"ratio": -0.1}, {"reserve": -1.0}, {"ratio": math.nan}, {"reserve": math.inf}])
def test_a_budget_that_makes_no_sense_is_refused(setting):
    with pytest.raises(UsageError, match="from 0 up"):
        RetryBudget(**setting)


@pytest.mark.parametrize(
    ("record", "setting", "found"),
    [
        (Limits, {"in_flight": 0}, "in_flight = 0"),
        (Limits, {"body_bytes": -1}, "body_bytes = -1"),
        (Timeouts, {"connect_s": 0.0}, "connect_s = 0.0"),
        (Timeouts, {"drain_s": math.inf}, "drain_s = inf"),  # would wait for ever
    ],
)
def test_limits_that_make_no_sense_are_refused(record, setting, found):
    with pytest.raises(UsageError, match=found):
        record(**setting)

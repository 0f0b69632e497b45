"""Thompson sampling: what it recovers from the ledger, what it draws, and where it is `sed-online`."""

import numpy as np
import pytest
from scipy import stats

from builders import written_log
from policies.one_fleet import REJECTED_BELOW, choices, state
from trimtab.core.ledger import empty_ledger, record_dispatch, record_outcomes
from trimtab.core.request_log import SERVED, Outcomes
from trimtab.policies import catalogue
from trimtab.policies.thompson import KEPT, PRIOR_SAMPLES, SPREAD


def looked(at_once):
    """The policy's sums and the service times, after a look each `at_once` completions."""
    times = np.random.default_rng(3).lognormal(-3, 0.5, 60)
    log = written_log([(n, 0, 0, SERVED, 0.2, one, 1.0 + n) for n, one in enumerate(times)])
    view = state([0])
    ledger = empty_ledger(1, 1, 1, times.size)
    object.__setattr__(view, "ledger", ledger)
    policy = catalogue.build("thompson")
    policy.reset(np.array([0]))
    policy.select(view)
    for n in range(times.size):
        record_dispatch(ledger, log, n, np.zeros(1, dtype=np.int64), np.array([float(n)]))
        record_outcomes(ledger, log, Outcomes(np.array([n]), np.array([n + 1])))
        if (n + 1) % at_once == 0:
            policy.select(view)
    return policy._seen, times


def test_service_times_are_recovered_from_the_ledgers_average_and_forgotten():
    seen, times = looked(1)
    weights = KEPT ** np.arange(times.size - 1, -1, -1)
    assert seen.weight.item() == pytest.approx(weights.sum())
    assert seen.total_s.item() == pytest.approx((weights * times).sum())


def test_several_completions_between_two_looks_count_as_that_many():
    """Their mean is the ledger's, in which the later ones weigh more once its gain is constant; before, it is the plain one."""
    seen, times = looked(20)
    first = times[:20].mean()
    later = [np.average(times[start : start + 20], weights=0.95 ** np.arange(19, -1, -1)) for start in (20, 40)]
    expected = (first * KEPT**40 + later[0] * KEPT**20 + later[1]) * (1 - KEPT**20) / (1 - KEPT)
    assert seen.total_s.item() == pytest.approx(expected)


def test_it_draws_in_proportion_to_the_doubt():
    """Server 1 is a tenth slower after one sample, server 0 is known: how often it is tried follows from the posterior."""
    chosen = choices("thompson", state([0, 0], service=[1.0, 1.1], samples=[[100], [1]]), 4000)
    known = (1 - KEPT**100) / (1 - KEPT)  # what a hundred samples weigh
    doubt = SPREAD * np.sqrt(1 / (known + PRIOR_SAMPLES) + 1 / (1 + PRIOR_SAMPLES))
    expected = stats.norm.cdf(-np.log(1.1) / doubt)
    assert 0.2 < expected < 0.5
    assert stats.binomtest(chosen.count(1), 4000, expected).pvalue > REJECTED_BELOW


def test_without_doubt_it_is_sed_online(monkeypatch):
    monkeypatch.setattr("trimtab.policies.thompson.SPREAD", 0.0)
    rng = np.random.default_rng(8)
    for _ in range(30):
        counts = rng.integers(0, 6, (4, 2))
        view = state(
            counts,
            classes=2,
            service=rng.lognormal(0, 1, (4, 2)),
            slots=rng.integers(1, 4, 4),
            request_class=rng.integers(2),
        )
        assert choices("thompson", view) == choices("sed-online", view)


def test_the_wait_is_not_drawn():
    """Two servers as good as each other in the own service: a long queue's doubt must not outweigh a short queue."""
    view = state([[0, 9], [0, 3]], classes=2, service=[[0.01, 1.0], [0.01, 1.0]], samples=[[1000, 1], [1000, 1]])
    assert set(choices("thompson", view, 500)) == {1}

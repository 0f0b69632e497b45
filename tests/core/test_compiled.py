"""The settings that every kernel shares, and that a compiled kernel is its Python."""

import numpy as np
import pytest
from numba.core.errors import TypingError

from builders import columns, random_view, written_log
from trimtab.core import ledger as ledgers
from trimtab.core import moods as moodings
from trimtab.core import observation as observations
from trimtab.core.compiled import compiled
from trimtab.core.request_log import FAILED, SERVED
from trimtab.policies import load, pick


@compiled
def quotient(numerator: float, denominator: float) -> float:
    return numerator / denominator


def test_division_is_that_of_ieee_754():
    assert quotient(1.0, 0.0) == np.inf
    assert np.isnan(quotient(0.0, 0.0))
    with pytest.raises(ZeroDivisionError):
        quotient.py_func(1.0, 0.0)


def test_kernels_are_cached_on_disk():
    assert quotient._cache.cache_path is not None


def test_a_kernel_that_would_allocate_does_not_compile():
    """Reference counting is off; memory that a kernel took would never be given back."""

    @compiled
    def allocates(count: int) -> np.ndarray:
        return np.zeros(count)

    with pytest.raises(TypingError, match="No implementation of function"):
        allocates(3)


def ledger_story():
    rows = [
        (2, 0, 1, SERVED, 0.3, 0.2, 1.0),
        (0, 1, 0, FAILED, 0.1, 0.0, 1.1),
        (1, 0, 1, SERVED, 0.9, 0.5, 1.5),
        (3, 1, 0, SERVED, 0.2, 0.1, 1.7),
    ]
    log = written_log(rows)
    return log, ledgers.empty_ledger(1, 2, 2, 4)


def play(kernel):
    """A ledger after dispatches and outcomes, by the kernels or, where `kernel` unwraps them, by their Python."""
    log, ledger = ledger_story()
    for request, where in ((0, 1), (1, 0), (2, 0), (3, 1)):
        server, now_s = np.array([where]), np.array([0.1 * request])
        kernel(ledgers._dispatch)(ledger, log.request_class, request, server, now_s)
        kernel(moodings.note_dispatch)(ledger.moods, log.request_class, request, server, now_s, ledger.outstanding)
    start, stop = np.array([0]), np.array([4])
    kernel(moodings.note_outcomes)(ledger.moods, log, ledger.newer, start, stop)
    kernel(ledgers._complete)(ledger, log, start, stop)
    return ledger


def compiled_kernel(kernel):
    return kernel


def plain_function(kernel):
    return kernel.py_func


def test_the_ledgers_kernels():
    fast, plain = columns(play(compiled_kernel)), columns(play(plain_function))
    for name, column in fast.items():
        assert plain[name] == pytest.approx(column), name
    assert (fast["moods.calm_s"] > 0.0).any(), "the story must teach the moods something"


def test_the_service_estimate_and_the_observation():
    view = random_view(np.random.default_rng(3), 5, 3, 2)
    estimate = ledgers.service_estimate_s(view.ledger)
    plain = np.empty_like(estimate)
    ledgers._estimate.py_func(view.ledger.service_s, view.ledger.samples, plain)
    assert plain == pytest.approx(estimate)
    moods = mood_rows(view, estimate, plain_function)
    assert moods == pytest.approx(mood_rows(view, estimate, compiled_kernel))
    rows = np.empty((5, 3, len(observations.FEATURES)), dtype=np.float32)
    scratch = np.empty((2, 3))
    arguments = (view.ledger, estimate, moods, view.now_s, view.request_class, view.available, view.slots)
    observations._fill.py_func(*arguments, scratch[0], scratch[1], rows)
    assert rows == pytest.approx(observations.observation(view), rel=1e-6)


def mood_rows(view, estimate, kernel):
    rows, ledger = np.empty((5, 3, len(moodings.COLUMNS))), view.ledger
    kernel(moodings._read)(ledger.moods, ledger.in_flight, ledger.oldest, ledger.newer, estimate, view.request_class, view.now_s, rows)
    return rows


@pytest.mark.parametrize("rule", [pick.least, pick.any_of_all, pick.less_of_two], ids=["least", "any_of_all", "less_of_two"])
def test_pick_rules(rule):
    view = random_view(np.random.default_rng(4), 30, 4, 1)
    ledger = view.ledger
    loads = np.empty((30, 4))
    load._peak_ewma.py_func(ledger.latency_peak_s, ledger.latency_stamp_s, ledger.outstanding, view.now_s, loads)
    assert loads == pytest.approx(load.peak_ewma(view))
    picked = []
    for kernel in (rule, rule.py_func):
        chosen, draws = np.empty(30, dtype=np.int64), np.zeros(30, dtype=np.uint64)
        kernel(np.round(loads), view.available, np.arange(30, dtype=np.uint64), draws, chosen)
        picked.append((chosen.tolist(), draws.tolist()))
    assert picked[0] == picked[1]

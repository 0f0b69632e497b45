"""Views of one fleet written down by hand, and what a policy chooses in them."""

import numpy as np
from scipy import stats

from builders import random_view
from trimtab.policies import catalogue

REJECTED_BELOW = 0.001  # of a fair generator one seed in a thousand falls below; the seeds are fixed


def state(in_flight, *, service=None, samples=None, slots=None, classes=1, request_class=0, now_s=0.0, available=None, rates=None):
    """A view of one fleet: `in_flight` [S] or [S][K], the rest a fresh ledger unless given."""
    counts = np.array(in_flight).reshape(len(in_flight), classes)
    view = random_view(np.random.default_rng(0), 1, len(counts), classes)
    ledger = view.ledger
    ledger.in_flight[0], ledger.outstanding[0] = counts, counts.sum(axis=1)
    ledger.service_s[0] = 0.0 if service is None else np.array(service).reshape(counts.shape)
    ledger.samples[0] = (ledger.service_s[0] > 0) if samples is None else samples
    ledger.latency_peak_s[:], ledger.latency_stamp_s[:] = 0.0, 0.0
    view.now_s[0], view.request_class[0] = now_s, request_class
    view.slots[0] = 1 if slots is None else slots
    view.available[0] = True if available is None else available
    view.service_rate_rps[0] = 1.0 if rates is None else rates
    return view


def choices(name, view, count=1, seed=0):
    policy = catalogue.build(name)
    policy.reset(np.array([seed]))
    return [int(policy.select(view)[0]) for _ in range(count)]


def assert_uniform(chosen, categories):
    counts = np.bincount(chosen, minlength=categories)
    assert stats.chisquare(counts).pvalue > REJECTED_BELOW, counts

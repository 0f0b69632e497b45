"""Counting: precision, quantiles that may be told, merging, the way over the wire."""

import json

import numpy as np
import pytest
from tally import SERVED, Histogram, Tally, merged, pooled


def filled(times_s):
    made = Histogram()
    for one in times_s:
        made.record(one)
    return made


def test_quantiles_are_within_half_a_percent():
    times_s = np.random.default_rng(1).lognormal(-3.0, 2.0, 20_000)
    made = filled(times_s)
    for quantile in (0.5, 0.9, 0.99, 0.999):
        assert made.quantile_s(quantile) == pytest.approx(np.quantile(times_s, quantile, method="inverted_cdf"), rel=0.0051)
    assert made.max_s == times_s.max()
    assert len(made.counts) < 6000


def test_quantile_by_hand():
    made = filled([0.001 * n for n in range(1, 101)])
    assert made.quantile_s(0.5) == 0.050
    assert made.quantile_s(0.9) == 0.090


@pytest.mark.parametrize(("size", "quantile", "told"), [(19, 0.5, False), (20, 0.5, True), (999, 0.99, False), (1000, 0.99, True)])
def test_a_quantile_needs_ten_beyond_it(size, quantile, told):
    assert (filled([0.01] * size).quantile_s(quantile) is not None) == told


def test_times_below_a_microsecond_and_above_an_hour():
    made = filled([-0.1, 0.0, 4e-7] + [7200.0] * 40)
    assert made.quantile_s(0.5) == 7200.0
    assert made.size == 43
    assert min(made.counts) == 0


def test_merging_is_counting_together():
    times_s = np.random.default_rng(2).exponential(0.02, 3000)
    assert pooled([filled(times_s[:100]), filled(times_s[100:])]).counts == filled(times_s).counts


def worker(seed, outcome=SERVED):
    made, chance = Tally(), np.random.default_rng(seed)
    for due_s in np.cumsum(chance.exponential(0.01, 500)):
        made.count_sent(due_s + 0.001, due_s)
        made.count_answer(int(chance.integers(0, 3)), outcome, 0.01, 0.011)
    made.span_s = 5.0
    return made


def test_a_tally_survives_the_wire():
    before = worker(1, "http_503")
    after = Tally.from_message(json.loads(json.dumps(before.to_message())))
    assert after.to_message() == before.to_message()


def test_workers_add_up():
    one, two = worker(1), worker(2, "timeout")
    total = merged([one, two])
    assert total.sent == total.lag.size == 1000
    assert sum(histogram.size for histogram in total.corrected.values()) == 1000
    assert {outcome for _, outcome in total.uncorrected} == {SERVED, "timeout"}
    assert total.last_sent_s == max(one.last_sent_s, two.last_sent_s)
    assert total.span_s == 5.0
    assert one.sent == 500  # unchanged

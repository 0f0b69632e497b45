import hashlib
import random
import statistics

import pytest

from work import burn, calibrate, draw_work


@pytest.mark.parametrize(
    ("distribution", "spread", "variation"), [("lognormal", 0.5, 0.5), ("exponential", 1.0, 1.0), ("lognormal", 1.0, 1.0)]
)
def test_draws_have_mean_1_and_the_variation_asked_for(distribution, spread, variation):
    generator = random.Random(1)
    draws = [draw_work(distribution, spread, generator) for _ in range(40_000)]
    assert statistics.fmean(draws) == pytest.approx(1.0, rel=0.03)
    assert statistics.pstdev(draws) == pytest.approx(variation, rel=0.06)


def test_pareto_follows_its_closed_form():
    generator, spread = random.Random(2), 0.8
    shape = 1 + (1 + 1 / spread**2) ** 0.5
    minimum = (shape - 1) / shape
    draws = sorted(draw_work("pareto", spread, generator) for _ in range(40_000))
    assert draws[0] >= minimum
    assert statistics.fmean(draws) == pytest.approx(1.0, rel=0.03)
    for quantile in (0.5, 0.9, 0.99):
        assert draws[int(quantile * len(draws))] == pytest.approx(minimum * (1 - quantile) ** (-1 / shape), rel=0.05)


@pytest.mark.parametrize(("distribution", "spread"), [("fixed", 0.7), ("lognormal", 0.0), ("pareto", 0.0)])
def test_without_spread_all_work_is_the_mean(distribution, spread):
    assert draw_work(distribution, spread, random.Random(3)) == 1.0


def test_calibration_divides_blocks_by_cpu_time(monkeypatch):
    hashed = []
    monkeypatch.setattr(hashlib, "sha256", hashed.append)
    ticks = iter([10.0, 10.5, 11.0, 12.0])
    assert calibrate(cpu_s=2.0, clock=lambda: next(ticks)) == pytest.approx(len(hashed) / 2.0)
    assert len(hashed) == 2


def test_burning_checks_for_faults_before_every_block():
    checks = []
    burn(3, lambda: checks.append(1))
    assert len(checks) == 3

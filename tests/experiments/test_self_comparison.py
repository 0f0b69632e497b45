"""A/A: no episode twice, the allowed number of winners, and a broken test being found out."""

import numpy as np
import pytest

from trimtab.experiments import self_comparison
from trimtab.experiments.self_comparison import allowed_winners, self_comparisons, winners
from trimtab.experiments.statistics import Difference, Interval
from trimtab.policies import catalogue


class Noise:
    """A world whose episode number is the seed of its only metric; it has no servers."""

    batch = 1
    drain = count_into = None

    def __init__(self):
        self.played = []

    def evaluation_env(self, batch):
        return self


@pytest.fixture
def noise(monkeypatch):
    world = Noise()

    def played(env, policy, choose, seed, numbers):
        env.played += numbers
        return [{"cost": np.random.default_rng([seed, n]).lognormal(0, 0.4)} for n in numbers]

    monkeypatch.setattr(self_comparison, "play_out", played)
    return world


def compared(world, comparisons, cost=lambda row: row["cost"], seed=1):
    return list(self_comparisons(world, catalogue.build("random"), comparisons, 10, seed, cost))


def test_every_comparison_has_episodes_of_its_own(noise):
    assert len(compared(noise, 47)) == 47
    assert noise.played == list(range(47 * 20))


def test_an_honest_test_stays_within_the_bound(noise):
    assert winners(compared(noise, 200)) <= allowed_winners(200)


def test_a_biased_measurement_is_found_out(noise):
    seen = []

    def second_side_slower(row):
        seen.append(row)
        return row["cost"] * (1.5 if (len(seen) - 1) // 10 % 2 else 1.0)

    assert winners(compared(noise, 50, second_side_slower)) > allowed_winners(50)


def test_the_allowed_number_is_the_binomial_bound():
    assert (allowed_winners(200), allowed_winners(1)) == (18, 1)


def test_a_winner_is_either_side():
    sides = [Difference(Interval(v, v - 1, v + 1), 0.001) for v in (-5.0, 5.0)] + [Difference(Interval(0.5, -1, 2), 0.4)]
    assert winners(sides) == 2

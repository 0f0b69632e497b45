"""A/A: one policy against itself on independent episodes. Whoever then finds a winner has a test that finds them anywhere."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from scipy import stats

from trimtab.experiments.loop import play_out
from trimtab.experiments.statistics import Difference, corrected_verdicts, paired_test
from trimtab.problems.base import BatchEnv, Policy, World

AT_ONCE: Final = 400  # episodes in one batch: about 70 MB of requests at 2,000 an episode
LEVEL: Final = 0.95
BOUND: Final = 0.99

Cost = Callable[[Mapping[str, float]], float]


def self_comparisons(world: World, policy: Policy, comparisons: int, episodes: int, seed: int, cost: Cost) -> Iterator[Difference]:
    """`comparisons` tests of the policy against itself, `episodes` a side, no episode used twice, by the test that evaluations use.

    The sides share no arrivals: on common ones a policy without chance of its own would be equal to itself to the last digit.
    """
    env = world.evaluation_env(AT_ONCE)
    together = max(1, AT_ONCE // (2 * episodes))
    for first in range(0, comparisons, together):
        count = min(together, comparisons - first)
        costs = _costs(env, policy, range(2 * episodes * first, 2 * episodes * (first + count)), seed, cost)
        for start in range(0, len(costs), 2 * episodes):
            middle, end = start + episodes, start + 2 * episodes
            yield paired_test(costs[start:middle], costs[middle:end], LEVEL)


def winners(differences: list[Difference]) -> int:
    """How many of the comparisons, each taken by itself, name a better side."""
    return sum(corrected_verdicts([one], LEVEL) != ["no difference"] for one in differences)


def allowed_winners(comparisons: int) -> int:
    """What a true 5 % test stays within in 99 of 100 such runs: the binomial quantile (18 of 200)."""
    return int(stats.binom.ppf(BOUND, comparisons, 1 - LEVEL))


def _costs(env: BatchEnv, policy: Policy, numbers: range, seed: int, cost: Cost) -> list[float]:
    return [cost(row) for row in play_out(env, policy, policy.select, seed, numbers)]

"""What classical policies reach on the kind of episode that is being trained on, for whoever watches the training."""

import statistics
from collections.abc import Iterator
from typing import Final

from trimtab.core.tally import Tallies
from trimtab.experiments.loop import play_out
from trimtab.experiments.seeding import TRAINING_OFFSET
from trimtab.problems.base import Policy, Problem, World

TWIN_EPISODES: Final = 32
LIVE_EPISODES: Final = 2  # they take as long as the training's own


class Yardsticks:
    """Plays each policy anew whenever training moves to another world or phase. The agent never sees these episodes."""

    def __init__(self, problem: Problem, seed: int, tallies: Tallies) -> None:
        self._policies = [problem.build_policy(name) for name in problem.yardsticks]
        self._seed = seed
        self._tallies = tallies
        self._where: tuple[str, int] | None = None

    def measure(self, world: World, decisions: int) -> Iterator[tuple[str, float]]:
        """Policy and mean latency in milliseconds; nothing where this world and length were measured last."""
        where = (world.backend, decisions)
        if where != self._where:
            self._where = where
            yield from ((policy.name, self._play(world, policy, decisions)) for policy in self._policies)

    def _play(self, world: World, policy: Policy, decisions: int) -> float:
        env = world.training_env(decisions, TWIN_EPISODES)
        env.count_into(self._tallies, policy.name)
        at_once = min(env.batch, TWIN_EPISODES)
        rows: list[dict[str, float]] = []
        for turn in range(1 if at_once > 1 else LIVE_EPISODES):
            numbers = [TRAINING_OFFSET + turn * at_once + i for i in range(at_once)]
            rows += play_out(env, policy, policy.select, self._seed, numbers)
        return statistics.fmean(row["mean_latency_ms"] for row in rows)

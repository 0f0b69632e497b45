"""The one loop: a generator that plays a batch of episodes; learning, logging and plotting consume what it yields."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.experiments.seeding import policy_seeds
from trimtab.problems.base import I64, BatchEnv, Policy

Choose = Callable[[Any], I64]


@dataclass(frozen=True, slots=True)
class Moment:
    """One decision in each of B episodes, just made and not yet acted upon."""

    number: int  # among the episode's learnable decisions, from 0; negative during the warm-up
    view: Any
    actions: I64  # [B]


def play(env: BatchEnv, choose: Choose, seed: int, episodes: Sequence[int]) -> Iterator[Moment]:
    """Play the episodes to the last decision. Rewards wait in `env.credits()`; `env.drain()` brings in the last."""
    view = env.reset(seed, episodes)
    number = 0
    while view is not None:
        warming = env.warming
        actions = choose(view)
        yield Moment(-1 if warming else number, view, actions)
        number += not warming
        view = env.step(actions)


def play_out(env: BatchEnv, policy: Policy, choose: Choose, seed: int, episodes: Sequence[int]) -> list[dict[str, float]]:
    """The metrics of episodes under a policy that starts anew; `choose` is its `select`, or what stands before it."""
    policy.reset(policy_seeds(seed, episodes))
    for _ in play(env, choose, seed, episodes):
        pass
    env.drain()
    return env.metrics()

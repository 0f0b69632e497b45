"""The smallest task that a learner must solve, and how it is played; states compared by content."""

import numpy as np
import torch

from trimtab.dqn.config import DQNConfig

S, F, B = 3, 4, 20
QUICK = DQNConfig(
    hidden=16,
    n_step=1,
    discount=0.5,
    learning_rate=5e-3,
    batch=64,
    decisions_per_update=40,
    learn_start=400,
    replay_capacity=3000,
    tau=0.05,
    epsilon_decisions=4000,
    epsilon_end=0.05,
)


class Identity:
    """The best server is the one with the largest first feature. With `delay` 1 a choice is rewarded one decision later."""

    def __init__(self, seed, delay=0):
        self.rng, self.delay = np.random.default_rng(seed), delay

    def observe(self, before):
        """[B, S, F]: feature 0 is the value, feature 1 marks the server chosen at the last decision, feature 2 its value then."""
        obs = self.rng.random((B, S, F), dtype=np.float32)
        obs[:, :, 1:] = 0.0
        if before is not None:
            obs[np.arange(B), before[0], 1] = 1.0
            obs[:, :, 2] = before[1][:, None] if self.delay else 0.0
        return obs

    def reward(self, obs, actions, before):
        now = (obs[np.arange(B), actions, 0] == obs[:, :, 0].max(1)).astype(np.float32)
        credited = now if self.delay == 0 else (before[1] if before is not None else np.zeros(B, np.float32))
        return credited, (actions, now)


def play(agent, world, episodes, steps=20, learn=True):
    """Run episodes with rewards that come late, in an order of their own; returns the mean reward of greedy or exploring play."""
    mask, rewards_seen, losses = np.ones((B, S), np.bool_), [], []
    for _ in range(episodes):
        agent.begin(B)
        before, waiting = None, []
        for _ in range(steps):
            obs = world.observe(before)
            actions = agent.act(obs, mask, explore=learn)
            ids = agent.observe(obs, mask, actions)
            rewards, before = world.reward(obs, actions, before)
            rewards_seen.append(rewards.mean())
            waiting.append((ids, rewards))
            if len(waiting) > 2:
                agent.credit(*waiting.pop(world.rng.integers(2)), np.ones(B, np.bool_))
            if learn:
                losses += [stats.loss for stats in agent.learn()]
        agent.finish(world.observe(before), mask)
        for ids, rewards in waiting:
            agent.credit(ids, rewards, np.ones(B, np.bool_))
    return float(np.mean(rewards_seen)), losses


def same(a, b):
    """Equal by content, bit by bit, nested containers included."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

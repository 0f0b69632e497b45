"""The loop numbers decisions from the first that counts, and plays to the last."""

import numpy as np

from trimtab.experiments.loop import play


class CountingEnv:
    """Views are numbers; the first two decisions are warm-up."""

    def __init__(self, decisions, warmup=2):
        self.last = warmup + decisions
        self.warmup = warmup
        self.actions = []
        self.asked = None

    @property
    def warming(self):
        return len(self.actions) < self.warmup

    def reset(self, seed, episodes):
        self.asked = seed, list(episodes)
        return 0

    def step(self, actions):
        self.actions.append(actions)
        return len(self.actions) if len(self.actions) < self.last else None


def test_decisions_are_numbered_after_the_warm_up():
    env = CountingEnv(decisions=3)
    moments = list(play(env, lambda view: np.array([view]), 5, [8, 9]))
    assert [moment.number for moment in moments] == [-1, -1, 0, 1, 2]
    assert env.asked == (5, [8, 9])


def test_every_action_chosen_is_sent_once_and_in_order():
    env = CountingEnv(decisions=3)
    moments = list(play(env, lambda view: np.array([10 * view]), 0, [0]))
    assert [int(actions[0]) for actions in env.actions] == [0, 10, 20, 30, 40]
    assert [moment.view for moment in moments] == [0, 1, 2, 3, 4]


def test_a_moment_is_seen_before_its_action_is_sent():
    env = CountingEnv(decisions=2, warmup=0)
    for moment in play(env, lambda view: np.array([view]), 0, [0]):
        assert len(env.actions) == moment.view

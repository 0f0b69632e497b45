"""Streams of chance: reproducible, apart from each other, and training apart from evaluation."""

import numpy as np

from trimtab.experiments.curriculum import EPISODES
from trimtab.experiments.seeding import TRAINING_OFFSET, policy_seeds


def test_the_same_seed_and_episode_give_the_same_chance():
    assert (policy_seeds(7, [3, 5]) == policy_seeds(7, [3, 5])).all()


def test_an_episode_s_chance_does_not_depend_on_its_neighbours():
    assert policy_seeds(7, [3, 5])[1] == policy_seeds(7, [5])[0] == policy_seeds(7, [9, 1, 5])[2]


def test_seeds_differ_over_seeds_and_episodes():
    seeds = np.concatenate([policy_seeds(seed, range(200)) for seed in range(5)])
    assert len(set(seeds.tolist())) == 1000


def test_seeds_are_not_those_of_the_traffic():
    traffic = np.random.SeedSequence([7, 3]).generate_state(1, np.uint64)[0] >> np.uint64(1)
    assert policy_seeds(7, [3])[0] != traffic


def test_seeds_are_nonnegative_whole_numbers():
    seeds = policy_seeds(0, range(500))
    assert seeds.dtype == np.int64
    assert (seeds >= 0).all()


def test_training_has_room_below_for_every_evaluation():
    assert TRAINING_OFFSET > 100 * EPISODES

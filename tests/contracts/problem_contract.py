"""What every problem of the catalogue must keep to, so that one agent and one experiment code serve them all."""

from typing import NamedTuple

import numpy as np
import pytest

from trimtab.errors import UsageError
from trimtab.policies.catalogue import LEARNED

DECISIONS, BATCH = 12, 3


class Played(NamedTuple):
    """One batch of training episodes under random actions."""

    env: object
    observations: list
    masks: list
    actions: list
    credits: list
    metrics: list


def play(problem, world, episodes, seed=0):
    """Training episodes to their drained end."""
    env = world.training_env(DECISIONS, len(episodes))
    rng = np.random.default_rng(1)
    played = Played(env, [], [], [], [], [])
    view = env.reset(seed, episodes)
    while view is not None:
        mask = np.asarray(view.available).copy()
        actions = np.where(mask, rng.random(mask.shape), -1.0).argmax(axis=1)
        if not env.warming:
            played.observations.append(problem.observe(view))
            played.masks.append(mask)
            played.actions.append(actions)
            played.credits.append(env.credits())
        view = env.step(actions)
    played.observations.append(problem.observe(env.closing()))
    env.drain()
    played.credits.append(env.credits())
    played.metrics.extend(env.metrics())
    return played


class ProblemContract:
    """Inherit and give fixtures `problem` and `task` (a task in the twin)."""

    @pytest.fixture
    def world(self, problem, task):
        world = problem.open(task)
        yield world
        world.close()

    @pytest.fixture
    def played(self, problem, world):
        return play(problem, world, range(BATCH))

    def test_names_and_columns_are_distinct(self, problem):
        assert problem.id
        for names in (problem.features, problem.training_metrics, problem.evaluation_metrics):
            assert names, "a problem has features and metrics"
            assert len(set(names)) == len(names), "a name stands for one thing"

    def test_fixed_columns_are_left_to_the_experiments(self, problem):
        fixed = {
            "scenario",
            "backend",
            "policy",
            "episode",
            "seed",
            "phase",
            "total_reward",
            "decision_us",
            "epsilon",
            "loss",
            "q_mean",
            "wall_s",
        }
        assert not fixed & {*problem.training_metrics, *problem.evaluation_metrics}

    def test_scenarios_are_listed_with_a_line_each(self, problem):
        listed = problem.scenario_ids()
        assert problem.default_scenario in dict(listed)
        assert all(name and text and "\n" not in text for name, text in listed)

    def test_policies_are_listed_with_a_line_each_and_can_be_built(self, problem):
        listed = dict(problem.policy_list())
        assert set(problem.default_policies) <= set(listed)
        assert all(text and "\n" not in text for text in listed.values())
        for name in set(listed) - {LEARNED}:
            assert problem.build_policy(name).name == name

    def test_rivals_are_told_with_a_line_each_and_refused_in_the_twin(self, problem, task):
        for one in problem.rivals(task):
            assert one.name not in dict(problem.policy_list())
            assert one.summary
            assert one.refused
            assert "\n" not in one.summary + one.refused
            assert problem.build_policy(one.name).name == one.name

    def test_an_unknown_policy_is_a_usage_error(self, problem):
        with pytest.raises(UsageError, match="nobody"):
            problem.build_policy("nobody")

    def test_there_are_at_least_two_choices(self, problem, task):
        assert problem.choices(task) >= 2

    def test_a_world_says_what_it_is(self, world):
        assert world.backend == "twin"
        assert world.scenario_id
        assert world.note
        assert "\n" not in world.note
        assert world.episode_s() == 0.0, "the twin does not wait"
        assert world.describe()["scenario"] == world.scenario_id

    def test_observations_are_finite_and_have_the_declared_shape(self, problem, task, played):
        for observation in played.observations:
            assert observation.dtype == np.float32
            assert observation.shape == (BATCH, problem.choices(task), len(problem.features))
            assert np.isfinite(observation).all()

    def test_something_is_always_available(self, problem, task, played):
        for mask in played.masks:
            assert mask.dtype == np.bool_
            assert mask.shape == (BATCH, problem.choices(task))
            assert mask.any(axis=1).all()

    def test_an_episode_has_the_decisions_asked_for(self, played):
        assert len(played.actions) == DECISIONS

    def test_every_decision_is_credited_exactly_once(self, played):
        named = [one for part in played.credits for one in zip(part.episode.tolist(), part.decision.tolist(), strict=True)]
        assert sorted(named) == [(b, n) for b in range(BATCH) for n in range(DECISIONS)]

    def test_credits_name_only_decisions_made_and_are_finite(self, played):
        for made, part in enumerate(played.credits[:-1]):
            assert (part.decision < made + 1).all(), "no decision is rewarded before it is made"
        for part in played.credits:
            assert np.isfinite(part.reward[part.valid]).all()

    def test_the_total_reward_is_the_sum_of_the_credits(self, played):
        total = np.zeros(BATCH)
        for part in played.credits:
            np.add.at(total, part.episode[part.valid], part.reward[part.valid])
        np.testing.assert_allclose(total, [row["total_reward"] for row in played.metrics])

    def test_metrics_hold_every_declared_column(self, problem, played):
        assert len(played.metrics) == BATCH
        for row in played.metrics:
            wanted = {*problem.training_metrics, *problem.evaluation_metrics, "total_reward", "average_reward"}
            assert wanted <= set(row)
            assert all(isinstance(row[name], int | float) for name in wanted)

    def test_the_same_seed_and_episodes_give_the_same(self, problem, world, played):
        again = play(problem, world, range(BATCH))
        assert all((a == b).all() for a, b in zip(played.observations, again.observations, strict=True))
        assert [row["total_reward"] for row in played.metrics] == [row["total_reward"] for row in again.metrics]

    def test_an_episode_does_not_depend_on_its_neighbours(self, problem, world):
        together, alone = world.training_env(DECISIONS, BATCH), world.training_env(DECISIONS, 1)
        first = problem.observe(together.reset(0, [4, 5, 6]))[1].copy()
        assert (problem.observe(alone.reset(0, [5]))[0] == first).all()

    def test_other_seeds_and_other_episodes_give_others(self, problem, world, played):
        for other in (play(problem, world, range(BATCH), seed=1), play(problem, world, range(100, 100 + BATCH))):
            assert [row["total_reward"] for row in played.metrics] != [row["total_reward"] for row in other.metrics]

    def test_a_policy_of_the_problem_plays_an_evaluation_to_its_end(self, problem, world):
        env, policy = world.evaluation_env(2), problem.build_policy(problem.policy_list()[-1][0])
        policy.reset(np.array([1, 2], dtype=np.int64))
        view = env.reset(0, [0, 1])
        while view is not None:
            actions = policy.select(view)
            assert np.take_along_axis(np.asarray(view.available), actions[:, None], axis=1).all(), "a policy chooses what is available"
            view = env.step(actions)
        env.drain()
        assert [set(row) >= {*problem.evaluation_metrics, "total_reward"} for row in env.metrics()] == [True, True]
        env.close()

    def test_calibration_of_a_twin_is_refused(self, world, tmp_path):
        with pytest.raises(UsageError, match="backend"):
            world.calibrate(tmp_path / "measured.toml")
        assert not list(tmp_path.iterdir())

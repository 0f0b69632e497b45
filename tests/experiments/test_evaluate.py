"""Evaluation: the same requests for everybody, and rows that say which."""

import numpy as np
import pytest

from builders import scenario, server
from tiny_runs import SpyWorld
from trimtab.experiments.csv_log import cell_text
from trimtab.experiments.evaluate import evaluate, evaluate_again, evaluation_columns
from trimtab.experiments.seeding import TRAINING_OFFSET, policy_seeds
from trimtab.policies import catalogue
from trimtab.problems.routing.problem import Routing
from trimtab.problems.routing.world import fixed_twin

COLUMNS = (
    "scenario, backend, policy, episode, seed, requests, mean_latency_ms, p50_latency_ms, p95_latency_ms, p99_latency_ms, p999_latency_ms, "
    "slo_attainment, error_rate, throughput_rps, gini_coefficient, utilization_std, optimal_decision_rate, total_reward, decision_us, "
    "schedule_lag_ms"
)
WORLD = scenario(server(slots=2), server(slots=1, speed=0.5), rate_rps=1.0, requests=40, warmup=5)
NAMES = ("round-robin", "p2c", "sed-online")


class OneByOne(SpyWorld):
    """As live servers: one fleet, one episode at a time."""

    def evaluation_env(self, batch):
        env = super().evaluation_env(1)
        env.batch = 1
        return env


def evaluated(world, episodes=4, seed=9, names=NAMES):
    return list(evaluate(world, [catalogue.build(name) for name in names], episodes, seed))


def test_columns_are_the_documented_ones():
    assert evaluation_columns(Routing()) == tuple(COLUMNS.split(", "))


def test_one_row_for_each_policy_and_episode_with_every_column():
    rows = [row for batch in evaluated(fixed_twin(WORLD)) for row in batch]
    assert sorted((row["policy"], row["episode"]) for row in rows) == sorted((name, n) for name in NAMES for n in range(4))
    for row in rows:
        assert set(evaluation_columns(Routing())) <= set(row)
        assert (row["scenario"], row["backend"], row["seed"]) == ("tiny", "twin", 9)
        assert row["requests"] == 40
        assert row["decision_us"] > 0.0


@pytest.mark.parametrize("kind", [SpyWorld, OneByOne], ids=["batch", "one by one"])
def test_every_policy_gets_the_same_arrivals_and_the_same_work(kind):
    world = kind(fixed_twin(WORLD))
    evaluated(world)
    (env,) = world.envs
    asked = {}
    for (seed, numbers), log in zip(env.resets, env.logs, strict=True):
        for b, number in enumerate(numbers):
            rows = [column[b].copy() for column in (log.scheduled_s, log.request_class, log.work_s)]
            asked.setdefault((seed, number), []).append(rows)
    assert set(asked) == {(9, number) for number in range(4)}
    for drawn in asked.values():
        assert len(drawn) == len(NAMES)
        for one in drawn[1:]:
            assert all((a == b).all() for a, b in zip(one, drawn[0], strict=True))
    different = [drawn[0][0] for drawn in asked.values()]
    assert all((a != b).any() for i, a in enumerate(different) for b in different[:i]), "episodes differ from each other"


def test_one_by_one_and_batch_measure_the_same():
    alone, together = ([row for batch in evaluated(world) for row in batch] for world in (OneByOne(fixed_twin(WORLD)), fixed_twin(WORLD)))
    totals = [{(row["policy"], row["episode"]): row["total_reward"] for row in rows} for rows in (alone, together)]
    assert totals[0] == totals[1]


def cells(row):
    return {column: cell_text(value) for column, value in row.items() if column != "decision_us"}


@pytest.mark.parametrize("kind", [SpyWorld, OneByOne], ids=["batch", "one by one"])
def test_an_episode_played_again_is_the_same_one(kind):
    once = {(row["policy"], row["episode"]): row for rows in evaluated(kind(fixed_twin(WORLD))) for row in rows}
    for name in NAMES:
        again = evaluate_again(kind(fixed_twin(WORLD)), catalogue.build(name), 2, seed=9)
        assert cells(again) == cells(once[name, 2])


def test_the_order_of_policies_rotates_from_round_to_round():
    order = [batch[0]["policy"] for batch in evaluated(OneByOne(fixed_twin(WORLD)))]
    a, b, c = NAMES
    assert order == [a, b, c, b, c, a, c, a, b, a, b, c]


def test_each_round_is_one_episode_of_every_policy():
    numbers = [batch[0]["episode"] for batch in evaluated(OneByOne(fixed_twin(WORLD)))]
    assert numbers == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_evaluation_stays_below_the_episodes_of_training():
    world = SpyWorld(fixed_twin(WORLD))
    evaluated(world)
    assert max(number for _, numbers in world.envs[0].resets for number in numbers) < TRAINING_OFFSET


def test_policies_are_reset_before_each_of_their_turns_with_the_episode_s_own_chance():
    policy, seeds = catalogue.build("p2c"), []
    reset = policy.reset

    class Spy:
        name = "p2c"
        select = staticmethod(policy.select)

        def reset(self, given):
            seeds.append(np.asarray(given).tolist())
            reset(given)

    list(evaluate(OneByOne(fixed_twin(WORLD)), [Spy()], 3, 9))
    assert seeds == [[one] for one in policy_seeds(9, range(3)).tolist()]


def test_the_same_seed_gives_the_same_rows_and_another_gives_others():
    def totals(seed):
        return [row["total_reward"] for batch in evaluated(fixed_twin(WORLD), seed=seed) for row in batch]

    assert totals(9) == totals(9) != totals(10)

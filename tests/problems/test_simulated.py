"""Every policy of the problems that exist in a simulator alone keeps what policies promise; kernels are their Python."""

import numpy as np
import pytest

from trimtab.errors import UsageError
from trimtab.experiments.loop import play_out
from trimtab.problems.base import Task
from trimtab.problems.catalogue import NAMES, build
from trimtab.problems.lbnn import servers
from trimtab.problems.park import env as park_env
from trimtab.problems.simulated import CyclePolicy, LotteryPolicy, ScoredPolicy, first_least

SIMULATED = [name for name in NAMES if build(name).backends == ("twin",)]
CASES = [
    (name, scenario, policy) for name in SIMULATED for scenario, _ in build(name).scenario_ids() for policy in build(name).default_policies
]


def rewards(problem, world, policy, episodes, seed=4):
    env = world.training_env(40, len(episodes))
    return [row["total_reward"] for row in play_out(env, policy, policy.select, seed, episodes)]


@pytest.mark.parametrize(("name", "scenario", "policy"), CASES, ids=["-".join(case) for case in CASES])
def test_a_policy_repeats_itself_forgets_on_reset_and_minds_no_neighbours(name, scenario, policy):
    problem = build(name)
    world, one = problem.open(Task(scenario, "twin")), problem.build_policy(policy)
    first = rewards(problem, world, one, [0, 1, 2])
    rewards(problem, world, one, [7])
    assert rewards(problem, world, one, [0, 1, 2]) == first
    assert rewards(problem, world, problem.build_policy(policy), [1]) == first[1:2]


class Everything:
    available = np.ones((4, 3), dtype=np.bool_)


def test_what_a_score_makes_of_ties_is_up_to_the_rule():
    load = np.array([[1.0, 0.0, 0.0]] * 4)
    chosen = np.empty(4, dtype=np.int64)
    first_least(load, np.array([[True, True, True], [True, False, True], [False, False, True], [True, False, False]]), None, None, chosen)
    assert chosen.tolist() == [1, 2, 2, 0]
    policy = ScoredPolicy("any", lambda view: load)
    policy.reset(np.arange(4))
    seen = {tuple(policy.select(Everything)) for _ in range(40)}
    assert len(seen) > 4
    assert all(set(one) <= {1, 2} for one in seen)


def test_a_lottery_without_tickets_for_a_choice_never_takes_it():
    policy = LotteryPolicy("lottery", (0, 2, 1))
    policy.reset(np.arange(4))
    drawn = np.concatenate([policy.select(Everything) for _ in range(300)])
    assert set(drawn) == {1, 2}
    assert (drawn == 1).mean() == pytest.approx(2 / 3, abs=5 * np.sqrt(2 / 9 / drawn.size))


def test_turns_start_anew_after_a_reset():
    policy = CyclePolicy()
    policy.reset(np.arange(4))
    assert [int(policy.select(Everything)[0]) for _ in range(4)] == [0, 1, 2, 0]
    policy.reset(np.arange(4))
    assert policy.select(Everything).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", SIMULATED)
def test_kernels_are_their_python(name, monkeypatch):
    problem = build(name)
    world, policy = problem.open(Task(problem.default_scenario, "twin")), problem.build_policy("random")
    compiled = rewards(problem, world, policy, [0, 1])
    for module, kernel in ((park_env, "send"), (park_env, "advance"), (servers, "_place")):
        monkeypatch.setattr(module, kernel, getattr(module, kernel).py_func)
    assert rewards(problem, world, policy, [0, 1]) == compiled


@pytest.mark.parametrize("name", SIMULATED)
def test_a_misspelt_policy_is_answered_with_a_suggestion(name):
    with pytest.raises(UsageError, match="did you mean 'round-robin'"):
        build(name).build_policy("round-robbin")

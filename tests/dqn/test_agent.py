"""The agent as a whole: it learns what must be learnable, repeats itself bit by bit, and continues as if nothing had happened."""

import dataclasses

import numpy as np
import pytest
import torch

from identity_task import QUICK, B, F, Identity, S, play, same
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.checkpoint import load_state, save_state
from trimtab.dqn.inference import epsilon_greedy_choice, greedy_choice
from trimtab.errors import CheckpointError


@pytest.mark.parametrize("network", ["set", "mlp"])
def test_identity_task_is_solved(network):
    agent = DQNAgent(dataclasses.replace(QUICK, network=network), F, S, seed=0)
    play(agent, Identity(seed=1), episodes=40)
    assert play(agent, Identity(seed=2), episodes=2, learn=False)[0] > 0.9, "chance is 0.33"


@pytest.mark.parametrize("n_step", [1, 3])
def test_reward_of_the_choice_before_is_assigned_to_it(n_step):
    agent = DQNAgent(dataclasses.replace(QUICK, n_step=n_step), F, S, seed=0)
    play(agent, Identity(seed=1, delay=1), episodes=60)
    # The first of 20 decisions can earn nothing, so 0.95 is the most.
    assert play(agent, Identity(seed=2, delay=1), episodes=2, learn=False)[0] > 0.8


def test_same_seed_same_run_and_other_seed_other_run():
    states = []
    for seed in (0, 0, 1):
        agent = DQNAgent(QUICK, F, S, seed=seed)
        play(agent, Identity(seed=1), episodes=4)
        states.append(agent.state_dict())
    assert states[0]["learner"]["updates"] > 0
    assert same(states[0], states[1])
    assert not same(states[0]["learner"]["online"], states[2]["learner"]["online"])


@pytest.mark.parametrize(
    "changes",
    [
        {"target": "soft"},
        {"target": "hard"},
        {"average": 0.01, "learning_rate_updates": 20},
        {"anchor": 0},
        {"anchor": 0, "average": 0.01, "network": "mlp"},
    ],
    ids=["soft", "hard", "average", "anchor", "both"],
)
def test_resumed_run_equals_the_uninterrupted_one_bit_by_bit(tmp_path, changes):
    config = dataclasses.replace(QUICK, target_period=7, replay_capacity=1500, **changes)
    through = DQNAgent(config, F, S, seed=0)
    play(through, Identity(seed=1), episodes=4)
    save_state(tmp_path / "resume.pth", through.state_dict())
    _, losses = play(through, Identity(seed=9), episodes=4)
    resumed = DQNAgent(config, F, S, seed=77)
    resumed.load_state_dict(load_state(tmp_path / "resume.pth"))
    _, again = play(resumed, Identity(seed=9), episodes=4)
    assert len(losses) > 0
    assert losses == again
    assert same(through.state_dict(), resumed.state_dict())


def test_state_taken_in_mid_episode_holds_streams_and_pending_decisions():
    first, second = DQNAgent(QUICK, F, S, seed=0), DQNAgent(QUICK, F, S, seed=5)
    mask, obs = np.ones((B, S), np.bool_), np.ones((B, S, F), np.float32)
    first.begin(B)
    ids = first.observe(obs, mask, np.zeros(B, np.int64))
    second.load_state_dict(first.state_dict())
    for agent in (first, second):
        agent.finish(obs, mask)
        agent.credit(ids, np.ones(B, np.float32), np.ones(B, np.bool_))
    assert same(first.state_dict(), second.state_dict())


def test_a_state_is_a_copy_that_later_learning_does_not_change():
    agent = DQNAgent(QUICK, F, S, seed=0)
    play(agent, Identity(seed=1), episodes=3)
    state = agent.state_dict()
    before = state["learner"]["online"]["encoder_in.weight"].clone()
    play(agent, Identity(seed=2), episodes=3)
    assert torch.equal(state["learner"]["online"]["encoder_in.weight"], before)


def test_resuming_with_other_settings_is_refused_by_name():
    agent = DQNAgent(QUICK, F, S, seed=0)
    other = DQNAgent(dataclasses.replace(QUICK, tau=0.5), F, S, seed=0)
    with pytest.raises(CheckpointError, match=r"tau = 0.05, this one 0.5"):
        other.load_state_dict(agent.state_dict())
    with pytest.raises(CheckpointError, match="servers = 3, this one 4"):
        DQNAgent(QUICK, F, 4, seed=0).load_state_dict(agent.state_dict())


def observe_decisions(agent, decisions, credited=True):
    mask = np.ones((1, S), np.bool_)
    agent.begin(1)
    for _ in range(decisions):
        ids = agent.observe(np.zeros((1, S, F), np.float32), mask, np.zeros(1, np.int64))
        if credited:
            agent.credit(ids, np.zeros(1, np.float32), np.ones(1, np.bool_))
    agent.finish(np.zeros((1, S, F), np.float32), mask)


def test_updates_are_due_by_decisions_and_wait_for_rewards():
    config = dataclasses.replace(QUICK, batch=8, learn_start=20, decisions_per_update=10)
    agent = DQNAgent(config, F, S, seed=0)
    observe_decisions(agent, 29)
    assert agent.updates_due() == 0
    observe_decisions(agent, 21)
    assert agent.updates_due() == 3
    assert len(agent.learn(max_updates=1)) == 1
    assert len(agent.learn()) == 2
    assert agent.updates == 3
    assert agent.learn() == []
    waiting = DQNAgent(config, F, S, seed=0)
    observe_decisions(waiting, 100, credited=False)
    assert waiting.updates_due() == 0


def test_epsilon_follows_decisions():
    agent = DQNAgent(dataclasses.replace(QUICK, epsilon_decisions=100, epsilon_end=0.5), F, S, seed=0)
    assert agent.epsilon == 1.0
    observe_decisions(agent, 50)
    assert agent.epsilon == 0.75
    observe_decisions(agent, 100)
    assert agent.epsilon == 0.5


def test_exploration_is_uniform_over_available_servers():
    mask = np.tile([True, False, True, True], (6000, 1))
    q = np.tile(np.float32([0.0, 9.0, 5.0, 0.0]), (6000, 1))
    chosen = epsilon_greedy_choice(q, mask, 1.0, np.random.default_rng(0).random((6000, 2)))
    counts = np.bincount(chosen, minlength=4)
    assert counts[1] == 0
    assert np.abs(counts[[0, 2, 3]] - 2000).max() < 150


def test_only_exploring_agents_use_chance():
    agent = DQNAgent(QUICK, F, S, seed=0)
    obs, mask = np.random.default_rng(0).random((50, S, F), dtype=np.float32), np.ones((50, S), np.bool_)
    greedy = agent.act(obs, mask, explore=False)
    assert (agent.act(obs, mask, explore=False) == greedy).all()
    assert (agent.act(obs, mask, explore=True) != greedy).any(), "epsilon is 1 at the start"


def test_unavailable_servers_are_never_chosen():
    agent = DQNAgent(QUICK, F, S, seed=0)
    rng = np.random.default_rng(0)
    obs, mask = rng.random((500, S, F), dtype=np.float32), rng.random((500, S)) < 0.5
    mask[:, 1] |= ~mask.any(axis=1)
    for explore in (False, True):
        assert mask[np.arange(500), agent.act(obs, mask, explore)].all()


def test_heuristic_leads_at_full_weight_and_fades_with_decisions():
    config = dataclasses.replace(
        QUICK, heuristic_weight=1.0, heuristic_margin=0.1, heuristic_decisions=100, epsilon_start=0.0, epsilon_end=0.0
    )
    agent = DQNAgent(config, F, S, seed=0)
    rng = np.random.default_rng(0)
    obs, mask, advice = rng.random((50, S, F), dtype=np.float32), np.ones((50, S), np.bool_), rng.integers(0, S, 50)
    assert (agent.act(obs, mask, True, advice) == advice).all()
    alone = agent.act(obs, mask, False)
    assert (agent.act(obs, mask, False, advice) == alone).all(), "what is deployed has no heuristic"
    assert (alone != advice).any()
    observe_decisions(agent, 100)
    assert agent.heuristic_weight == 0.0
    assert (agent.act(obs, mask, True, advice) == alone).all()


def test_heuristic_weight_stays_where_no_fading_is_wanted():
    agent = DQNAgent(dataclasses.replace(QUICK, heuristic_weight=0.5, heuristic_decisions=0), F, S, seed=0)
    observe_decisions(agent, 10)
    assert agent.heuristic_weight == 0.5


def test_rewards_are_clipped_where_asked():
    agent = DQNAgent(dataclasses.replace(QUICK, reward_clip=2.0), F, S, seed=0)
    agent.begin(2)
    obs, mask = np.zeros((2, S, F), np.float32), np.ones((2, S), np.bool_)
    ids = agent.observe(obs, mask, np.zeros(2, np.int64))
    agent.credit(ids, np.array([-50.0, 1.0]), np.ones(2, np.bool_))
    assert agent.state_dict()["replay"]["replays"][S]["reward"].tolist() == [-2.0, 1.0]


def test_epsilon_is_the_share_of_random_choices():
    mask = np.ones((6000, 4), dtype=np.bool_)
    q = np.tile(np.float32([0.0, 1.0, 1.0, 0.0]), (6000, 1))
    assert (greedy_choice(q, mask) == 1).all(), "ties go to the lowest index"
    chosen = epsilon_greedy_choice(q, mask, 0.4, np.random.default_rng(0).random((6000, 2)))
    assert abs((chosen != 1).mean() - 0.4 * 3 / 4) < 0.03

"""Behaviour cloning: the loss on paper, whom it pulls where, when it fades, and what it needs."""

import dataclasses

import numpy as np
import pytest
import torch

from tiny_runs import LEARNER, shorten, write_scenario
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.checkpoint import load_state, save_state
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.learner import Learner, large_margin
from trimtab.dqn.replay import NO_ADVICE, Batch, Replay
from trimtab.dqn.shelf import Shelf
from trimtab.errors import UsageError
from trimtab.experiments.runs import RunFolder
from trimtab.experiments.session import Settings, TrainingSession
from trimtab.experiments.train import Stage, Trainer
from trimtab.problems.base import Task
from trimtab.problems.routing.problem import Routing

B, S, F = 20, 3, 4
CLONING = DQNConfig(
    hidden=16,
    batch=64,
    decisions_per_update=20,
    learn_start=200,
    replay_capacity=700,
    learning_rate=5e-3,
    epsilon_start=0.3,
    cloning=1.0,
    heuristic_margin=0.5,
)


def batch(rows=64, advice=None, seed=5):
    g = torch.Generator().manual_seed(seed)
    return Batch(
        obs=torch.randn(rows, S, F, generator=g),
        mask=torch.rand(rows, S, generator=g) < 0.7,
        action=torch.randint(S, (rows,), generator=g),
        reward=torch.randn(rows, generator=g),
        discount=torch.full((rows,), 0.9),
        next_obs=torch.randn(rows, S, F, generator=g),
        next_mask=torch.ones(rows, S, dtype=torch.bool),
        advice=torch.full((rows,), NO_ADVICE) if advice is None else advice,
    )


def best_feature(obs, mask):
    """A heuristic: the open choice whose first feature is largest."""
    return np.where(mask, obs[:, :, 0], -np.inf).argmax(1)


def weights(learner):
    return [one.detach().clone() for one in learner.online.parameters()]


def play(agent, steps, rng, *, advised=True):
    """Reward 1 for the last choice, whatever the heuristic says; some decisions without advice."""
    losses = []
    agent.begin(B)
    for step in range(steps):
        obs, mask = rng.standard_normal((B, S, F), dtype=np.float32), np.ones((B, S), np.bool_)
        advice = np.where(np.arange(B) % 5 == step % 5, NO_ADVICE, best_feature(obs, mask)) if advised else None
        actions = agent.act(obs, mask, explore=True)
        ids = agent.observe(obs, mask, actions) if advice is None else agent.observe(obs, mask, actions, advice)
        agent.credit(ids, (actions == S - 1).astype(np.float32), np.ones(B, np.bool_))
        losses += [one.loss for one in agent.learn()]
    agent.finish(rng.standard_normal((B, S, F), dtype=np.float32), np.ones((B, S), np.bool_))
    return losses


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


# The loss


@pytest.mark.parametrize(
    ("q", "open_", "advice", "expected"),
    [
        ([1.0, 2.0, 0.0], [1, 1, 1], 0, 2.0 + 0.5 - 1.0),  # another leads
        ([1.0, 1.2, 0.0], [1, 1, 1], 1, 1.0 + 0.5 - 1.2),  # it leads, by less than the margin
        ([1.0, 1.6, 0.0], [1, 1, 1], 1, 0.0),  # it leads by more
        ([9.0, 1.0, 0.0], [0, 1, 1], 1, 0.0),  # the better one is not open
        ([1.0, 2.0, 0.0], [1, 1, 1], NO_ADVICE, 0.0),
        ([1.0, 2.0, 0.0], [0, 1, 1], 0, 0.0),  # advice that cannot be taken
        ([1.0, 2.0, 0.0], [0, 0, 0], NO_ADVICE, 0.0),
    ],
)
def test_large_margin_by_hand(q, open_, advice, expected):
    values = torch.tensor([q], requires_grad=True)
    loss = large_margin(values, torch.tensor([open_], dtype=torch.bool), torch.tensor([advice]), 0.5)
    assert loss.tolist() == pytest.approx([expected], abs=1e-6)
    loss.sum().backward()
    assert torch.isfinite(values.grad).all()


def test_rows_without_advice_change_nothing():
    plain, cloning = (Learner(CLONING, F, S, seed=0) for _ in range(2))
    for seed in range(5):
        plain.update(batch(seed=seed))
        cloning.update(batch(seed=seed), cloning=1.0)
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(cloning), strict=True))


def test_the_loss_is_that_of_the_td_error_and_the_weighted_margin():
    plain, cloning = (Learner(CLONING, F, S, seed=0) for _ in range(2))
    advised = batch(advice=torch.arange(64) % S)
    with torch.no_grad():
        q = plain.online(advised.obs, advised.mask)
    extra = large_margin(q, advised.mask, advised.advice, CLONING.heuristic_margin).mean().item()
    assert extra > 0.1
    assert cloning.update(advised, cloning=3.0).loss == pytest.approx(plain.update(advised).loss + 3.0 * extra, rel=1e-5)


def test_with_an_anchor_the_margin_is_in_the_scale_of_the_state():
    config = dataclasses.replace(CLONING, anchor=0)
    learner, advised = Learner(config, F, S, seed=0), batch(advice=torch.arange(64) % S)
    with torch.no_grad():
        cost = torch.expm1(advised.obs[:, :, 0])
        least = torch.where(advised.mask, cost, torch.inf).amin(1, keepdim=True)
        scale = 1.0 + torch.where(torch.isinf(least), 0.0, least)
        expected = large_margin(-cost / scale, advised.mask, advised.advice, config.heuristic_margin).mean().item()
    plain = Learner(config, F, S, seed=0).update(advised).loss
    assert learner.update(advised, cloning=1.0).loss - plain == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("network", ["set", "mlp"])
@pytest.mark.parametrize("rows", [64, 1024])  # 1024: a batch in two halves, each on a thread of its own
def test_the_greedy_choice_becomes_the_advised_one(network, rows):
    config = dataclasses.replace(CLONING, network=network, batch=rows, learning_rate=1e-2)
    learner = Learner(config, F, S, seed=0)
    for seed in range(150):
        drawn = batch(rows, seed=seed)
        advice = torch.from_numpy(best_feature(drawn.obs.numpy(), drawn.mask.numpy()))
        learner.update(dataclasses.replace(drawn, reward=torch.zeros(rows), advice=advice), cloning=1.0)
    unseen = batch(1000, seed=999)
    open_ = unseen.mask.any(1).numpy()
    with torch.no_grad():
        chosen = learner.online(unseen.obs, unseen.mask).masked_fill(~unseen.mask, -torch.inf).argmax(1).numpy()
    agreed = chosen == best_feature(unseen.obs.numpy(), unseen.mask.numpy())
    assert agreed[open_].mean() > 0.9, "chance is about a half"


# What is remembered


def test_the_replay_keeps_the_advice_of_every_decision_also_when_the_ring_wraps():
    replay, rng = Replay(10, 1, 1, advised=True), np.random.default_rng(0)
    replay.begin(1)
    for n in range(25):
        advice = np.array([n % 7 if n % 3 else NO_ADVICE])
        ids = replay.add(np.full((1, 1, 1), n, np.float32), np.ones((1, 1), np.bool_), np.zeros(1, np.int64), advice)
        replay.credit(ids, np.zeros(1, np.float32), np.ones(1, np.bool_))
    drawn = replay.sample(rng, 200, 1, 1.0)
    numbers = drawn.obs[:, 0, 0].long()
    assert len(numbers.unique()) > 5
    assert drawn.advice.tolist() == [int(n) % 7 if n % 3 else NO_ADVICE for n in numbers]
    assert [len(one.advice) for one in drawn.split(2)] == [100, 100]


def test_without_cloning_nothing_is_kept():
    agent = DQNAgent(dataclasses.replace(CLONING, cloning=0.0), F, S, seed=0)
    assert play(agent, 30, np.random.default_rng(0))
    assert all("advice" not in one for one in agent.state_dict()["replay"]["replays"].values())


def test_every_size_of_fleet_keeps_advice():
    shelf = Shelf(100, 2, 1, advised=True)
    for servers in (2, 3):
        shelf.begin(1)
        shelf.add(np.zeros((1, servers, 1), np.float32), np.ones((1, servers), np.bool_), np.zeros(1, np.int64), np.array([servers - 1]))
        shelf.finish(np.zeros((1, servers, 1), np.float32), np.ones((1, servers), np.bool_), None)
    stored = shelf.state_dict()["replays"]
    assert {servers: one["advice"].tolist() for servers, one in stored.items()} == {2: [1, NO_ADVICE], 3: [2, NO_ADVICE]}


def test_a_resumed_run_equals_the_uninterrupted_one_bit_by_bit(tmp_path):
    config = dataclasses.replace(CLONING, heuristic_decisions=1500)
    through = DQNAgent(config, F, S, seed=0)
    play(through, 40, np.random.default_rng(1))
    assert 0.0 < through.cloning_weight < config.cloning
    save_state(tmp_path / "resume.pth", through.state_dict())
    losses = play(through, 40, np.random.default_rng(2))
    resumed = DQNAgent(config, F, S, seed=77)
    resumed.load_state_dict(load_state(tmp_path / "resume.pth"))
    assert play(resumed, 40, np.random.default_rng(2)) == losses != []
    assert same(through.state_dict(), resumed.state_dict())


# When, and with whom


def test_the_pull_fades_over_the_heuristics_decisions_or_never():
    fading, lasting = (DQNAgent(dataclasses.replace(CLONING, cloning=2.0, heuristic_decisions=n), F, S, seed=0) for n in (400, 0))
    for agent in (fading, lasting):
        agent.decisions = 100
    assert (fading.cloning_weight, lasting.cloning_weight) == (1.5, 2.0)
    fading.decisions = 401
    assert fading.cloning_weight == 0.0


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan"), "1", True])
def test_an_impossible_weight_is_refused(value):
    with pytest.raises(UsageError, match=r"cloning is .*; allowed: a number from 0"):
        DQNConfig(cloning=value)


def test_cloning_nobody_is_refused():
    agent = DQNAgent(CLONING, F, S, seed=0)
    with pytest.raises(UsageError, match=r"cloning is 1 .*--heuristic"):
        play(agent, 1, np.random.default_rng(0), advised=False)
    with pytest.raises(UsageError, match=r"cloning is 1 .*--heuristic"):
        Trainer(Routing(), agent, 0)


def test_a_run_without_a_heuristic_is_refused_before_it_leaves_files(tmp_path):
    scenario = str(write_scenario(tmp_path))
    settings = Settings(scenario=scenario, backend="twin", episodes=20, learner=DQNConfig.from_dict({**LEARNER, "cloning": 1.0}))
    with pytest.raises(UsageError, match="--heuristic"):
        TrainingSession(Routing(), settings, RunFolder(tmp_path / "run"), "cpu")
    assert not (tmp_path / "run").exists()


def test_training_clones_what_the_heuristic_chose(tmp_path, monkeypatch):
    shorten(monkeypatch.setattr)
    world, heuristic = Routing().open(Task(str(write_scenario(tmp_path)), "twin")), _Remembering(Routing(), "sed-online")
    agent = DQNAgent(DQNConfig(**LEARNER, cloning=1.0), len(Routing.features), 2, 0)
    observed, observe = [], agent.observe

    def spied(obs, mask, actions, advice):
        observed.append((advice.tolist(), heuristic.chosen.tolist()))
        return observe(obs, mask, actions, advice)

    monkeypatch.setattr(agent, "observe", spied)
    list(Trainer(Routing(), agent, 0, heuristic).run([Stage(world, 40)]))
    assert agent.updates > 0
    assert all(advice == chosen for advice, chosen in observed)
    assert {server for advice, _ in observed for server in advice} == {0, 1}
    kept = agent.state_dict()["replay"]["replays"][2]["advice"]
    assert (kept != NO_ADVICE).sum() == agent.decisions, "closing rows hold none"


class _Remembering:
    """A policy that remembers what it chose last."""

    def __init__(self, problem, name):
        self.name, self._policy = name, problem.build_policy(name)

    def reset(self, seeds):
        self._policy.reset(seeds)

    def select(self, view):
        self.chosen = self._policy.select(view)
        return self.chosen

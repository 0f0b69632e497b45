"""The gradient step: direction, targets that follow, divergence that stops."""

import dataclasses

import pytest
import torch

from trimtab.dqn.config import DQNConfig
from trimtab.dqn.errors import LearningError
from trimtab.dqn.learner import Learner, resolve_device
from trimtab.dqn.replay import Batch
from trimtab.errors import UsageError

SMALL = DQNConfig(hidden=8)


def batch(rows=32, servers=3, features=4, reward=None):
    g = torch.Generator().manual_seed(5)
    return Batch(
        obs=torch.randn(rows, servers, features, generator=g),
        mask=torch.ones(rows, servers, dtype=torch.bool),
        action=torch.randint(servers, (rows,), generator=g),
        reward=torch.randn(rows, generator=g) if reward is None else torch.full((rows,), reward),
        discount=torch.full((rows,), 0.9),
        next_obs=torch.randn(rows, servers, features, generator=g),
        next_mask=torch.ones(rows, servers, dtype=torch.bool),
    )


def weights(learner):
    return [w.clone() for w in learner.online.parameters()]


@pytest.mark.parametrize("network", ["set", "mlp"])
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_steps_on_one_batch_lower_its_loss(network, double, loss):
    config = dataclasses.replace(SMALL, network=network, double=double, loss=loss, learning_rate=1e-2)
    learner = Learner(config, 4, 3, seed=0)
    losses = [learner.update(batch()).loss for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    assert learner.updates == 60


def test_loss_and_mean_q_of_the_first_step_on_paper():
    learner = Learner(dataclasses.replace(SMALL, double=False), 4, 3, seed=0)
    b = batch()
    with torch.no_grad():
        q = learner.online(b.obs, b.mask)[torch.arange(32), b.action]
        y = b.reward + 0.9 * learner.target(b.next_obs, b.next_mask).amax(1)
    stats = learner.update(b)
    assert stats.loss == pytest.approx(((q - y) ** 2).mean().item(), rel=1e-5)
    assert stats.q_mean == pytest.approx(q.mean().item(), rel=1e-5)


def test_soft_target_follows_by_tau():
    learner = Learner(dataclasses.replace(SMALL, tau=0.25), 4, 3, seed=0)
    start = weights(learner)
    learner.update(batch())
    for target, old, new in zip(learner.target.parameters(), start, learner.online.parameters(), strict=True):
        torch.testing.assert_close(target, 0.75 * old + 0.25 * new.detach())


def test_hard_target_is_copied_at_its_period():
    learner = Learner(dataclasses.replace(SMALL, target="hard", target_period=3), 4, 3, seed=0)
    start = weights(learner)
    for _ in range(2):
        learner.update(batch())
    assert all(torch.equal(a, b) for a, b in zip(learner.target.parameters(), start, strict=True))
    learner.update(batch())
    assert all(torch.equal(a, b) for a, b in zip(learner.target.parameters(), learner.online.parameters(), strict=True))


@pytest.mark.parametrize("reward", [float("nan"), 1e30])
def test_divergence_is_an_error_and_leaves_the_weights(reward):
    learner = Learner(SMALL, 4, 3, seed=0)
    start = weights(learner)
    with pytest.raises(LearningError, match=r"learning diverged: loss (nan|inf).*at update 1"):
        learner.update(batch(reward=reward))
    assert all(torch.equal(a, b) for a, b in zip(learner.online.parameters(), start, strict=True))


def test_gradient_is_clipped_to_its_norm():
    config = dataclasses.replace(SMALL, max_grad_norm=0.5)
    learner = Learner(config, 4, 3, seed=0)
    stats = learner.update(batch(reward=100.0))
    clipped = torch.stack([w.grad.norm() for w in learner.online.parameters()]).norm()
    assert stats.grad_norm > 0.5
    assert clipped.item() == pytest.approx(0.5, rel=1e-3)


def test_devices_are_resolved_or_refused_by_name():
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match=r"'tpu'; allowed: auto, cpu, cuda"):
        resolve_device("tpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_starts_from_the_same_weights_and_steps():
    cpu, cuda = Learner(SMALL, 4, 3, seed=0), Learner(SMALL, 4, 3, seed=0, device="cuda")
    assert all(torch.equal(a, b.cpu()) for a, b in zip(cpu.online.parameters(), cuda.online.parameters(), strict=True))
    moved = Batch(**{f.name: getattr(batch(), f.name).cuda() for f in dataclasses.fields(Batch)})
    assert cuda.update(moved).loss == pytest.approx(cpu.update(batch()).loss, rel=1e-3)


def test_cuda_where_there_is_none_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="allowed here: auto, cpu"):
        resolve_device("cuda")

"""A tuned model is held to the one that it began with: its choices outlast rewards that would spoil them, and it can be resumed."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from tiny_runs import same_content
from trimtab.dqn.anchor import cost_scale
from trimtab.dqn.checkpoint import load_state, save_state
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.learner import Learner
from trimtab.dqn.network import build_network
from trimtab.dqn.replay import Batch

B, S, F = 64, 3, 4
KEPT = DQNConfig(hidden=16, learning_rate=1e-3, loss="huber", kept=10.0, tau=0.1)


def batch(seed, reward=0.0):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(B, S, generator=g) < 0.7
    action = torch.randint(S, (B,), generator=g)
    return Batch(
        obs=torch.randn(B, S, F, generator=g),
        mask=mask.scatter(1, action.unsqueeze(1), True),
        action=action,
        reward=torch.randn(B, generator=g) + reward,
        discount=torch.full((B,), 0.9),
        next_obs=torch.randn(B, S, F, generator=g),
        next_mask=torch.ones(B, S, dtype=torch.bool),
    )


def trained(config=KEPT):
    """A network whose choices differ from state to state."""
    return build_network(config, F, S, torch.Generator().manual_seed(3))


def tuned(config, steps=200, reward=-50.0):
    """What a learner makes of rewards that have nothing to do with its choices."""
    learner = Learner(config, F, S, seed=0)
    learner.adopt(trained(config))
    for seed in range(steps):
        learner.update(batch(seed, reward))
    return learner


def differences(network):
    """Values of the open choices of some states, less their mean."""
    probe = batch(9999)
    with torch.no_grad():
        values = network(probe.obs, probe.mask).masked_fill(~probe.mask, 0.0)
    return (values - values.sum(1, keepdim=True) / probe.mask.sum(1, keepdim=True)).masked_fill(~probe.mask, 0.0)


@pytest.mark.parametrize("changes", [{}, {"network": "mlp"}, {"anchor": 0, "average": 0.05}, {"batch": 32}], ids=str)
def test_differences_between_choices_outlast_rewards_of_chance(changes):
    config = dataclasses.replace(KEPT, **changes)
    before = differences(trained(config))
    held, free = (differences(tuned(one).online) - before for one in (config, dataclasses.replace(config, kept=0.0)))
    assert held.abs().mean() < 0.3 * free.abs().mean()


def test_what_all_choices_have_in_common_is_learned_all_the_same():
    learner, start = tuned(KEPT, reward=-5.0), trained()
    probe = batch(9999)
    with torch.no_grad():
        moved = learner.online(probe.obs, probe.mask) - start(probe.obs, probe.mask)
    assert moved[probe.mask].mean() < -2.0


def test_the_first_step_is_that_of_a_free_learner():
    # There is nothing to hold back yet: weights of the loss do not change what rewards teach, only how far it goes.
    held, free = tuned(KEPT, steps=1), tuned(dataclasses.replace(KEPT, kept=0.0), steps=1)
    for one, other in zip(held.online.parameters(), free.online.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_what_holds_is_in_the_scale_of_the_state():
    # With an anchor a busy fleet's values are larger throughout, and so may be what they differ by.
    config = dataclasses.replace(KEPT, anchor=0)
    learner, some = tuned(config, steps=1), batch(999)
    with torch.no_grad():
        for weights in learner.online.parameters():  # far from the start: the rest of the loss must not round the difference away
            weights += 0.3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1))
        drift = learner.online(some.obs, some.mask) - trained(config)(some.obs, some.mask)
    scale = cost_scale(torch.expm1(some.obs[..., 0]), some.mask)
    open_ = some.mask.sum(1, keepdim=True)
    shift = (drift * some.mask).sum(1, keepdim=True) / open_
    wanted = functional.huber_loss((drift - shift) / scale, torch.zeros_like(drift), reduction="none")[some.mask].mean()
    free = Learner(dataclasses.replace(config, kept=0.0), F, S, seed=0)
    free.load_state_dict({key: value for key, value in learner.state_dict().items() if key != "start"})
    assert learner.update(some).loss - free.update(some).loss == pytest.approx(KEPT.kept * wanted.item(), rel=1e-3)


def test_a_run_from_nothing_is_held_to_nothing():
    held, free = Learner(KEPT, F, S, seed=0), Learner(dataclasses.replace(KEPT, kept=0.0), F, S, seed=0)
    for seed in range(5):
        assert held.update(batch(seed)) == free.update(batch(seed))


def test_resumed_it_is_held_to_the_same(tmp_path):
    learner = tuned(KEPT, steps=5)
    save_state(tmp_path / "state.pth", learner.state_dict())
    again = Learner(KEPT, F, S, seed=7)
    again.load_state_dict(load_state(tmp_path / "state.pth"))
    for seed in range(5, 10):
        assert learner.update(batch(seed)) == again.update(batch(seed))
    assert same_content(learner.state_dict(), again.state_dict())


def test_states_without_an_open_choice_do_no_harm():
    learner = tuned(KEPT, steps=1)
    some = batch(1)
    some.mask[0] = False
    learner.update(some)
    assert all(torch.isfinite(one).all() for one in learner.online.parameters())

"""Learning on top of an estimate: where it begins, how far it may go, and weights averaged over time."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import tensor
from torch.testing import assert_close

from identity_task import QUICK, B, F, Identity, S, play
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.anchor import Caution, anchored, cautious, cost_scale
from trimtab.dqn.checkpoint import Checkpoint, load_checkpoint, load_network, save_checkpoint
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.inference import greedy_choice
from trimtab.dqn.learner import Learner, step_size
from trimtab.dqn.network import build_network, q_values
from trimtab.dqn.replay import Batch
from trimtab.errors import UsageError

ANCHOR = 2  # of five features
CONFIGS = [DQNConfig(network=kind, dueling=dueling, hidden=16, anchor=ANCHOR) for kind in ("set", "mlp") for dueling in (True, False)]
IDS = ["set-dueling", "set", "mlp-dueling", "mlp"]
FREE = Caution(trust=1.0, factor=1.0, slack=1e9)


def seeded(config, seed=1):
    return build_network(config, 5, 4, torch.Generator().manual_seed(seed)).requires_grad_(False)


def stirred(config, seed=1):
    """A network that has learned something, for its heads begin at zero."""
    network, generator = seeded(config, seed), torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.normal_(0.0, 0.3, generator=generator)
    return network


def fleets(batch, seed=0, servers=4):
    """Observations, masks with a choice in every row, and the costs that the anchor tells."""
    rng = np.random.default_rng(seed)
    obs = rng.standard_normal((batch, servers, 5)).astype(np.float32)
    cost = rng.lognormal(0.0, 1.5, (batch, servers))
    obs[:, :, ANCHOR] = np.log1p(cost)
    mask = rng.random((batch, servers)) < 0.6
    mask[np.arange(batch), rng.integers(0, servers, batch)] = True
    return obs, mask, cost


def written(cost):
    """Observations of one feature, the anchor, from costs [B, S]."""
    return np.log1p(np.array(cost, dtype=np.float32))[:, :, None]


# By hand


def test_the_scale_is_one_and_the_least_cost_of_an_open_choice():
    cost = tensor([[3.0, 1.0, 0.5], [4.0, 2.0, 9.0]])
    mask = tensor([[True, True, False], [False, False, False]])
    assert cost_scale(cost, mask).tolist() == [[2.0], [1.0]]


def test_q_is_the_scaled_advice_less_the_expected_cost():
    q, obs = tensor([[0.5, -1.0]]), torch.from_numpy(written([[3.0, 1.0]]))
    assert_close(anchored(q, obs, tensor([[True, True]]), 0), tensor([[2 * 0.5 - 3.0, 2 * -1.0 - 1.0]]))
    assert_close(anchored(q, obs, tensor([[True, False]]), 0)[0, 0], tensor(4 * 0.5 - 3.0), msg="the scale is that of open choices")


def test_caution_by_hand():
    q, obs = np.float32([[-9.0, -1.0, 0.0, 5.0]]), written([[4.0, 2.0, 3.6, 1.0]])
    mask = np.array([[True, True, True, False]])
    values, near = cautious(q, obs, mask, 0, Caution(trust=0.25, factor=1.5, slack=0.5))
    assert values[0] == pytest.approx([0.25 * -9 - 3, 0.25 * -1 - 1.5, -0.75 * 3.6, 0.25 * 5 - 0.75], rel=1e-5)
    assert near.tolist() == [[False, True, False, False]], "2 x 1.5 + 0.5 = 3.5 at most"
    _, near = cautious(q, obs, mask, 0, Caution(trust=0.25, factor=1.5, slack=1.0))
    assert near.tolist() == [[True, True, True, False]], "4 at most: the bound itself is open"


def test_the_choice_of_least_expected_cost_has_a_lead():
    q, obs, mask = np.float32([[-1.0, -0.9, 9.0]]), written([[1.0, 1.1, 0.5]]), np.array([[True, True, False]])
    values, near = cautious(q, obs, mask, 0, Caution(trust=1.0, factor=1.5, slack=0.0, lead=0.06))
    assert values[0, :2] == pytest.approx([-1.0 + 0.06 * 2, -0.9])
    assert greedy_choice(values, near) == 0
    assert greedy_choice(*cautious(q, obs, mask, 0, Caution(trust=1.0, factor=1.5, slack=0.0, lead=0.04))) == 1


def test_the_networks_word_counts_less_among_many_candidates():
    q, cost = np.full((1, 64), -2.0, np.float32), np.full((1, 64), 1.0)
    cost[0, 32:] = 9.0  # no candidates
    values, near = cautious(q, written(cost), np.ones((1, 64), dtype=bool), 0, Caution(trust=0.5, factor=1.5))
    assert near.sum() == 32
    assert values[0, 1] == pytest.approx(0.25 * -2.0 - 0.75 * 1.0)
    few = cautious(q[:, :16], written(cost[:, :16]), np.ones((1, 16), dtype=bool), 0, Caution(trust=0.5, factor=1.5))[0]
    assert few[0, 1] == pytest.approx(0.5 * -2.0 - 0.5 * 1.0)


def test_without_an_anchor_nothing_is_changed():
    q, mask = np.float32([[1.0, 2.0]]), np.array([[True, False]])
    values, near = cautious(q, written([[1.0, 1.0]]), mask, -1, Caution(0.1, 1.0, 0.0))
    assert values is q
    assert near is mask


@given(
    cost=arrays(np.float32, (3, 5), elements=st.floats(0, 1e6, width=32)),
    mask=arrays(np.bool_, (3, 5)),
    factor=st.floats(1.0, 4.0),
    slack=st.floats(0.0, 4.0),
    trust=st.floats(0.0, 1.0),
)
def test_an_open_choice_leaves_a_candidate_and_no_closed_one_is(cost, mask, factor, slack, trust):
    values, near = cautious(np.zeros((3, 5), np.float32), written(cost), mask, 0, Caution(trust, factor, slack))
    assert np.isfinite(values).all()
    assert (near.any(axis=1) == mask.any(axis=1)).all()
    assert not (near & ~mask).any()
    cheapest = np.where(mask, cost, np.inf).argmin(axis=1)
    assert near[np.arange(3), cheapest][mask.any(axis=1)].all()


# Networks


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_a_fresh_network_chooses_the_least_expected_cost(config):
    network = seeded(config)
    obs, mask, cost = fleets(300)
    assert q_values(network, obs, mask).numpy()[mask] == pytest.approx(-cost[mask], rel=1e-4, abs=1e-5)
    cheapest = np.where(mask, cost, np.inf).argmin(axis=1)
    assert (network.decide(obs, mask)[2] == cheapest).all()


@pytest.mark.parametrize("dueling", [True, False])
@pytest.mark.parametrize(("batch", "servers"), [(1, 4), (3, 7), (20, 5)])
def test_the_compiled_forward_pass_equals_the_librarys(dueling, batch, servers):
    network = stirred(DQNConfig(dueling=dueling, hidden=16, anchor=ANCHOR))
    for seed in range(10):
        obs, mask, _ = fleets(batch, seed, servers)
        expected = network(torch.from_numpy(obs), torch.from_numpy(mask)).numpy()
        assert np.allclose(q_values(network, obs, mask).numpy()[mask], expected[mask], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_a_fleet_without_an_open_choice_still_gives_finite_numbers(config):
    obs, mask, _ = fleets(3)
    assert torch.isfinite(q_values(stirred(config), obs, np.zeros_like(mask))).all()


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_the_cost_of_a_closed_choice_does_not_matter_to_the_others(config):
    obs, mask, _ = fleets(50)
    network, other = stirred(config), obs.copy()
    other[:, :, ANCHOR] = np.where(mask, obs[:, :, ANCHOR], 0.001)
    assert np.array_equal(q_values(network, obs, mask).numpy()[mask], q_values(network, other, mask).numpy()[mask])


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_full_trust_and_a_wide_bound_are_the_plain_choice(config):
    network = stirred(config)
    obs, mask, cost = fleets(300)
    q = q_values(network, obs, mask).numpy()
    plain = greedy_choice(q, mask)
    network.caution = FREE
    assert (network.decide(obs, mask)[2] == plain).all()
    network.caution = Caution(trust=0.0, factor=1.0, slack=1e9)
    cheapest = np.where(mask, cost, np.inf).argmin(axis=1)
    assert (network.decide(obs, mask)[2] == cheapest).all()
    assert (plain != cheapest).any(), "the network must have an opinion of its own"


def test_a_choice_in_earnest_costs_a_bounded_part_of_the_estimate():
    network = stirred(dataclasses.replace(CONFIGS[0], trust=1.0, bound_factor=1.3, bound_slack=0.2))
    obs, mask, cost = fleets(500)
    chosen = cost[np.arange(500), network.decide(obs, mask)[2]]
    least = np.where(mask, cost, np.inf).min(axis=1)
    assert (chosen <= 1.3 * least + 0.2 + 1e-4).all()
    assert (chosen > least).any()


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
@pytest.mark.parametrize("batch", [1, 20, 60])
def test_one_call_decides_as_its_parts_do(config, batch):
    network = stirred(dataclasses.replace(config, trust=0.6, bound_factor=1.3, bound_slack=0.2, lead=0.05))
    obs, mask, _ = fleets(batch)
    values, near = cautious(q_values(network, obs, mask).numpy(), obs, mask, ANCHOR, network.caution)
    for found, wanted in zip(network.decide(obs, mask), (values, near, greedy_choice(values, near)), strict=True):
        assert np.array_equal(found, wanted)


def changed(network):
    """Other weights than before, in place."""
    for weight in network.parameters():
        weight.mul_(-1.0)
    return network


@pytest.mark.parametrize("moved", [copy.deepcopy, lambda network: network.double().float(), lambda network: network])
def test_decisions_follow_the_weights_of_a_network_that_has_decided(moved):
    network, (obs, mask, _) = stirred(CONFIGS[0]), fleets(20)
    before = network.decide(obs, mask)[0]
    other = changed(moved(network))
    assert np.allclose(
        other.decide(obs, mask)[0],
        cautious(other(torch.from_numpy(obs), torch.from_numpy(mask)).numpy(), obs, mask, ANCHOR, other.caution)[0],
        atol=1e-4,
    )
    assert not np.allclose(other.decide(obs, mask)[0][mask], before[mask], atol=1e-2)


def test_an_anchor_that_is_no_feature_is_refused():
    with pytest.raises(UsageError, match=r"anchor is 5; allowed: -1 to 4"):
        seeded(DQNConfig(anchor=5))


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_a_checkpoint_keeps_anchor_trust_bounds_and_lead(tmp_path, config):
    config = dataclasses.replace(config, trust=0.3, bound_factor=1.2, bound_slack=0.1, lead=0.2)
    network = stirred(config)
    names = tuple("abcde")
    save_checkpoint(tmp_path / "m.pth", Checkpoint("routing", names, 4, config, 1, network.state_dict(), {}))
    loaded = load_network(load_checkpoint(tmp_path / "m.pth", problem="routing", observation=names), 4)
    assert (loaded.anchor, loaded.caution) == (ANCHOR, Caution(0.3, 1.2, 0.1, 0.2))
    obs, mask, _ = fleets(40)
    for before, after in zip(network.decide(obs, mask), loaded.decide(obs, mask), strict=True):
        assert np.array_equal(before, after)


# Learning


def batch(rows=32, seed=5):
    obs, mask, _ = fleets(rows, seed)
    after, after_mask, _ = fleets(rows, seed + 1)
    rng = np.random.default_rng(seed)
    action = np.where(mask, rng.random(mask.shape), -1.0).argmax(axis=1)
    return Batch(
        obs=torch.from_numpy(obs),
        mask=torch.from_numpy(mask),
        action=torch.from_numpy(action),
        reward=torch.from_numpy(rng.normal(-2.0, 1.0, rows).astype(np.float32)),
        discount=torch.full((rows,), 0.9),
        next_obs=torch.from_numpy(after),
        next_mask=torch.from_numpy(after_mask),
    )


def test_the_loss_is_in_the_scale_of_the_state():
    learner, b = Learner(dataclasses.replace(CONFIGS[0], double=False), 5, 4, seed=0), batch()
    with torch.no_grad():
        q = learner.online(b.obs, b.mask)[torch.arange(32), b.action]
        best = torch.where(b.next_mask, learner.target(b.next_obs, b.next_mask), -torch.inf).amax(1)
        scale = 1 + torch.where(b.mask, torch.expm1(b.obs[:, :, ANCHOR]), torch.inf).amin(1)
        expected = (((q - b.reward - 0.9 * best) / scale) ** 2).mean().item()
    assert learner.update(b).loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_steps_on_one_batch_lower_its_loss(config):
    learner, b = Learner(dataclasses.replace(config, learning_rate=1e-2, target="hard"), 5, 4, seed=0), batch()
    losses = [learner.update(b).loss for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]


class Misled(Identity):
    """The last feature claims that the best server costs most."""

    def observe(self, before):
        obs = super().observe(before)
        obs[:, :, 3] = np.log1p(obs[:, :, 0])
        return obs


@pytest.mark.parametrize("network", ["set", "mlp"])
def test_a_misleading_estimate_is_overcome(network):
    config = dataclasses.replace(QUICK, network=network, anchor=3, trust=1.0, lead=0.0, bound_slack=1e9, average=0.02)
    agent = DQNAgent(config, F, S, seed=0)
    assert play(agent, Misled(seed=2), episodes=2, learn=False)[0] < 0.1, "before learning the estimate decides"
    play(agent, Misled(seed=1), episodes=40 if network == "set" else 150)
    assert play(agent, Misled(seed=2), episodes=2, learn=False)[0] > 0.9


# Averages and step sizes


def weights(network):
    return [one.detach().clone() for one in network.parameters()]


def test_the_average_is_a_plain_mean_and_then_an_exponential_one():
    learner = Learner(DQNConfig(hidden=8, average=0.25, learning_rate=1e-2), 5, 4, seed=0)
    seen = [weights(learner.online)]
    assert all(torch.equal(a, b) for a, b in zip(seen[0], learner.average.parameters(), strict=True))
    for _ in range(3):  # three steps and the start: each a quarter
        learner.update(batch())
        seen.append(weights(learner.online))
    mean = [torch.stack(pieces).mean(0) for pieces in zip(*seen, strict=True)]
    assert_close(weights(learner.average), mean)
    learner.update(batch())
    expected = [0.75 * old + 0.25 * new for old, new in zip(mean, weights(learner.online), strict=True)]
    assert_close(weights(learner.average), expected)
    assert not torch.equal(weights(learner.average)[0], weights(learner.online)[0])


def test_what_decides_greedily_is_the_average_where_there_is_one():
    plain, averaged = (Learner(DQNConfig(hidden=8, average=share), 5, 4, seed=0) for share in (0.0, 0.1))
    assert plain.greedy is plain.online
    assert plain.average is None
    assert averaged.greedy is averaged.average
    assert not any(one.requires_grad for one in averaged.average.parameters())
    agent = DQNAgent(dataclasses.replace(QUICK, average=0.01), F, S, seed=0)
    play(agent, Identity(seed=1), episodes=4)
    obs, mask = np.random.default_rng(0).random((B, S, F), dtype=np.float32), np.ones((B, S), np.bool_)
    average = agent.state_dict()["learner"]["average"]
    assert all(torch.equal(one, average[name]) for name, one in agent.policy_network.state_dict().items())
    assert (agent.act(obs, mask, explore=False) == agent.policy_network.decide(obs, mask)[2]).all()


def test_averaged_weights_survive_a_round_trip():
    config = DQNConfig(hidden=8, average=0.1, anchor=ANCHOR)
    first, second = Learner(config, 5, 4, seed=0), Learner(config, 5, 4, seed=9)
    for _ in range(5):
        first.update(batch())
    second.load_state_dict(first.state_dict())
    for learner in (first, second):
        learner.update(batch(seed=8))
    for name in ("online", "target", "average"):
        before, after = (weights(getattr(learner, name)) for learner in (first, second))
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), name


def test_the_step_size_falls_with_the_inverse_of_updates():
    falling = DQNConfig(learning_rate=0.012, learning_rate_updates=100)
    assert [step_size(falling, updates) for updates in (0, 100, 200, 1100)] == pytest.approx([0.012, 0.006, 0.004, 0.001])
    assert [step_size(DQNConfig(learning_rate=0.012), updates) for updates in (0, 10**6)] == [0.012, 0.012]


def test_a_smaller_step_size_makes_smaller_steps():
    """The sixth step of Adam on one batch, once at full size and once at a sixth of it."""
    moved = []
    for span in (0, 1):
        learner = Learner(DQNConfig(hidden=8, learning_rate=1e-4, learning_rate_updates=span), 5, 4, seed=0)
        for _ in range(5):
            learner.update(batch())
        before = weights(learner.online)
        learner.update(batch())
        moved.append(sum((new - old).abs().sum().item() for new, old in zip(weights(learner.online), before, strict=True)))
    assert moved[1] == pytest.approx(moved[0] / 6, rel=0.1)

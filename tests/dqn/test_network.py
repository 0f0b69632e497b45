"""What a Q network promises: order, absence and number of servers do not matter where they must not."""

import copy

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network, pool, q_values

CONFIGS = [DQNConfig(network=n, dueling=d, hidden=16) for n in ("set", "mlp") for d in (True, False)]
SET_CONFIGS = [c for c in CONFIGS if c.network == "set"]


def seeded(config, features=5, servers=4, seed=0):
    return build_network(config, features, servers, torch.Generator().manual_seed(seed))


def fleets(batch=7, servers=4, features=5):
    g = torch.Generator().manual_seed(3)
    mask = torch.rand(batch, servers, generator=g) < 0.7
    mask[:, 0] = True
    return torch.randn(batch, servers, features, generator=g), mask


@pytest.mark.parametrize("config", SET_CONFIGS)
def test_permuting_servers_permutes_q(config):
    obs, mask = fleets()
    order = torch.tensor([2, 0, 3, 1])
    network = seeded(config)
    assert_close(network(obs[:, order], mask[:, order]), network(obs, mask)[:, order])


@pytest.mark.parametrize("config", CONFIGS)
def test_features_of_an_absent_server_do_not_matter_to_the_others(config):
    obs, mask = fleets()
    network = seeded(config)
    other = torch.where(mask.unsqueeze(-1), obs, torch.full_like(obs, 1e3))
    assert_close(network(other, mask)[mask], network(obs, mask)[mask], rtol=0, atol=0)


@pytest.mark.parametrize("config", SET_CONFIGS)
def test_an_absent_server_counts_as_none(config):
    obs, _ = fleets()
    network = seeded(config)
    mask = torch.ones(7, 4, dtype=torch.bool)
    mask[:, 3] = False
    assert_close(network(obs, mask)[:, :3], network(obs[:, :3], mask[:, :3]))


@pytest.mark.parametrize("servers", [1, 2, 9])
def test_one_set_network_serves_any_number_of_servers(servers):
    obs, mask = fleets(servers=servers)
    assert seeded(SET_CONFIGS[0])(obs, mask).shape == (7, servers)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_fleet_without_servers_still_gives_finite_numbers(config):
    obs, mask = fleets()
    assert torch.isfinite(seeded(config)(obs, torch.zeros_like(mask))).all()


@pytest.mark.parametrize("config", CONFIGS)
def test_weights_depend_on_the_seed_alone(config):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = seeded(config).state_dict()
    assert torch.equal(torch.get_rng_state(), before), "building a network must not advance the global generator"
    torch.manual_seed(2)
    second, other = seeded(config).state_dict(), seeded(config, seed=1).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_pooling_on_paper():
    h = torch.tensor([[[1.0, 4.0]], [[3.0, 0.0]], [[9.0, 9.0]]])  # [S, B, H]
    present = torch.tensor([[1.0], [1.0], [0.0]])
    assert_close(pool(h, present, torch.tensor([0.5])), torch.tensor([[2.0, 2.0, 3.0, 4.0]]))


def test_pooling_gradient_matches_finite_differences():
    g = torch.Generator().manual_seed(0)
    h = torch.rand(3, 5, 4, dtype=torch.double, generator=g).requires_grad_()
    present = torch.tensor([[1, 1, 0, 1, 0], [1, 0, 1, 1, 0], [1, 1, 1, 0, 0]], dtype=torch.double)
    share = 1 / present.sum(0).clamp(min=1)
    assert gradcheck(lambda x: pool(x, present, share), (h,))


def test_equal_servers_share_the_gradient_of_the_maximum():
    h = torch.ones(2, 1, 1, requires_grad=True)
    pool(h, torch.ones(2, 1), torch.tensor([0.5]))[0, 1].backward()
    assert h.grad.flatten().tolist() == [0.5, 0.5]


@pytest.mark.parametrize("batch", [1, 256, 600])
def test_q_values_in_blocks_equal_one_forward(batch):
    obs, mask = fleets(batch=batch)
    network = seeded(CONFIGS[0])
    with torch.no_grad():
        assert_close(q_values(network, obs.numpy(), mask.numpy()).clone(), network(obs, mask))


def test_q_values_leave_no_gradient():
    q = q_values(seeded(CONFIGS[0]), np.zeros((2, 4, 5), np.float32), np.ones((2, 4), np.bool_))
    assert not q.requires_grad


@pytest.mark.parametrize("dueling", [True, False])
@pytest.mark.parametrize(("batch", "servers"), [(1, 4), (3, 7), (1, 100)])
def test_the_compiled_forward_pass_equals_the_librarys(dueling, batch, servers):
    rng = np.random.default_rng(batch + servers)
    network = build_network(DQNConfig(dueling=dueling), 18, servers, torch.Generator().manual_seed(1)).requires_grad_(False)
    obs = rng.standard_normal((batch, servers, 18)).astype(np.float32)
    mask = rng.random((batch, servers)) < 0.7
    mask[:, 0] = True
    expected = network(torch.from_numpy(obs), torch.from_numpy(mask)).numpy()
    assert np.allclose(q_values(network, obs, mask).numpy()[mask], expected[mask], atol=1e-5)


def test_the_compiled_forward_pass_follows_the_weights():
    network = build_network(DQNConfig(), 3, 2, torch.Generator().manual_seed(1)).requires_grad_(False)
    obs, mask = np.ones((1, 2, 3), dtype=np.float32), np.ones((1, 2), dtype=np.bool_)
    before = q_values(network, obs, mask).numpy()
    copied = copy.deepcopy(network)
    network.value.bias.add_(1.0)
    assert np.allclose(q_values(network, obs, mask).numpy(), before + 1.0), "a gradient step shows at once"
    assert np.allclose(q_values(copied, obs, mask).numpy(), before), "a copy has weights of its own"

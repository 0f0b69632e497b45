"""Learning from rollouts: differences of costs on paper, a memory that forgets the oldest, steps that are due, and what is learned."""

import dataclasses

import numpy as np
import pytest
import torch

from identity_task import QUICK, F, Identity, S, play, same
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.checkpoint import load_state, save_state
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.learner import Learner
from trimtab.dqn.replay import Batch
from trimtab.dqn.rollouts import RolloutBatch, RolloutMemory, Rollouts, advantage_loss
from trimtab.errors import CheckpointError

CPU = torch.device("cpu")
Q = torch.tensor([[1.0, 2.0, 4.0], [0.0, 5.0, 3.0]])
TRIED = torch.tensor([[True, True, False], [True, True, True]])
COST = torch.tensor([[3.0, 1.0, 99.0], [1.0, 2.0, 6.0]])


def by_hand(obs=None, mask=None, tried=TRIED, cost=COST):
    """A batch of two states with three choices."""
    obs = torch.zeros(2, 3, 1) if obs is None else obs
    return RolloutBatch(obs, torch.ones(2, 3, dtype=torch.bool) if mask is None else mask, tried, cost)


# The loss


def test_the_loss_by_hand():
    # First state: differences -1/2, 1/2 where -1, 1 are wanted. Second: -8/3, 7/3, 1/3 where 2, 1, -3 are; linear beyond 1.
    first = 2 * 0.5 * 0.5**2
    second = (14 / 3 - 0.5) + (4 / 3 - 0.5) + (10 / 3 - 0.5)
    assert advantage_loss(Q, by_hand(), -1).item() == pytest.approx((first + second) / 5, rel=1e-6)


def test_the_loss_by_hand_in_the_scale_of_the_state():
    """The least expected cost of an open choice is 1 in the first state and 3 in the second: scales 2 and 4."""
    expected = torch.tensor([[1.0, 3.0, 0.0], [9.0, 3.0, 9.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    batch = by_hand(torch.stack((torch.zeros(2, 3), torch.log1p(expected)), dim=-1), mask)
    first = 2 * 0.5 * 0.25**2
    second = (14 / 12 - 0.5) + 0.5 * (4 / 12) ** 2 + 0.5 * (10 / 12) ** 2
    assert advantage_loss(Q, batch, 1).item() == pytest.approx((first + second) / 5, rel=1e-6)


@pytest.mark.parametrize("anchor", [-1, 0])
def test_perfect_differences_cost_nothing_whatever_a_state_is_worth(anchor):
    worth = torch.tensor([[-700.0], [12.5]])
    q = -COST + worth
    assert advantage_loss(q, by_hand(), anchor).item() == pytest.approx(0.0, abs=1e-9)
    assert advantage_loss(q + torch.tensor([[0.0, 1.0, 0.0]]), by_hand(), anchor).item() > 0.1


def test_a_constant_added_to_the_values_of_a_state_changes_nothing():
    shifted = advantage_loss(Q + torch.tensor([[64.0], [-32.0]]), by_hand(), -1)
    assert shifted.item() == pytest.approx(advantage_loss(Q, by_hand(), -1).item(), rel=1e-5)


@pytest.mark.parametrize("filler", [0.0, 1e30, float("inf"), float("nan")])
def test_what_was_not_tried_does_not_matter(filler):
    cost, q = torch.where(TRIED, COST, filler), Q.clone().requires_grad_()
    wanted, values = advantage_loss(Q, by_hand(), -1), Q.clone()
    values[0, 2] = -1e6
    assert advantage_loss(values, by_hand(cost=cost), -1).item() == wanted.item()
    (slope,) = torch.autograd.grad(advantage_loss(q, by_hand(cost=cost), -1), q)
    assert slope[0, 2] == 0.0
    assert (slope[TRIED] != 0.0).all()


def test_the_gradient_moves_values_against_each_other_and_not_together():
    q = Q.clone().requires_grad_()
    (slope,) = torch.autograd.grad(advantage_loss(q, by_hand(), -1), q)
    assert slope.sum(dim=1).tolist() == pytest.approx([0.0, 0.0], abs=1e-7)
    assert slope[0, 0] > 0 > slope[0, 1], "the first choice cost more than its value says"


def test_a_batch_is_split_by_rows_and_loses_none():
    batch = by_hand(torch.arange(6.0).reshape(2, 3, 1))
    parts = batch.split(2)
    assert [len(one.obs) for one in parts] == [1, 1]
    for field in dataclasses.fields(RolloutBatch):
        assert torch.equal(torch.cat([getattr(one, field.name) for one in parts]), getattr(batch, field.name))


# The memory


def numbered(first, count, servers=S, features=F):
    """Rollouts first, first + 1, ... that carry their number in every column that holds numbers."""
    number = np.arange(first, first + count, dtype=np.float32)
    pair = np.ones((count, servers), dtype=np.bool_)
    tried = pair & ((np.arange(servers) < 2) | (number[:, None] % 2 == 0))
    return Rollouts(
        np.broadcast_to(number[:, None, None], (count, servers, features)).copy(), pair, tried, np.tile(number[:, None], servers)
    )


def held(memory, servers=S):
    """Numbers that are kept, sorted."""
    obs, _, _, cost = memory.state_dict()[servers]["rows"]
    assert torch.equal(obs[:, 0, 0], cost[:, 0])
    return sorted(int(one) for one in cost[:, 0])


def test_the_oldest_is_replaced():
    memory = RolloutMemory(5, S, F)
    memory.add(numbered(0, 3))
    assert (len(memory), memory.fill, held(memory)) == (3, 0.6, [0, 1, 2])
    memory.add(numbered(3, 4))
    assert (len(memory), memory.fill, held(memory)) == (5, 1.0, [2, 3, 4, 5, 6])
    for one in range(7, 20):
        memory.add(numbered(one, 1))
        assert held(memory) == list(range(one - 4, one + 1))


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("count", [4, 5, 6, 11])
def test_of_more_than_there_is_room_for_the_last_stay_and_the_next_replace_the_oldest(before, count):
    memory = RolloutMemory(4, S, F)
    memory.add(numbered(0, before))
    memory.add(numbered(before, count))
    last = before + count
    assert held(memory) == list(range(last - 4, last))
    memory.add(numbered(last, 1))
    assert held(memory) == list(range(last - 3, last + 1))


def test_what_is_kept_is_a_copy():
    memory, given = RolloutMemory(4, S, F), numbered(0, 2)
    memory.add(given)
    for column in given:
        column[...] = 0
    assert held(memory) == [0, 1]


def test_sizes_are_kept_apart_and_larger_ones_in_shorter_rings():
    memory = RolloutMemory(12, S, F)
    memory.add(numbered(0, 20))
    memory.add(numbered(100, 20, servers=2 * S))
    memory.add(numbered(200, 20, servers=100 * S))
    assert held(memory) == list(range(8, 20))
    assert held(memory, 2 * S) == list(range(114, 120))
    assert held(memory, 100 * S) == [218, 219]
    memory.add(numbered(300, 20, servers=2))
    assert len(memory) == 12 + 6 + 2 + 12, "no ring is longer than the first"


def test_samples_are_of_one_size_in_proportion_to_what_is_held():
    memory, rng = RolloutMemory(90, S, F), np.random.default_rng(0)
    memory.add(numbered(0, 60))
    memory.add(numbered(100, 20, servers=2 * S))
    drawn = [memory.sample(rng, 8, CPU) for _ in range(2000)]
    sizes = np.array([batch.obs.shape[1] for batch in drawn])
    assert set(sizes.tolist()) == {S, 2 * S}
    assert abs((sizes == S).mean() - 0.75) < 0.04
    for batch in drawn[:50]:
        assert [tuple(getattr(batch, name).shape) for name in ("mask", "tried", "cost")] == [(8, batch.obs.shape[1])] * 3
        assert ((batch.cost[:, 0] >= 100) == (batch.obs.shape[1] == 2 * S)).all()


def test_a_sample_holds_whole_rows_and_none_that_is_empty():
    memory, rng = RolloutMemory(500, S, F), np.random.default_rng(0)
    memory.add(numbered(1, 30))
    batch = memory.sample(rng, 3000, CPU)
    assert torch.equal(batch.obs[:, 0, 0], batch.cost[:, 0])
    assert torch.equal(batch.tried[:, 2], batch.cost[:, 0] % 2 == 0)
    counts = np.bincount(batch.cost[:, 0].long().numpy(), minlength=31)
    assert counts[0] == 0
    assert counts[1:].min() > 50
    assert counts[1:].max() < 150


def test_a_sample_depends_on_its_chance_alone():
    memory = RolloutMemory(90, S, F)
    memory.add(numbered(0, 60))
    memory.add(numbered(100, 20, servers=2 * S))
    found = []
    for seed in (1, 1, 2):
        rng = np.random.default_rng(seed)
        found.append([memory.sample(rng, 16, CPU).cost.tolist() for _ in range(5)])
    assert found[0] == found[1] != found[2]


def test_a_restored_memory_goes_on_as_the_stored_one():
    first, second = RolloutMemory(10, S, F), RolloutMemory(10, S, F)
    for number in (0, 7):
        first.add(numbered(number, 7))
    first.add(numbered(100, 3, servers=2 * S))
    second.load_state_dict(first.state_dict())
    for memory in (first, second):
        for number, servers in ((14, S), (103, 2 * S)):
            memory.add(numbered(number, 3, servers))
    assert same(first.state_dict(), second.state_dict())
    assert len(first) == len(second) == 15
    assert torch.equal(*(memory.sample(np.random.default_rng(3), 50, CPU).cost for memory in (first, second)))


def test_a_stored_memory_is_a_copy():
    memory = RolloutMemory(4, S, F)
    memory.add(numbered(0, 4))
    state = memory.state_dict()
    memory.add(numbered(4, 4))
    assert state[S]["rows"][3][:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("other", [RolloutMemory(10, S, F + 1), RolloutMemory(4, S, F)], ids=["features", "capacity"])
def test_a_memory_of_other_shapes_is_refused(other):
    memory = RolloutMemory(10, S, F)
    memory.add(numbered(0, 10))
    with pytest.raises(CheckpointError, match=r"stored rollouts are \(10, 3, 4\), this run keeps \(.*\); resume with its settings"):
        other.load_state_dict(memory.state_dict())


# The gradient step

STUDIOUS = DQNConfig(hidden=16, learning_rate=5e-3, batch=128)


def by_the_first_feature(rng, rows, some=False):
    """What a choice costs is twice its first feature, and something that all choices of the state have in common."""
    obs = rng.random((rows, S, F), dtype=np.float32)
    common = 50.0 * rng.standard_normal((rows, 1)).astype(np.float32)
    tried = np.ones((rows, S), dtype=np.bool_)
    if some:
        tried[np.arange(rows), rng.integers(0, S, rows)] = False
    cost = np.where(tried, 2.0 * obs[:, :, 0] + common, np.float32(np.nan))
    return Rollouts(obs, np.ones((rows, S), dtype=np.bool_), tried, cost)


def tensors(rollouts):
    return RolloutBatch(*(torch.from_numpy(column) for column in rollouts))


def share_found(network, rng):
    """Of states whose least cost the greedy choice finds."""
    obs = rng.random((2000, S, F), dtype=np.float32)
    with torch.no_grad():
        q = network(torch.from_numpy(obs), torch.ones(2000, S, dtype=torch.bool))
    return float((q.argmax(dim=1).numpy() == obs[:, :, 0].argmin(axis=1)).mean())


@pytest.mark.parametrize("changes", [{}, {"network": "mlp"}, {"dueling": False}], ids=["set", "mlp", "plain"])
@pytest.mark.parametrize("some", [False, True], ids=["all", "two"])
def test_the_choice_of_least_cost_is_learned(changes, some):
    learner, rng = Learner(dataclasses.replace(STUDIOUS, **changes), F, S, seed=0), np.random.default_rng(1)
    losses = [learner.study(tensors(by_the_first_feature(rng, 128, some))).loss for _ in range(400)]
    assert losses[-1] < 0.1 * losses[0]
    assert learner.updates == 400
    assert share_found(learner.online, rng) > 0.95, "chance is 0.33"


def test_a_step_cut_in_two_learns_the_same_task():
    learner, rng = Learner(dataclasses.replace(STUDIOUS, batch=512), F, S, seed=0), np.random.default_rng(1)
    for _ in range(300):
        learner.study(tensors(by_the_first_feature(rng, 512)))
    assert share_found(learner.online, rng) > 0.95


def test_the_loss_of_a_step_is_that_of_the_batch():
    learner, batch = Learner(STUDIOUS, F, S, seed=0), tensors(by_the_first_feature(np.random.default_rng(0), 64))
    with torch.no_grad():
        q = learner.online(batch.obs, batch.mask)
    stats = learner.study(batch)
    assert stats.loss == pytest.approx(advantage_loss(q, batch, -1).item(), rel=1e-5)
    assert stats.q_mean == pytest.approx(q.mean().item(), rel=1e-4)


def test_the_gradient_does_not_reach_what_a_state_is_worth():
    """Neither its head nor that part of the context that feeds it, but for rounding."""
    learner = Learner(STUDIOUS, F, S, seed=0)
    learner.study(tensors(by_the_first_feature(np.random.default_rng(0), 64)))
    slope, hidden = {name: one.grad.abs().max().item() for name, one in learner.online.named_parameters()}, STUDIOUS.hidden
    context = learner.online.context.weight.grad.abs()
    assert slope["advantage.weight"] > 1e-3
    assert context[:hidden].max() > 1e-3
    assert max(slope["value.weight"], slope["value.bias"], context[hidden:].max().item()) < 1e-6


def rewarded(rows=128):
    """Decisions among choices of equal cost, rewarded by 7 whatever is chosen."""
    g = torch.Generator().manual_seed(5)
    obs, mask = torch.rand(rows, S, F, generator=g), torch.ones(rows, S, dtype=torch.bool)
    obs[:, :, 0] = 0.5
    action, reward = torch.randint(S, (rows,), generator=g), torch.full((rows,), 7.0)
    return Batch(obs=obs, mask=mask, action=action, reward=reward, discount=torch.zeros(rows), next_obs=obs, next_mask=mask)


@pytest.mark.parametrize("rows", [128, 512], ids=["whole", "cut"])
def test_rewards_and_rollouts_are_learned_in_one_step(rows):
    learner, rng = Learner(dataclasses.replace(STUDIOUS, batch=rows), F, S, seed=0), np.random.default_rng(1)
    for _ in range(400):
        learner.update(rewarded(rows), rollouts=tensors(by_the_first_feature(rng, rows)))
    assert learner.updates == 400
    assert share_found(learner.online, rng) > 0.95
    with torch.no_grad():
        q = learner.online(rewarded().obs, rewarded().mask)
    assert q.mean().item() == pytest.approx(7.0, abs=0.7), "of which rollouts say nothing"


def test_the_loss_of_both_is_the_sum():
    learner, batch = Learner(STUDIOUS, F, S, seed=0), tensors(by_the_first_feature(np.random.default_rng(0), 128))
    alone = Learner(STUDIOUS, F, S, seed=0).update(rewarded()).loss
    other = Learner(STUDIOUS, F, S, seed=0).study(batch).loss
    assert learner.update(rewarded(), rollouts=batch).loss == pytest.approx(alone + other, rel=1e-5)


# The agent

AGENT = dataclasses.replace(QUICK, batch=16, rollouts_per_update=10, rollout_capacity=200)


def observe_decisions(agent, decisions):
    mask, obs = np.ones((1, S), np.bool_), np.zeros((1, S, F), np.float32)
    agent.begin(1)
    for _ in range(decisions):
        agent.credit(agent.observe(obs, mask, np.zeros(1, np.int64)), np.zeros(1, np.float32), np.ones(1, np.bool_))
    agent.finish(obs, mask)


def test_steps_are_due_by_rollouts_once_there_are_enough_for_a_batch():
    agent, rng = DQNAgent(AGENT, F, S, seed=0), np.random.default_rng(0)
    agent.note([by_the_first_feature(rng, 15)], 100)
    assert agent.study() == []
    agent.note([by_the_first_feature(rng, 8), by_the_first_feature(rng, 6)], 100)
    assert agent.rollouts == 29
    assert len(agent.study()) == 2, "those that were waiting too"
    assert agent.study() == []
    agent.note([by_the_first_feature(rng, 1)], 0)
    assert len(agent.study()) == 1
    assert agent.updates == 3


def test_decisions_of_rollouts_count_for_chance():
    agent = DQNAgent(dataclasses.replace(AGENT, epsilon_decisions=100, epsilon_end=0.5), F, S, seed=0)
    agent.note([], 50)
    assert agent.decisions == 50
    assert agent.epsilon == 0.75


def test_what_rewards_have_earned_does_not_depend_on_rollouts():
    config = dataclasses.replace(AGENT, learn_start=20, decisions_per_update=10)
    agent = DQNAgent(config, F, S, seed=0)
    agent.note([by_the_first_feature(np.random.default_rng(0), 100)], 5000)
    assert agent.updates_due() == 0
    assert len(agent.study()) == 10
    observe_decisions(agent, 50)
    assert agent.decisions == 5050
    assert agent.updates_due() == 3, "only decisions that were rewarded, less the start"
    assert len(agent.learn(max_updates=1)) == 1
    assert agent.updates_due() == 2
    assert agent.study() == [], "and the reverse"
    assert len(agent.learn()) == 2
    assert agent.updates == 13


def test_rewards_teach_beside_the_rollouts_that_are_kept():
    """The rewards are all alike, and say nothing of the choices."""
    config = dataclasses.replace(AGENT, batch=64, learn_start=0, decisions_per_update=1)
    agent, rng = DQNAgent(config, F, S, seed=0), np.random.default_rng(0)
    agent.note([by_the_first_feature(rng, 200)], 0)
    observe_decisions(agent, 400)
    assert len(agent.learn()) == 400
    assert share_found(agent.policy_network, rng) > 0.9


def lesson(agent, seed):
    """Rollouts of two sizes, and decisions with rewards; every loss."""
    rng, losses = np.random.default_rng(seed), []
    for _ in range(3):
        agent.note([by_the_first_feature(rng, 25), numbered(0, 7, servers=2 * S)], 40)
        losses += [stats.loss for stats in agent.study()]
    return losses + play(agent, Identity(seed=seed), episodes=3)[1]


@pytest.mark.parametrize("changes", [{}, {"average": 0.01}, {"anchor": 0}], ids=["plain", "average", "anchor"])
def test_a_resumed_agent_goes_on_bit_by_bit(tmp_path, changes):
    config = dataclasses.replace(AGENT, **changes)
    through, resumed = DQNAgent(config, F, S, seed=0), DQNAgent(config, F, S, seed=77)
    lesson(through, 1)
    save_state(tmp_path / "resume.pth", through.state_dict())
    resumed.load_state_dict(load_state(tmp_path / "resume.pth"))
    losses = [lesson(agent, 2) for agent in (through, resumed)]
    assert len(losses[0]) > 30
    assert losses[0] == losses[1]
    assert same(through.state_dict(), resumed.state_dict())
    assert through.rollouts == resumed.rollouts == 2 * 3 * 32


def test_the_same_seed_studies_the_same():
    agents = [DQNAgent(AGENT, F, S, seed=seed) for seed in (0, 0, 1)]
    for agent in agents:
        lesson(agent, 1)
    found = [agent.state_dict() for agent in agents]
    assert same(found[0], found[1])
    assert not same(found[0]["learner"]["online"], found[2]["learner"]["online"])

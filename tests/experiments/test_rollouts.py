"""Training by rollouts: the same run whatever the speed of its processes, and only what near choices lead to is tried out."""

import multiprocessing

import numpy as np
import pytest
import torch

from tiny_runs import BOLD, AtOnce, WhenAsked, same_content, shorten, write_scenario
from trimtab.core.tally import Tallies
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.checkpoint import load_state, save_state
from trimtab.dqn.config import DQNConfig
from trimtab.errors import UsageError
from trimtab.experiments import rollouts
from trimtab.experiments.pool import Workers
from trimtab.experiments.rollouts import AHEAD, FIRST, RolloutTrainer, Unit, played
from trimtab.experiments.train import Stage, Trainer, training_columns
from trimtab.policies.catalogue import LEARNED
from trimtab.problems.base import Task
from trimtab.problems.routing.problem import Routing
from trimtab.problems.routing.world import TWIN_WARMUP

SETTINGS = {**Routing.learner_defaults, **Routing.rollout_defaults, **BOLD}
BATCH = 10
ALL = TWIN_WARMUP + 12  # decisions of an episode, those of the warm-up included


@pytest.fixture(autouse=True)
def short(monkeypatch):
    shorten(monkeypatch.setattr, batch=BATCH)
    monkeypatch.setattr(rollouts, "Workers", AtOnce)


@pytest.fixture
def task(tmp_path):
    return Task(str(write_scenario(tmp_path)), "twin")


def trainer_of(seed=0, **changes):
    agent = DQNAgent(DQNConfig.from_dict({**SETTINGS, **changes}), len(Routing.features), 2, seed)
    return RolloutTrainer(Routing(), agent, seed, 2)


def trained(task, episodes=4 * BATCH, seed=0, trainer=None, **changes):
    """(rows, trainer) of a run in the twin, up to `episodes`."""
    trainer = trainer or trainer_of(seed, **changes)
    return [row for batch in trainer.run([stage_of(task, episodes)]) for row in batch], trainer


def stage_of(task, episodes):
    return Stage(Routing().open(task), episodes, task=task)


def without_time(rows):
    """As text, in which nan equals nan."""
    return [str({name: cell for name, cell in row.items() if name != "wall_s"}) for row in rows]


def unit_of(task, **changes):
    config = DQNConfig.from_dict({**SETTINGS, **changes})
    weights = DQNAgent(config, len(Routing.features), 2, 0).policy_network.state_dict()
    arrays = {name: one.numpy() for name, one in weights.items()}
    return Unit("routing", task, 0, 0, BATCH, 12, 2, config.to_dict(), 0.1, arrays)


# Rows


def test_rows_come_in_order_with_the_documented_columns(task):
    rows, trainer = trained(task, 45)
    assert [row["episode"] for row in rows] == list(range(1, 46))
    for row in rows:
        assert set(training_columns(Routing())) <= set(row)
        assert (row["phase"], row["backend"], row["episode_length"]) == (1, "twin", 12)
        assert row["average_reward"] == pytest.approx(row["total_reward"] / 12)
    assert trainer.episode == 45


def test_phases_follow_the_curriculum(task):
    rows, _ = trained(task, 110)
    assert [(row["phase"], row["episode_length"]) for row in rows] == [(1, 12)] * 100 + [(2, 16)] * 10


def test_the_network_learns_from_rollouts_alone(task):
    rows, trainer = trained(task)
    agent, untouched = trainer.agent, trainer_of().agent
    assert agent.rollouts > SETTINGS["batch"]
    assert agent.updates == agent.rollouts // SETTINGS["rollouts_per_update"]
    assert not same_content(agent.policy_network.state_dict(), untouched.policy_network.state_dict())
    assert agent.updates_due() == 0
    assert agent._replay.fill == 0.0, "no decision waits for its reward"
    assert np.isfinite(float(rows[-1]["loss"]))


def test_decisions_are_counted_and_tallied(task):
    _, trainer = trained(task, 3 * BATCH)
    assert trainer.agent.decisions == 3 * BATCH * 12
    ((key, tally),) = list(trainer.tallies)
    assert (key.backend, key.policy, key.servers) == ("twin", LEARNED, ("server-1", "server-2"))
    assert tally.decisions.sum() == 3 * BATCH * ALL


# Chance and time


def test_another_seed_gives_other_episodes_and_weights(task):
    (first, one), (second, other) = (trained(task, 3 * BATCH, seed=seed) for seed in (0, 1))
    assert [row["total_reward"] for row in first] != [row["total_reward"] for row in second]
    assert not same_content(one.agent.policy_network.state_dict(), other.agent.policy_network.state_dict())


@pytest.mark.parametrize("workers", [AtOnce, WhenAsked, Workers], ids=["fast", "slow", "processes"])
def test_the_speed_of_workers_changes_nothing(task, monkeypatch, workers):
    first, one = trained(task)
    monkeypatch.setattr(rollouts, "Workers", workers)
    second, other = trained(task)
    assert without_time(first) == without_time(second)
    assert same_content(one.agent.state_dict(), other.agent.state_dict())
    assert multiprocessing.active_children() == []


def test_a_batch_is_played_with_the_weights_after_the_one_before_the_last(task, monkeypatch):
    units = []

    class Seen(AtOnce):
        def give(self, work, unit):
            units.append(unit)
            return super().give(work, unit)

    monkeypatch.setattr(rollouts, "Workers", Seen)
    trainer = trainer_of()
    known = [trainer._present()] * AHEAD
    for _ in trainer.run([stage_of(task, 5 * BATCH)]):
        known.append(trainer._present())
    assert [unit.first for unit in units] == [BATCH * n for n in range(5)]
    for unit, (epsilon, weights) in zip(units, known, strict=False):
        assert unit.epsilon == epsilon
        assert all(np.array_equal(unit.weights[name], weights[name]) for name in weights)
    assert not np.array_equal(*(next(iter(unit.weights.values())) for unit in (units[0], units[-1])))


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_stored_run_goes_on_as_if_nothing_had_happened(task, tmp_path, batches):
    whole, expected = trained(task, 5 * BATCH)
    first, trainer = [], trainer_of()
    stretch = trainer.run([stage_of(task, 5 * BATCH)])
    for _ in range(batches):
        first += next(stretch)
    save_state(tmp_path / "state.pth", {"agent": trainer.agent.state_dict(), "trainer": trainer.state_dict()})
    other, state = trainer_of(), load_state(tmp_path / "state.pth")
    other.agent.load_state_dict(state["agent"])
    other.episode = batches * BATCH
    other.load_state_dict(state["trainer"])
    second, resumed = trained(task, 5 * BATCH, trainer=other)
    assert without_time(first + second) == without_time(whole)
    assert same_content(resumed.agent.state_dict(), expected.agent.state_dict())
    assert same_content(resumed.state_dict(), expected.state_dict())


def test_what_is_stored_does_not_change_with_what_is_learned_later(task):
    trainer = trainer_of()
    stretch = trainer.run([stage_of(task, 5 * BATCH)])
    next(stretch)
    kept = trainer.state_dict()
    before = {name: one.clone() for name, one in kept["weights"].items()}
    for _ in stretch:
        pass
    assert same_content(kept["weights"], before)


# Ends


def test_an_error_of_a_batch_is_the_trainer_s(tmp_path):
    missing = Task(str(tmp_path / "missing.toml"), "twin")
    stage = Stage(Routing().open(Task(str(write_scenario(tmp_path)), "twin")), BATCH, task=missing)
    with pytest.raises(UsageError, match=r"missing\.toml"):
        next(trainer_of().run([stage]))


def test_whoever_stops_listening_lets_the_workers_go(task, monkeypatch):
    over = []

    class Ending(AtOnce):
        def __exit__(self, *_):
            over.append(True)

    monkeypatch.setattr(rollouts, "Workers", Ending)
    stretch = trainer_of().run([stage_of(task, 5 * BATCH)])
    next(stretch)
    assert over == []
    stretch.close()
    assert over == [True]


def test_no_batch_is_begun_that_nobody_wants(task, monkeypatch):
    class Counted(AtOnce):
        given = 0

        def give(self, work, unit):
            Counted.given += 1
            return super().give(work, unit)

    monkeypatch.setattr(rollouts, "Workers", Counted)
    trained(task, BATCH + 3)
    assert Counted.given == 2
    assert trained(task, BATCH, trainer=trainer_of())[1].episode == BATCH
    assert Counted.given == 3


# Rewards after rollouts


def test_a_stage_without_copies_learns_from_rewards_and_keeps_rollouts_in_the_loss(task):
    trainer, beside = trainer_of(), []
    update = trainer.agent._learner.update
    trainer.agent._learner.update = lambda batch, cloning, tried: beside.append(tried) or update(batch, cloning, tried)
    world = Routing().open(task)
    rows = [row for batch in trainer.run([Stage(world, 3 * BATCH, task=task), Stage(world, 5 * BATCH, phase=4)]) for row in batch]
    assert [row["phase"] for row in rows] == [1] * 3 * BATCH + [4] * 2 * BATCH
    assert beside, "rewards taught"
    assert all(len(tried.obs) == SETTINGS["batch"] for tried in beside)
    assert trainer.agent.decisions == 5 * BATCH * 12


def test_without_a_task_it_is_the_trainer_from_rewards(task):
    world = Routing().open(task)
    by_rewards = Trainer(Routing(), trainer_of().agent, 0)
    first, second = ([row for batch in one.run([Stage(world, 2 * BATCH)]) for row in batch] for one in (by_rewards, trainer_of()))
    assert without_time(first) == without_time(second)


# Trying out


def test_near_choices_are_tried_out(task):
    harvest = played(unit_of(task))
    assert harvest.rollouts
    for one in harvest.rollouts:
        assert one.obs.shape[1:] == (2, len(Routing.features))
        assert (one.tried.sum(axis=1) == 2).all()
        assert not (one.tried & ~one.mask).any()
        assert np.isfinite(one.cost).all()
        assert (one.cost > 0).all()
    assert any((one.cost[:, 0] != one.cost[:, 1]).any() for one in harvest.rollouts)


def test_trying_out_leaves_the_episodes_as_they_are(task):
    often, never = played(unit_of(task, rollout_every=5)), played(unit_of(task, rollout_every=10**9))
    assert len(often.rollouts) > 20
    assert never.rollouts == []
    assert str(often.metrics) == str(never.metrics)
    (_, counted), (_, expected) = often.tallies[0], never.tallies[0]
    assert all(np.array_equal(one, other) for one, other in zip(counted, expected, strict=True))


def test_a_choice_that_no_greedy_decision_takes_is_not_tried_out(task):
    assert played(unit_of(task, bound_factor=1.0, bound_slack=0.0, rollout_every=5)).rollouts == []


def test_a_horizon_beyond_the_episode_is_refused(task):
    most = ALL + 1 - FIRST
    with pytest.raises(UsageError, match=rf"rollout_horizon is {most + 1}; allowed: at most {most} in these episodes"):
        played(unit_of(task, rollout_horizon=most + 1))
    played(unit_of(task, rollout_horizon=most))


def test_a_batch_is_played_alike_in_any_order(task):
    unit = unit_of(task)
    first = played(unit)
    played(unit_of(task, rollout_every=7))
    again = played(unit)
    for one, other in zip(first.rollouts, again.rollouts, strict=True):
        assert all(np.array_equal(mine, yours) for mine, yours in zip(one, other, strict=True))
    assert str(first.metrics) == str(again.metrics)


def test_tallies_of_workers_add_up(task):
    unit, total = unit_of(task), Tallies()
    for key, tally in [*played(unit).tallies, *played(unit).tallies]:
        total.merge(key, tally)
    ((_, tally),) = list(total)
    assert tally.decisions.sum() == 2 * BATCH * ALL


def test_a_copy_of_the_network_decides_as_the_original(task):
    trainer = trainer_of()
    unit = unit_of(task)
    copied = rollouts._network(DQNConfig.from_dict(unit.learner), Routing(), unit)
    assert same_content(copied.state_dict(), trainer.agent.policy_network.state_dict())
    assert all(isinstance(one, torch.Tensor) for one in copied.state_dict().values())

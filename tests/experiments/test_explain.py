"""What a model goes by: permuted features, the states of the learned rule, the files."""

import csv

import numpy as np
import pytest
import torch

from tiny_runs import SCENARIO, write_scenario
from trimtab.core.observation import EXPECTED_COST, FEATURES, observation
from trimtab.dqn.checkpoint import Checkpoint, save_checkpoint
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network
from trimtab.errors import CheckpointError
from trimtab.experiments import explain, learned_rule
from trimtab.policies import catalogue, load
from trimtab.policies.learned import LearnedPolicy
from trimtab.problems.base import Task
from trimtab.problems.routing.problem import Routing

DELAY = FEATURES.index("delay")
EPISODES = 4


def by_column(column, sign=-1.0, anchor=-1):
    """A network that looks at one column alone: Q = 32 + sign x column, through its rectifiers."""
    config = DQNConfig(hidden=4, dueling=False, anchor=anchor, trust=1.0)
    network = build_network(config, len(FEATURES), 2)
    with torch.no_grad():
        network.encoder_in.weight[0, column] = sign
        network.encoder_in.bias[0] = 32.0
        for layer in (network.encoder_out, network.own, network.advantage):
            layer.weight[0, 0] = 1.0
    return network.requires_grad_(False)


def save(path, network, config=None, problem="routing", observation=FEATURES):
    config = config or DQNConfig(hidden=4, dueling=False)
    save_checkpoint(path, Checkpoint(problem, observation, 2, config, 1, network.state_dict(), {}))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = write_scenario(tmp_path_factory.mktemp("world"), SCENARIO)
    return Routing().open(Task(str(path), "twin"))


@pytest.fixture(scope="module")
def seen(world):
    return explain.play(world, LearnedPolicy("dqn", by_column(DELAY)), 0, EPISODES)[2]


# Permutation importance


def test_only_the_feature_that_the_network_looks_at_matters(seen):
    network = by_column(DELAY)
    found = [explain.permuted_importance(network, seen, name, columns, 0) for name, columns in explain.subjects().items()]
    first, *others = explain.ranked(found)
    assert first.name == "delay"
    assert 0 < first.changed_share < 1
    assert first.q_loss == pytest.approx(first.changed_share * first.q_loss_changed)
    assert {(one.changed_share, one.q_loss) for one in others} == {(0.0, 0.0)}


def test_the_loss_is_that_of_the_choice_by_permuted_features(seen):
    """By hand: a rule of least delay loses the difference of the delays as they are."""
    order = np.random.default_rng([0, DELAY]).permutation(len(seen.obs))
    delay = seen.obs[:, :, DELAY]
    own, other = delay.argmin(axis=1), delay[order].argmin(axis=1)
    rows = np.arange(len(delay))
    found = explain.permuted_importance(by_column(DELAY), seen, "delay", (DELAY,), 0)
    assert found.changed_share == pytest.approx((own != other).mean(), abs=0.01)
    assert found.q_loss == pytest.approx((delay[rows, other] - delay[rows, own]).mean(), abs=1e-3)


def test_the_anchor_counts_though_nothing_was_learned(seen):
    network = build_network(DQNConfig(hidden=4, anchor=EXPECTED_COST), len(FEATURES), 2, torch.Generator().manual_seed(0))
    found = explain.permuted_importance(network, seen, "expected_cost", (EXPECTED_COST,), 0)
    assert found.changed_share > 0
    assert found.q_loss > 0
    assert explain.permuted_importance(network, seen, "delay", (DELAY,), 0).changed_share == 0


def test_permuting_leaves_what_was_seen_alone(seen):
    before = seen.obs.copy()
    explain.permuted_importance(by_column(DELAY), seen, explain.GROUP, explain.subjects()[explain.GROUP], 0)
    assert np.array_equal(seen.obs, before)


def test_the_group_is_what_moods_infer_and_not_the_anchor():
    columns = explain.subjects()[explain.GROUP]
    assert EXPECTED_COST not in columns
    assert len(columns) == len(explain.MOODS) == len(set(columns))


def test_decisions_after_the_warmup_are_kept(world, seen):
    assert seen.obs.shape == (60 * EPISODES, 2, len(FEATURES))
    assert seen.available.all()


def test_beyond_the_limit_every_second_is_kept(world, monkeypatch):
    monkeypatch.setattr(explain, "MOST_ROWS", 200)
    thinned = explain.play(world, LearnedPolicy("dqn", by_column(DELAY)), 0, EPISODES)[2]
    assert 100 <= thinned.available.size <= 200


def test_played_rows_are_the_most_important_and_the_group(world, seen, monkeypatch):
    monkeypatch.setattr(explain, "PLAYED", 1)
    network = by_column(DELAY)
    latency_ms = explain.play(world, LearnedPolicy("dqn", network), 0, EPISODES)[0]
    rows = list(explain.importance_rows(world, network, "m.pth", seen, latency_ms, 0))
    played = {row["feature"]: row["latency_percent"] for row in rows if row["latency_percent"] is not None}
    assert set(played) == {"delay", explain.GROUP}
    assert played["delay"] != 0
    assert played[explain.GROUP] == 0  # the same decisions on the same requests
    assert len(rows) == len(FEATURES) + 1


# The learned rule


@pytest.fixture(scope="module")
def states():
    return learned_rule._states(2)


def cell(states, wait, own):
    return states[1].index((wait, own))


def test_the_ledger_knows_wait_and_own_service_exactly(states):
    view, cells = states
    rows = observation(view)
    wait, own = FEATURES.index("wait"), FEATURES.index("own_service")
    unit = rows[:, 1, own]  # own service of B
    assert rows[:, 0, wait] / unit == pytest.approx([one for one, _ in cells], abs=1e-5)
    assert rows[:, 0, own] / unit == pytest.approx([one for _, one in cells], rel=1e-5)
    assert rows[:, 1, wait] / unit == pytest.approx(np.full(len(cells), learned_rule.WAIT_B), rel=1e-5)


def test_averages_of_the_fleet_are_the_same_in_every_state(states):
    ledger = states[0].ledger
    assert ledger.gap_s == pytest.approx(np.full(len(ledger.gap_s), learned_rule.GAP * learned_rule.UNIT_S))
    assert np.ptp(ledger.class_share, axis=0) == pytest.approx([0, 0])


def test_where_both_are_alike_they_look_alike(states):
    rows = observation(states[0])[cell(states, 1.0, 1.0)]
    assert rows[0] == pytest.approx(rows[1], abs=1e-4)


def test_nothing_but_the_other_class_is_in_flight(states):
    assert not states[0].ledger.in_flight[:, :, 0].any()


def test_a_network_of_the_delay_has_the_line_of_sed_online():
    rows = learned_rule.rule_rows(by_column(DELAY), "m.pth")
    assert len(rows) == len(learned_rule.WAITS) * len(learned_rule.OWN)
    for row in rows:
        gap = 2.0 - row["wait"] - row["own_service"]
        assert row["sed_online"] == pytest.approx(gap, abs=1e-5)
        if abs(gap) > 1e-6:
            assert row["chosen"] == ("A" if gap > 0 else "B")
            assert row["advantage"] * gap > 0


def test_an_untrained_network_on_the_anchor_has_the_line_of_sed_moods():
    network = build_network(DQNConfig(hidden=4, anchor=EXPECTED_COST), len(FEATURES), 2, torch.Generator().manual_seed(0))
    for row in learned_rule.rule_rows(network, "m.pth"):
        if abs(row["sed_moods"]) > 1e-3:
            assert row["advantage"] * row["sed_moods"] > 0


def test_a_network_for_four_servers_decides_between_two():
    config = DQNConfig(network="mlp", hidden=4)
    network = build_network(config, len(FEATURES), 4, torch.Generator().manual_seed(0)).requires_grad_(False)
    assert {row["chosen"] for row in learned_rule.rule_rows(network, "m.pth", 4)} <= {"A", "B"}


def test_the_heuristics_in_the_file_are_those_of_the_catalogue(states):
    view = states[0]
    sed = catalogue.build("sed-online")
    sed.reset(np.zeros(len(view.now_s), dtype=np.int64))
    delay = load.expected_delay(view)
    clear = np.abs(delay[:, 0] - delay[:, 1]) > 1e-9
    assert np.array_equal(sed.select(view)[clear], delay.argmin(axis=1)[clear])


# Files


def test_the_files_and_their_columns(world, tmp_path, monkeypatch):
    monkeypatch.setattr(explain, "PLAYED", 1)
    path = save(tmp_path / "m.pth", by_column(DELAY))
    checkpoint, network = explain.load_routing_model(path, 2)
    written = explain.explain(world, catalogue.build("sed-online"), checkpoint, network, path, tmp_path / "out")
    heads = {one.name: next(csv.reader(one.read_text().splitlines())) for one in written}
    assert heads == {
        explain.IMPORTANCE: list(explain.IMPORTANCE_COLUMNS),
        learned_rule.RULE: list(learned_rule.RULE_COLUMNS),
        explain.SHARES: list(explain.SHARES_COLUMNS),
    }
    rows = list(csv.DictReader((tmp_path / "out" / explain.SHARES).read_text().splitlines()))
    decided = [sum(int(row["decisions"]) for row in rows if row["policy"] == name) for name in ("dqn", "sed-online")]
    assert decided == [60 * explain.EPISODES] * 2


def test_a_family_has_no_shares_and_an_old_file_goes(tmp_path):
    stale = tmp_path / explain.SHARES
    stale.write_text("x\n")
    assert explain._replace(stale, explain.SHARES_COLUMNS, []) is None
    assert not stale.exists()


def test_a_model_of_another_problem_is_refused(tmp_path):
    path = save(tmp_path / "park.pth", by_column(DELAY), problem="park")
    with pytest.raises(CheckpointError, match=r"a model of problem 'park'; allowed: one of 'routing'"):
        explain.load_routing_model(path, 2)


def test_a_model_that_sees_something_else_is_refused(tmp_path):
    path = save(tmp_path / "old.pth", by_column(DELAY), observation=FEATURES[:-1])
    with pytest.raises(CheckpointError, match="lacks failing"):
        explain.load_routing_model(path, 2)

"""The benchmark against Stable-Baselines3, on a tiny scenario: it runs to its end, and what it reports is what happened."""

import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tiny_runs import shorten, write_scenario
from trimtab.core.observation import observation
from trimtab.errors import UsageError
from trimtab.problems.catalogue import build
from trimtab.problems.routing.gym_env import RoutingVectorEnv
from trimtab.problems.routing.scenario_files import load_scenario
from trimtab.problems.routing.world import fixed_twin

pytest.importorskip("stable_baselines3", reason="stable_baselines3 not installed; it is part of the extra 'rivals'")
pytest.importorskip("sb3_contrib", reason="sb3_contrib not installed; it is part of the extra 'rivals'")

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # its modules find each other there

import rivals
import rivals_report
import rivals_sb3
import rivals_training
from rivals_training import DECISIONS, SECONDS, Budget, Readings


@pytest.fixture
def tiny(tmp_path):
    return str(write_scenario(tmp_path))


@pytest.fixture
def briefly(monkeypatch):
    shorten(monkeypatch.setattr)
    monkeypatch.setattr(rivals, "REHEARSAL_S", 0.05)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(tiny, out, *options):
    given = ["--scenario", tiny, "--seconds", "0.2", "--seeds", "0,3", "--episodes", "3", "--most-seconds", "200", "--out", str(out)]
    return rivals.main([*given, *options])


# The program


def test_a_tiny_comparison_runs_to_its_table(tiny, tmp_path, briefly, capsys):
    out = tmp_path / "out"
    assert run(tiny, out, "--decisions", "400", "--rivals", "sb3-dqn,sb3-ppo-tuned") == 0
    costs, played = rows_of(out / "training.csv"), rows_of(out / "evaluation.csv")
    learners = ("trimtab", "sb3-dqn", "sb3-ppo-tuned")
    assert {(row["policy"], row["stop"], row["training_seed"]) for row in costs} == {
        (name, stop, seed) for name in learners for stop in (SECONDS, DECISIONS) for seed in ("0", "3")
    }
    assert all(int(row["decisions"]) >= 400 for row in costs if row["stop"] == DECISIONS)
    assert all(float(row["training_s"]) >= 0.2 for row in costs if row["stop"] == SECONDS and row["policy"] != "trimtab")
    assert len(played) == 3 * (len(costs) + len(rivals.CLASSICAL))
    table = (out / "rivals.md").read_text()
    assert table in capsys.readouterr().out
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 2 * len(learners) + len(rivals.CLASSICAL)
    assert [line.split(" | ")[1] for line in lines if line.startswith("| sb3-dqn")] == ["0.2 s", "400 decisions"]


def test_results_are_not_replaced_by_accident(tiny, tmp_path, capsys):
    (tmp_path / "training.csv").write_text("kept")
    assert run(tiny, tmp_path) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "training.csv").read_text() == "kept"


def test_the_rivals_are_listed_with_what_was_changed(tiny, tmp_path, capsys):
    assert run(tiny, tmp_path, "--rivals", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rivals_sb3.RIVALS)
    assert any(line.startswith("sb3-dqn ") and line.endswith(" defaults") for line in lines)
    assert any(line.startswith("sb3-dqn-tuned ") and "gamma=0.95" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--rivals", "sb3-dqn,sb4"], "sb4"), (["--scenario", "leave-join"], "action mask"), (["--scenario", "nowhere"], "nowhere")],
)
def test_what_cannot_be_compared_is_refused_before_training(tiny, tmp_path, capsys, options, named):
    assert run(tiny, tmp_path / "out", *options) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [("--seeds", "1,1"), ("--seeds", "a"), ("--seconds", "0"), ("--seconds", "nan")])
def test_impossible_words_are_refused(option):
    with pytest.raises(SystemExit):
        rivals._parser().parse_args(list(option))


def test_a_missing_package_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setattr(rivals, "PACKAGES", ("stable_baselines3", "no_such_package"))
    with pytest.raises(UsageError, match=r"no_such_package .*\[rivals\]"):
        rivals.require_packages()


# A trained model as a policy


def model_on(tiny, algorithm):
    env = rivals_sb3.RoutingVecEnv(RoutingVectorEnv(2, tiny, decisions=20))
    return algorithm("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, seed=0, device="cpu")


@pytest.mark.parametrize("algorithm", [rivals_sb3.DQN, rivals_sb3.QRDQN, rivals_sb3.PPO])
def test_the_policy_chooses_what_the_model_predicts(tiny, algorithm):
    model = model_on(tiny, algorithm)
    policy = rivals_sb3.Sb3Policy("sb3", model.policy)
    env = fixed_twin(load_scenario(tiny)).evaluation_env(5)
    view, chosen = env.reset(0, range(5)), []
    while view is not None:
        actions = policy.select(view)
        flat = observation(view).reshape(5, -1)
        assert actions.tolist() == [int(model.predict(row, deterministic=True)[0]) for row in flat]
        chosen += actions.tolist()
        view = env.step(actions)
    assert actions.dtype == np.int64
    assert set(chosen) <= {0, 1}


def test_a_policy_without_a_mask_says_so_where_a_server_is_out():
    view = SimpleNamespace(available=np.array([[True, False]]))
    with pytest.raises(UsageError, match="sb3-dqn has no action mask"):
        rivals_sb3.Sb3Policy("sb3-dqn", None).select(view)


def test_every_rival_can_be_made_and_trained(tiny):
    for rival in rivals_sb3.RIVALS:
        readings = Readings(Budget(0.05), rival.name)
        rivals_sb3.train_rival(rival, tiny, 0, readings)
        (reading,) = readings.taken
        assert reading.decisions > 0
        assert reading.policy.name == rival.name


def test_gradient_steps_are_those_of_the_optimizer(tiny):
    rival = rivals_sb3.Rival("two-epochs", rivals_sb3.PPO, 4, {"n_steps": 8, "batch_size": 16, "n_epochs": 2})
    readings = Readings(Budget(1e-6, 65, 60.0), rival.name)
    rivals_sb3.train_rival(rival, tiny, 0, readings)
    reading = readings.taken[-1]
    assert (reading.stop, reading.decisions) == (DECISIONS, 68)
    assert reading.gradient_steps == 2 * 2 * 2, "two rollouts of 32 decisions, two epochs of two batches each"


# The environment as SB3 wants it


def test_new_episodes_begin_with_the_end_of_the_old_ones(tiny):
    env = rivals_sb3.RoutingVecEnv(RoutingVectorEnv(3, tiny, decisions=4))
    env.seed(7)
    env.reset()
    ends, lasts = [], []
    for _ in range(8):
        obs, rewards, done, infos = env.step(np.zeros(3, dtype=np.int64))
        ends.append(bool(done.all()))
        lasts.append([info.get("TimeLimit.truncated", False) for info in infos])
        assert (rewards < 0).all(), "no step is spent on a reset"
    assert ends == [False, False, False, True] * 2
    assert lasts[3] == [True] * 3
    assert not any(lasts[2])
    assert (infos[0]["terminal_observation"] != obs[0]).any()


def test_a_seed_gives_the_same_episodes(tiny):
    def first(seed):
        env = rivals_sb3.RoutingVecEnv(RoutingVectorEnv(2, tiny, decisions=4))
        env.seed(seed)
        env.reset()
        return [env.step(np.array([0, 1]))[1].tolist() for _ in range(6)]

    assert first(1) == first(1) != first(2)


# The clock


@pytest.mark.parametrize(
    ("budget", "moment", "due"),
    [
        (Budget(10.0), (9.9, 10**9), []),
        (Budget(10.0), (10.0, 1), [SECONDS]),
        (Budget(10.0, 500, 60.0), (5.0, 500), [DECISIONS]),
        (Budget(10.0, 500, 60.0), (10.0, 499), [SECONDS]),
        (Budget(10.0, 500, 60.0), (60.0, 1), [SECONDS, DECISIONS]),
    ],
)
def test_a_training_is_read_by_time_and_by_decisions(budget, moment, due):
    assert [stop for stop in budget.stops if budget.due(stop, *moment)] == due


def test_the_clock_stands_still_while_a_policy_is_copied(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(rivals_training.time, "perf_counter", lambda: now[0])
    readings = Readings(Budget(10.0, 500, 60.0), "test")

    def copying():
        now[0] += 100.0

    now[0] = 10.0
    assert readings.look(100, 1, copying)
    assert readings.elapsed_s == pytest.approx(10.0)
    now[0] += 5.0
    assert not readings.look(500, 2, copying)
    assert [(one.stop, one.training_s, one.decisions) for one in readings.taken] == [(SECONDS, 10.0, 100), (DECISIONS, 15.0, 500)]


# The table


def measured(latency_ms, seeds=(0, 1), episodes=12, **names):
    rng = np.random.default_rng(len(names["policy"]))
    others = {"p99_latency_ms": 5 * latency_ms, "error_rate": 0.0}
    return [
        {**names, **others, "training_seed": seed, "episode": n, "mean_latency_ms": latency_ms * rng.uniform(0.99, 1.01)}
        for seed in seeds
        for n in range(episodes)
    ]


def test_the_table_compares_with_ours_at_the_same_stop():
    cost = {"wanted": 10.0, "training_s": 10.0, "decisions": 1000, "gradient_steps": 250}
    trainings = [{"policy": name, "stop": SECONDS, "training_seed": 0, **cost} for name in ("trimtab", "sb3-dqn")]
    trainings += [{"policy": "sb3-dqn", "stop": DECISIONS, "training_seed": 0, **cost, "wanted": 4000}]
    evaluations = measured(20.0, policy="trimtab", stop=SECONDS) + measured(30.0, policy="sb3-dqn", stop=SECONDS)
    evaluations += measured(25.0, policy="sb3-dqn", stop=DECISIONS) + measured(10.0, (None,), policy="oracle-greedy", stop="")
    grid = rivals_report.comparison("tiny", trainings, evaluations)
    rows = {(row[0], row[1]): dict(zip(grid.head, row, strict=True)) for row in grid.body}
    assert list(rows) == [("trimtab", "10 s"), ("sb3-dqn", "10 s"), ("sb3-dqn", "25.0% of 4,000 decisions"), ("oracle-greedy", "-")]
    assert rows["sb3-dqn", "10 s"]["gradient steps per decision"] == "0.25"
    assert rows["sb3-dqn", "10 s"]["decisions/s"] == "100"
    assert rows["sb3-dqn", "10 s"]["mean latency vs trimtab"].startswith(("+49", "+50"))
    assert rows["sb3-dqn", "10 s"]["mean latency vs trimtab"].endswith("worse")
    assert rows["sb3-dqn", "25.0% of 4,000 decisions"]["mean latency vs trimtab"].startswith(("+24", "+25"))
    assert rows["oracle-greedy", "-"]["mean latency vs trimtab"].endswith("better")
    assert rows["trimtab", "10 s"]["mean latency vs trimtab"] == "reference"


def test_classical_policies_are_those_of_the_catalogue():
    assert [build("routing").build_policy(name).name for name in rivals.CLASSICAL] == list(rivals.CLASSICAL)

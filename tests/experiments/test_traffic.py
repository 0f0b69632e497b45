"""Learning from recorded decisions: it learns what is in them, the same each time, and goes on where it was killed."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from recorded import header, lopsided, record, write
from tiny_runs import AGENT, rows_without_time, same_content
from trimtab.cli.train import main
from trimtab.core.request_log import FAILED, UNMEASURED
from trimtab.core.reward import FAILURE_COST
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.checkpoint import load_checkpoint, load_network, load_state
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import q_values
from trimtab.experiments.log_lock import hold
from trimtab.experiments.log_reader import Step
from trimtab.experiments.log_training import EPISODE, LogTrainer
from trimtab.experiments.runs import RunFolder
from trimtab.problems.routing.problem import Routing

SMALL = {"hidden": 8, "batch": 32, "learn_start": 64, "decisions_per_update": 4, "replay_capacity": 4000, "learning_rate": 0.005}
SMALL_ARGS = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
COLUMNS = Routing.training_metrics


@pytest.fixture
def log(tmp_path):
    return header(tmp_path)


def learn(folder, out, *words):
    return main(["--from-log", str(folder), "--out", str(out), "--metrics-port", "0", *SMALL_ARGS, *words])


def rows_of(out):
    head, *rows = (line.split(",") for line in rows_without_time(RunFolder(out).metrics))
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_the_faster_server_is_found_out(tmp_path, log):
    folder = write(tmp_path / "log", log, lopsided(log, 2000))
    assert learn(folder, tmp_path / "out") == 0
    checkpoint = load_checkpoint(RunFolder(tmp_path / "out").final, problem="routing", observation=log.features)
    seen = np.array(lopsided(log, 1)[0]["seen"])[None]
    q = q_values(load_network(checkpoint, 2), seen, np.ones((1, 2), dtype=bool)).numpy()[0]
    assert q[0] > q[1] + 1.0


def test_a_run_from_a_log_writes_what_every_run_does(tmp_path, log, capsys):
    folder = write(tmp_path / "log", log, lopsided(log, 1200))
    assert learn(folder, tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{RunFolder(tmp_path / 'out').final}\n"
    assert f"decisions recorded in {folder}" in captured.err
    rows = rows_of(tmp_path / "out")
    assert [(row["episode"], row["backend"], row["phase"], row["episode_length"]) for row in rows] == [
        ("1", "gateway", "4", "500"),
        ("2", "gateway", "4", "500"),
        ("3", "gateway", "4", "200"),
    ]
    assert {row["optimal_decision_rate"] for row in rows} == {""}
    assert float(rows[0]["mean_latency_ms"]) == pytest.approx(9.0, rel=0.15)
    assert all(float(row["loss"]) >= 0 for row in rows)
    assert json.loads(RunFolder(tmp_path / "out").config.read_text())["log"] == str(folder)


def test_the_same_log_and_seed_give_the_same_weights(tmp_path, log):
    folder = write(tmp_path / "log", log, lopsided(log, 700), lopsided(log, 500, seed=1))
    for out in ("one", "other"):
        assert learn(folder, tmp_path / out, "--seed", "3") == 0
    assert learn(folder, tmp_path / "third", "--seed", "4") == 0
    one, other, third = (load_checkpoint(RunFolder(tmp_path / out).final) for out in ("one", "other", "third"))
    assert same_content(one.network, other.network)
    assert not same_content(one.network, third.network)
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "other")


def test_a_log_can_be_gone_through_more_than_once(tmp_path, log):
    folder = write(tmp_path / "log", log, lopsided(log, 600))
    assert learn(folder, tmp_path / "out", "--epochs", "3") == 0
    assert [row["episode_length"] for row in rows_of(tmp_path / "out")] == ["500", "100"] * 3
    assert load_state(RunFolder(tmp_path / "out").resume_state)["agent"]["decisions"] == 3 * 599


KILLED = """
import os, signal, sys
from trimtab.experiments import session
from trimtab.experiments.log_training import LogTrainer
session.SAVE_EVERY_S = -1.0
take, taken = LogTrainer.take, []

def counted(self, step):
    taken.append(1)
    if len(taken) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return take(self, step)

LogTrainer.take = counted
from trimtab.cli.train import main
sys.exit(main(sys.argv[2:]))
"""


def test_a_learner_that_was_killed_goes_on_as_if_nothing_had_happened(tmp_path, log):
    folder = write(tmp_path / "log", log, lopsided(log, 900), lopsided(log, 900, seed=1))
    assert learn(folder, tmp_path / "whole", "--epochs", "2") == 0
    words = ["--out", str(tmp_path / "cut"), "--metrics-port", "0"]
    start = ["--from-log", str(folder), "--epochs", "2", *SMALL_ARGS, *words]
    for at, rest in ((700, start), (1100, ["--resume", *words])):
        killed = subprocess.run([sys.executable, "-c", KILLED, str(at), *rest], cwd=AGENT, check=False, timeout=120, capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert main(["--resume", *words]) == 0
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    assert rows_without_time(whole.metrics) == rows_without_time(cut.metrics)
    assert same_content(load_state(whole.resume_state)["agent"], load_state(cut.resume_state)["agent"])


# One decision after the other


def trained(log, records, broken=()):
    agent = DQNAgent(DQNConfig(**SMALL), len(log.features), 2, 0)
    trainer = LogTrainer(agent, COLUMNS)
    trainer.open(log)
    rows = [trainer.take(Step(one, number in broken or number == 0)) for number, one in enumerate(records)]
    return trainer, [row for row in rows if row is not None]


def test_the_newest_decision_waits_for_its_successor(log):
    trainer, _ = trained(log, [record(log, number) for number in range(10)])
    assert trainer.agent.decisions == 9


def test_a_break_ends_a_stream_and_begins_another(log):
    trainer, _ = trained(log, [record(log, number) for number in range(10)], broken={4, 7})
    assert trainer.agent.decisions == 7, "the last of each stream closes it"


def test_rewards_are_those_of_training(log):
    statuses = {2: FAILED, 3: UNMEASURED}
    records = [record(log, number, status=statuses.get(number, 1), latency_s=0.002 * (number + 1)) for number in range(6)]
    trainer, _ = trained(log, records)
    replay = trainer.agent.state_dict()["replay"]["replays"][2]
    wanted = [-0.002 / log.unit_s, -0.004 / log.unit_s, -FAILURE_COST]
    assert replay["reward"].numpy()[:3] == pytest.approx(wanted)
    credited, dropped = replay["status"].numpy()[[0, 1, 2, 4]], replay["status"].numpy()[3]
    assert len(set(credited.tolist())) == 1
    assert dropped not in credited


def test_a_row_counts_what_happened_in_its_decisions(log):
    statuses = {5: FAILED, 6: UNMEASURED}
    _, rows = trained(log, [record(log, number, server=number % 2, status=statuses.get(number, 1)) for number in range(EPISODE)])
    (row,) = rows
    assert row["error_rate"] == pytest.approx(1 / (EPISODE - 1))
    assert row["mean_latency_ms"] == pytest.approx(4.0)
    assert row["total_reward"] == pytest.approx(-(EPISODE - 2) * 0.004 / log.unit_s - FAILURE_COST)
    assert row["gini_coefficient"] == pytest.approx(0.0, abs=0.01)
    assert "optimal_decision_rate" not in row
    assert "p50_latency_ms" not in row


# What is refused


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--from-log", "nowhere"], "log.json"),
        (["--from-log", "{log}", "--episodes", "3"], "--episodes"),
        (["--from-log", "{log}", "--scenario", "uniform"], "--scenario"),
        (["--from-log", "{log}", "--traffic", "gateway"], "--traffic"),
        (["--from-log", "{log}", "--backend", "twin"], "--backend"),
        (["--from-log", "{log}", "--reward", "integral"], "integral"),
        (["--from-log", "{log}", "--set", "nonsense=1"], "nonsense"),
        (["--traffic", "gateway", "--heuristic", "p2c"], "--heuristic"),
        (["--traffic", "gateway", "--live-episodes", "3"], "--live-episodes"),
        (["--epochs", "2"], "--epochs"),
        (["--port", "8080"], "--port"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_touches_nothing(tmp_path, log, capsys, words, named):
    folder = write(tmp_path / "log", log, lopsided(log, 50))
    assert main([*(word.format(log=folder) for word in words), "--out", str(tmp_path / "out")]) in (1, 2)
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert named in captured.err
    assert not (tmp_path / "out").exists()


def test_recorded_decisions_are_not_deleted_unasked(tmp_path, log, capsys):
    out = RunFolder(tmp_path / "out")
    out.root.mkdir()
    write(out.decisions, log, lopsided(log, 50))
    before = sorted(path.name for path in out.decisions.iterdir())
    assert main(["--traffic", "gateway", "--scenario", str(tmp_path / "tiny.toml"), "--out", str(out.root)]) == 1
    assert "--from-log" in capsys.readouterr().err
    assert sorted(path.name for path in out.decisions.iterdir()) == before


def test_a_log_that_is_still_written_can_be_learned_from(tmp_path, log):
    folder = write(tmp_path / "log", log, lopsided(log, 600))
    with hold(folder):
        assert learn(folder, tmp_path / "out") == 0
    assert [row["episode_length"] for row in rows_of(tmp_path / "out")] == ["500", "100"]

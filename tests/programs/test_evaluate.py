"""`evaluate_dqn.py` as a user runs it: rows, tables, and nothing replaced by surprise."""

import csv
import subprocess
import sys

import pytest

from tiny_runs import AGENT, LEARNER, write_scenario
from trimtab.cli.evaluate import main
from trimtab.dqn.checkpoint import Checkpoint, save_checkpoint
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network
from trimtab.experiments.evaluate import evaluation_columns
from trimtab.policies.catalogue import NAMES
from trimtab.problems.routing.problem import Routing


@pytest.fixture
def words(tmp_path):
    return ["--scenario", str(write_scenario(tmp_path)), "--csv", str(tmp_path / "evaluation.csv")]


@pytest.fixture
def model(tmp_path):
    """A checkpoint that has learned nothing."""
    config = DQNConfig(**LEARNER)
    network = build_network(config, len(Routing.features), 2)
    path = tmp_path / "model.pth"
    save_checkpoint(path, Checkpoint("routing", Routing.features, 2, config, 0, network.state_dict(), {}))
    return path


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_evaluate_in_the_twin(words, model, tmp_path, capsys):
    assert main(["--model", str(model), "--policies", "dqn,sed-online,p2c", "--episodes", "3", "--seed", "6", *words]) == 0
    captured = capsys.readouterr()
    rows = rows_of(tmp_path / "evaluation.csv")
    assert tuple(rows[0]) == evaluation_columns(Routing())
    assert [(row["policy"], row["episode"]) for row in rows] == [(name, str(n)) for name in ("dqn", "sed-online", "p2c") for n in range(3)]
    assert {(row["scenario"], row["backend"], row["seed"], row["requests"]) for row in rows} == {("tiny", "twin", "6", "60")}
    assert f"model: {model}" in captured.err
    assert captured.out.splitlines()[-1] == str(tmp_path / "evaluation.csv")
    assert all(name in captured.out for name in ("dqn", "sed-online", "p2c"))


def test_all_policies_and_several_scenarios(words, model, tmp_path):
    assert main(["--model", str(model), "--episodes", "2", "--scenario", "uniform", *words]) == 0
    rows = rows_of(tmp_path / "evaluation.csv")
    assert {row["policy"] for row in rows} == {"dqn", *NAMES}
    assert list(dict.fromkeys(row["scenario"] for row in rows)) == ["uniform", "tiny"]
    assert len(rows) == 2 * 2 * (1 + len(NAMES))


def test_a_quantile_without_enough_samples_is_blank(words, tmp_path):
    assert main(["--policies", "p2c", "--episodes", "1", *words]) == 0
    (row,) = rows_of(tmp_path / "evaluation.csv")
    assert row["p999_latency_ms"] == ""
    assert row["p50_latency_ms"] != ""


def test_the_same_seed_gives_the_same_rows(words, tmp_path):
    def measured(seed):
        assert main(["--policies", "p2c,random", "--episodes", "2", "--seed", seed, "--overwrite", *words]) == 0
        return [{name: cell for name, cell in row.items() if name != "decision_us"} for row in rows_of(tmp_path / "evaluation.csv")]

    assert measured("1") == measured("1") != measured("2")


def test_evaluate_over_http_with_servers_of_its_own(words, tmp_path, capsys):
    assert main(["--backend", "http", "--policies", "p2c,sed-online", "--episodes", "1", *words]) == 0
    rows = rows_of(tmp_path / "evaluation.csv")
    assert [row["policy"] for row in rows] == ["p2c", "sed-online"]
    assert {(row["backend"], row["error_rate"], row["requests"]) for row in rows} == {("http", "0", "60")}
    assert all(row["schedule_lag_ms"] != "" for row in rows)
    captured = capsys.readouterr()
    assert "2 local server processes: 2 policies x 1 episodes" in captured.err
    assert "expected: about" in captured.err, "live work says beforehand how long it takes"


def test_overwrite_replaces(words, tmp_path):
    (tmp_path / "evaluation.csv").write_text("of an earlier evaluation\n")
    assert main(["--policies", "p2c", "--episodes", "1", "--overwrite", *words]) == 0
    assert len(rows_of(tmp_path / "evaluation.csv")) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.csv", "tiny.toml"]


def test_rows_measured_before_an_interruption_are_kept(words, tmp_path, monkeypatch):
    seen = []

    def interrupt(_bar, done, _text):
        seen.append(done)
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("trimtab.cli.progress.Bar.update", interrupt)
    assert main(["--policies", "p2c,random,round-robin", "--episodes", "2", *words]) == 130
    assert {row["policy"] for row in rows_of(tmp_path / "evaluation.csv")} == {"p2c", "random"}


def test_the_script_runs_from_any_directory(words, tmp_path):
    command = [sys.executable, str(AGENT / "evaluate_dqn.py"), "--policies", "p2c", "--episodes", "1", *words]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "evaluation.csv")) == 1


def test_policies_can_be_listed(capsys):
    assert main(["--policies", "list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == ["dqn", *NAMES]

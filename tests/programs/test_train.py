"""`train_dqn.py` as a user runs it: in the twin, over real HTTP, in both."""

import subprocess
import sys

import pytest

from tiny_runs import AGENT, LEARNER_ARGS, config_of, files_of, rows_without_time, shorten, write_scenario
from trimtab.cli.train import main
from trimtab.dqn.checkpoint import load_checkpoint
from trimtab.experiments.curriculum import Phase
from trimtab.fleets.local import LocalServers
from trimtab.problems.routing.scenario_files import load_scenario

# At 300 requests a second, an episode and its warm-up take a third of a second live.
PHASES = (Phase(1000, 40),)


@pytest.fixture
def short(monkeypatch):
    shorten(monkeypatch.setattr, phases=PHASES)


@pytest.fixture
def words(tmp_path):
    """The options that every run here shares."""
    return ["--scenario", str(write_scenario(tmp_path)), "--out", str(tmp_path / "Models"), *LEARNER_ARGS]


def rows_of(folder):
    header, *rows = (line.split(",") for line in rows_without_time(folder / "metrics" / "training_metrics.csv"))
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_train_in_the_twin(short, words, tmp_path, capsys):
    assert main(["--backend", "twin", "--episodes", "30", "--seed", "4", *words]) == 0
    captured = capsys.readouterr()
    final = tmp_path / "Models" / "checkpoints" / "dqn_final.pth"
    assert captured.out.splitlines() == [str(final)], "stdout holds the result alone"
    assert "30 episodes, 1200 decisions" in captured.err
    assert load_checkpoint(final).episode == 30
    assert [row["episode"] for row in rows_of(tmp_path / "Models")] == [str(n) for n in range(1, 31)]
    assert config_of(tmp_path / "Models")["seed"] == 4
    assert rows_of(tmp_path / "Models")[-1]["loss"] not in ("", "nan"), "it has learned"


def test_resume_takes_its_settings_from_the_run(short, words, tmp_path, capsys):
    assert main(["--backend", "twin", "--episodes", "20", "--seed", "4", *words]) == 0
    assert main(["--resume", "--episodes", "40", "--out", str(tmp_path / "Models")]) == 0
    assert len(rows_of(tmp_path / "Models")) == 40
    assert main(["--backend", "twin", "--episodes", "40", "--seed", "4", *words, "--out", str(tmp_path / "whole")]) == 0
    assert rows_of(tmp_path / "Models") == rows_of(tmp_path / "whole")


def test_train_with_a_heuristic_and_a_family(short, tmp_path):
    words = ["--heuristic", "sed-online", "--scenario", "family:affinity", "--out", str(tmp_path / "Models"), *LEARNER_ARGS]
    assert main(["--backend", "twin", "--episodes", "10", *words]) == 0
    config = config_of(tmp_path / "Models")
    assert (config["heuristic"], config["learning"]) == ("sed-online", "td")


def test_train_over_http(short, words, tmp_path):
    with LocalServers(load_scenario(str(tmp_path / "tiny.toml"))) as local:
        assert main(["--backend", "http", "--episodes", "2", "--servers", ",".join(local.urls), *words]) == 0
    rows = rows_of(tmp_path / "Models")
    assert [row["backend"] for row in rows] == ["http", "http"]
    assert [row["error_rate"] for row in rows] == ["0", "0"]
    # A service takes 2 to 6 ms, so that shorter means were never served.
    assert all(float(row["mean_latency_ms"]) > 2.0 for row in rows)


def test_hybrid_calibrates_trains_in_the_twin_and_fine_tunes_live(short, words, tmp_path, capsys):
    assert main(["--episodes", "20", "--live-episodes", "1", *words]) == 0
    rows = rows_of(tmp_path / "Models")
    assert [(row["backend"], row["phase"]) for row in rows] == [("twin", "1")] * 20 + [("http", "4")]
    measured = load_scenario(str(tmp_path / "Models" / "calibrated.toml"))
    assert measured.server_ids == ("server-1", "server-2")
    assert measured.servers[1].speed["b"] < measured.servers[0].speed["b"], "the slower server is found to be slower"
    assert "calibrated the twin on 2 local server processes" in capsys.readouterr().err


def test_the_script_runs_from_any_directory(words, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, str(AGENT / "train_dqn.py"), "--backend", "twin", "--episodes", "1", *words]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "Models" / "checkpoints" / "dqn_final.pth")
    assert not files_of(elsewhere)
    assert rows_of(tmp_path / "Models")[0]["episode_length"] == "150"
    assert config_of(tmp_path / "Models")["learning"] == "rollouts", "in processes of its own"


def test_models_go_where_the_environment_says(short, words, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_MODELS", str(tmp_path / "elsewhere"))
    out = words.index("--out")
    assert main(["--backend", "twin", "--episodes", "1", *words[:out], *words[out + 2 :]]) == 0
    assert (tmp_path / "elsewhere" / "checkpoints" / "dqn_final.pth").exists()

"""The commands with the problems that exist in a simulator alone: their defaults, what they write, what they refuse."""

import csv

import pytest

from tiny_runs import LEARNER_ARGS, config_of, shorten
from trimtab.cli import evaluate, train
from trimtab.experiments.curriculum import Phase
from trimtab.problems.catalogue import NAMES, build

SIMULATED = [name for name in NAMES if build(name).backends == ("twin",)]
QUIET = ["--metrics-port", "0"]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    shorten(monkeypatch.setattr, batch=5, phases=(Phase(1000, 12),))


def trained(problem, folder, *more):
    words = ["--problem", problem, "--episodes", "10", "--out", str(folder), *LEARNER_ARGS, *QUIET, *more]
    assert train.main(words) == 0
    return folder / "checkpoints" / "dqn_final.pth"


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("problem", SIMULATED)
def test_training_takes_the_problem_s_own_defaults(problem, tmp_path, capsys):
    assert trained(problem, tmp_path / "run").is_file()
    config = config_of(tmp_path / "run")
    assert (config["problem"], config["scenario"], config["backend"]) == (problem, build(problem).default_scenario, "twin")
    rows = rows_of(tmp_path / "run" / "metrics" / "training_metrics.csv")
    assert len(rows) == 10
    assert set(build(problem).training_metrics) <= set(rows[0])


def test_a_run_is_resumed_without_naming_its_problem(tmp_path, capsys):
    trained("park", tmp_path / "run")
    assert train.main(["--resume", "--out", str(tmp_path / "run"), "--episodes", "15", *QUIET]) == 0
    assert len(rows_of(tmp_path / "run" / "metrics" / "training_metrics.csv")) == 15


def test_all_policies_of_park_need_no_model_and_a_named_one_joins_them(tmp_path, capsys):
    plain, joined = tmp_path / "plain.csv", tmp_path / "joined.csv"
    words = ["--problem", "park", "--policies", "all", "--episodes", "3", *QUIET]
    assert evaluate.main([*words, "--csv", str(plain)]) == 0
    model = trained("park", tmp_path / "run")
    assert evaluate.main([*words, "--csv", str(joined), "--model", str(model)]) == 0
    policies = build("park").default_policies
    assert {row["policy"] for row in rows_of(plain)} == set(policies)
    assert {row["policy"] for row in rows_of(joined)} == {*policies, "dqn"}
    assert len(rows_of(plain)) == 3 * len(policies)
    assert "mean latency" in capsys.readouterr().out


def test_a_model_of_another_problem_is_refused(tmp_path, capsys):
    model = trained("park", tmp_path / "run")
    words = ["--problem", "lbnn", "--policies", "dqn", "--episodes", "1", "--model", str(model), "--csv", str(tmp_path / "e.csv"), *QUIET]
    assert evaluate.main(words) == 1
    assert "trained for problem 'park'; wanted 'lbnn'" in capsys.readouterr().err


def test_a_learned_policy_places_requests(tmp_path, capsys):
    model, path = trained("lbnn", tmp_path / "run", "--scenario", "lbnn-v1"), tmp_path / "e.csv"
    words = ["--problem", "lbnn", "--scenario", "lbnn-v1", "--policies", "dqn,random", "--episodes", "2", "--model", str(model)]
    assert evaluate.main([*words, "--csv", str(path), *QUIET]) == 0
    rows = rows_of(path)
    assert [row["policy"] for row in rows] == ["dqn", "dqn", "random", "random"]
    assert all(0.0 < float(row["mean_peak"]) < 1.0 for row in rows)


@pytest.mark.parametrize("problem", SIMULATED)
@pytest.mark.parametrize("backend", ["http", "hybrid"])
def test_live_backends_are_refused(problem, backend, tmp_path, capsys):
    assert train.main(["--problem", problem, "--backend", backend, "--out", str(tmp_path / "run")]) == 2
    assert f"--backend {backend}: problem {problem} knows twin" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("problem", SIMULATED)
def test_lists_are_those_of_the_problem(problem, capsys):
    assert evaluate.main(["--problem", problem, "--scenario", "list"]) == 0
    assert evaluate.main(["--problem", problem, "--policies", "list"]) == 0
    shown = capsys.readouterr().out
    assert build(problem).default_scenario in shown
    assert all(name in shown for name in build(problem).default_policies)

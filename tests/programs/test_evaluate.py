"""`evaluate_dqn.py` as a user runs it: rows, tables, and nothing replaced by surprise."""

import csv
import subprocess
import sys

import pytest

from tiny_runs import AGENT, LEARNER, write_scenario
from trimtab.cli.evaluate import _policy_names, main
from trimtab.dqn.checkpoint import Checkpoint, save_checkpoint
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network
from trimtab.experiments.evaluate import evaluation_columns
from trimtab.fleets import proxies
from trimtab.policies.catalogue import NAMES, PROXY_NAMES
from trimtab.problems.base import Task
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
    beside = ["evaluation_latency.csv", "evaluation_shares.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.csv", *beside, "tiny.toml"]


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
    assert listed == ["dqn", *NAMES, *PROXY_NAMES]


def test_proxies_are_refused_in_the_twin(words, tmp_path, capsys):
    assert main(["--policies", "p2c,nginx-least-conn", *words]) == 2
    line = "error: --policies nginx-least-conn: a real proxy stands before live servers, and the backend is twin; use --backend http"
    assert capsys.readouterr().err.startswith(line)
    assert not (tmp_path / "evaluation.csv").exists()


def test_a_proxy_is_refused_where_servers_leave(words, capsys):
    assert main(["--backend", "http", "--policies", "haproxy-leastconn", "--scenario", "leave-join", *words]) == 2
    assert "scenario 'leave-join' has servers that join and leave, which a proxy is not told" in capsys.readouterr().err


@pytest.fixture
def bare(monkeypatch):
    """A machine without proxies."""
    monkeypatch.setattr(proxies, "SBIN", ())
    monkeypatch.setenv("PATH", "/nonexistent")


def test_a_proxy_that_is_not_installed_is_named_with_its_package(words, bare, capsys):
    assert main(["--backend", "http", "--policies", "p2c,haproxy-leastconn", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --policies haproxy-leastconn: haproxy is not installed; install the package haproxy")
    assert error.count("\n") == 1


def test_all_policies_live_are_those_that_are_installed_and_the_others_are_told(bare, capsys):
    names = _policy_names("all", Routing(), [Task("compose-default", "http")], with_model=False)
    assert names == list(Routing.default_policies)
    assert [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()] == list(PROXY_NAMES)


def test_proxies_are_among_all_policies_live_and_never_in_the_twin(monkeypatch, capsys):
    monkeypatch.setattr(proxies.Proxy, "missing", "")
    live, twin = Task("compose-default", "http"), Task("compose-default", "twin")
    assert _policy_names("all", Routing(), [live], with_model=False) == [*Routing.default_policies, *PROXY_NAMES]
    assert _policy_names("all", Routing(), [twin], with_model=False) == list(Routing.default_policies)
    assert capsys.readouterr().err == "", "nobody expects a proxy in the twin"


@pytest.mark.parametrize("name", ["haproxy-roundrobin", "nginx-least-conn"])
def test_a_real_proxy_gets_a_row_like_everybody(words, tmp_path, name):
    if proxies.proxy(name).missing:
        pytest.skip(proxies.proxy(name).missing)
    assert main(["--backend", "http", "--policies", f"round-robin,{name}", "--episodes", "1", *words]) == 0
    own, rival = rows_of(tmp_path / "evaluation.csv")
    assert (rival["policy"], rival["backend"], rival["requests"], rival["error_rate"]) == (name, "http", "60", "0")
    assert rival["decision_us"] == "" != own["decision_us"], "how long a proxy thinks is known to nobody"
    assert {column for column, cell in rival.items() if cell != ""} == {column for column, cell in own.items() if cell != ""} - {
        "decision_us"
    }
    assert 0 < float(rival["optimal_decision_rate"]) <= 1
    assert float(rival["gini_coefficient"]) < 0.5

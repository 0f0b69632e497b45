"""`evaluate_dqn.py --suite` and `--jobs`, and `visualize.py --scoreboard`, as a user runs them."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest

from tiny_runs import AGENT, write_scenario
from trimtab.cli.evaluate import main
from trimtab.cli.visualize import main as visualize

POLICIES = ["--policies", "p2c,sed-online,thompson,random,oracle-greedy"]


def write_suite(folder, *scenarios):
    listed = ",\n".join(f'{{ id = "{one}", group = "g{place}", label = "number {place}" }}' for place, one in enumerate(scenarios))
    path = folder / "mine.toml"
    path.write_text(f'problem = "routing"\nscenarios = [\n{listed}\n]\n')
    return path


def rows_of(path):
    with path.open(newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "decision_us"} for row in csv.DictReader(file)]


@pytest.fixture
def suite(tmp_path):
    return write_suite(tmp_path, write_scenario(tmp_path), "family:speeds:2")


def test_a_suite_becomes_a_scoreboard(suite, tmp_path, capsys):
    path = tmp_path / "evaluation.csv"
    assert main(["--suite", str(suite), "--episodes", "2", "--jobs", "1", "--csv", str(path), *POLICIES]) == 0
    assert list(dict.fromkeys(row["scenario"] for row in rows_of(path))) == ["tiny", "family:speeds:2"]
    assert f"visualize.py --scoreboard {path}" in capsys.readouterr().out
    assert visualize(["--scoreboard", str(path), "--suite", str(suite), "--out", str(tmp_path / "board")]) == 0
    assert {one.name for one in (tmp_path / "board").iterdir()} == {"scoreboard.csv", "scoreboard.md", "scoreboard.png", "report.html"}
    text = (tmp_path / "board" / "scoreboard.md").read_text()
    assert "| tiny |" in text
    assert "| number 1 (family:speeds:2) |" in text


def test_several_processes_write_the_rows_of_one(suite, tmp_path):
    def measured(jobs):
        path = tmp_path / f"{jobs}.csv"
        assert main(["--suite", str(suite), "--episodes", "2", "--seed", "3", "--jobs", jobs, "--csv", str(path), *POLICIES]) == 0
        return rows_of(path)

    assert measured("2") == measured("1")


def test_an_interruption_keeps_what_was_measured_and_ends_the_workers(tmp_path):
    """The first row is quick; what follows takes minutes."""
    suite, path = write_suite(tmp_path, write_scenario(tmp_path), "cluster-trace", "family:affinity:1000"), tmp_path / "evaluation.csv"
    words = ["--suite", str(suite), "--episodes", "20", "--jobs", "2", "--csv", str(path), "--policies", "p2c", "--metrics-port", "0"]
    suite.write_text(suite.read_text().replace('label = "number 0"', 'label = "number 0", cost = 9'))
    command = [sys.executable, str(AGENT / "evaluate_dqn.py"), *words]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    partial = path.with_name("evaluation.csv.partial")
    deadline = time.monotonic() + 120
    while not (partial.exists() and partial.read_text().count("\n") == 21):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)  # returns when the last process that holds stderr has ended, workers included
    assert running.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    assert len(rows_of(path)) >= 20
    assert not partial.exists()


def test_suites_can_be_listed(capsys):
    assert main(["--suite", "list"]) == 0
    assert capsys.readouterr().out.startswith("twin")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--suite", "twin", "--scenario", "uniform"], "leave out --scenario"),
        (["--suite", "twin", "--backend", "http"], "leave out --scenario, --backend"),
        (["--suite", "twin", "--problem", "park"], "found --problem park"),
        (["--suite", "tvin"], "did you mean twin"),
        (["--jobs", "2", "--backend", "http"], "policies take turns on live servers"),
        (["--jobs", "0"], "whole number of 1 or more"),
    ],
)
def test_what_makes_no_sense_is_one_line(words, message, tmp_path, capsys):
    assert main([*words, "--csv", str(tmp_path / "e.csv"), *POLICIES]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--scoreboard", "none.csv"], 1, "none.csv does not exist"),
        (["--scoreboard", "none.csv", "--reference", "dqn"], 2, "leave --reference out"),
        (["--suite", "twin"], 2, "--scoreboard CSV"),
    ],
)
def test_a_scoreboard_that_cannot_be_is_one_line(words, code, message, capsys):
    assert visualize(words) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1

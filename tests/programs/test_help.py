"""Help, lists and checks: instant, complete, and without a learner in memory."""

import importlib
import subprocess
import sys

import pytest

from tiny_runs import AGENT, write_scenario
from trimtab.problems.catalogue import build

SCRIPTS = {"train_dqn.py": "train", "evaluate_dqn.py": "evaluate", "visualize.py": "visualize", "app.py": "app"}
DOCUMENTED = {
    "train": "--problem --backend --scenario --servers --episodes --live-episodes --heuristic --learning "
    "--resume --overwrite --out --device --seed",
    "evaluate": "--model --episodes --policies --scenario --scenario-check --servers --backend --overwrite --csv --seed",
    "visualize": "--csv --out",
    "app": "--scenario --servers --policy --model --port",
}


def main_of(name):
    return importlib.import_module(f"trimtab.cli.{name}").main


@pytest.mark.parametrize("name", DOCUMENTED)
def test_help_names_every_documented_option(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main_of(name)(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert [option for option in DOCUMENTED[name].split() if option not in shown] == []
    assert "examples:" in shown


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_short_and_says_how_it_is_run(script):
    text = (AGENT / script).read_text()
    assert len(text.splitlines()) <= 16
    assert f"python agent/{script}" in text


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_of_the_script_itself(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(AGENT / script), "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {script}")


@pytest.mark.parametrize(
    "words",
    [["train", "--help"], ["evaluate", "--help"], ["app", "--help"], ["evaluate", "--policies", "list"], ["train", "--scenario", "list"]],
    ids=" ".join,
)
def test_what_needs_no_learner_does_not_import_torch(words):
    name, *rest = words
    code = f"""
import sys
from trimtab.cli.{name} import main
try:
    assert main({rest!r}) == 0
except SystemExit as ended:
    assert ended.code == 0
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=AGENT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_scenarios_can_be_listed(name, capsys):
    assert main_of(name)(["--scenario", "list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [scenario for scenario, _ in build("routing").scenario_ids()]


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_scenario_file_can_be_checked(name, tmp_path, capsys):
    path = write_scenario(tmp_path)
    assert main_of(name)(["--scenario-check", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert f"{path}: valid: tiny, 2 servers, 2 classes, 10 + 60 requests" in shown


@pytest.mark.parametrize("words", [[], ["--policy", "p2c", "--model", "x.pth"], ["--policy", "p2c", "--port", "70000"]])
def test_the_gateway_knows_bad_usage(words, capsys):
    assert main_of("app")(words) == 2
    assert capsys.readouterr().err.count("\n") == 1

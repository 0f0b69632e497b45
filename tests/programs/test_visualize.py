"""`visualize.py` as a user runs it: files appear, mistakes are one line, the exit code says which."""

import subprocess
import sys
from pathlib import Path

import pytest

from trimtab.cli.visualize import main

SCRIPT = Path(__file__).resolve().parents[2] / "agent" / "visualize.py"
EVALUATION = "scenario,backend,policy,episode,seed,mean_latency_ms,p99_latency_ms,total_reward,decision_us\n"
TRAINING = "episode,phase,backend,total_reward,loss\n"


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A Models folder with a tiny run, found through its environment variable."""
    folder = tmp_path / "Models" / "metrics"
    folder.mkdir(parents=True)
    rows = [f"s,twin,{policy},{i},0,{base + i},,{-base - i},4" for policy, base in (("dqn", 10), ("p2c", 15)) for i in range(4)]
    (folder / "evaluation.csv").write_text(EVALUATION + "\n".join(rows))
    (folder / "training_metrics.csv").write_text(TRAINING + "\n".join(f"{i},1,twin,{-i},{1 / i}" for i in range(1, 9)))
    monkeypatch.setenv("TRIMTAB_MODELS", str(tmp_path / "Models"))
    return tmp_path / "Models"


def _fails(capsys, argv, code):
    assert main(argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1, "an error is one line"
    return captured.err


def test_default_draws_the_models_folder(models, capsys):
    assert main([]) == 0
    names = {path.name for path in (models / "metrics" / "plots").iterdir()}
    assert names == {"report.html", "training_reward.png", "training_learner.png", "evaluation_latency_s_twin.png"}
    assert str(models / "metrics" / "plots" / "report.html") in capsys.readouterr().out


def test_named_files_and_folder(models, tmp_path):
    assert main(["--csv", str(models / "metrics" / "evaluation.csv"), "--out", str(tmp_path / "out"), "--reference", "p2c"]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "mean latency vs p2c" in page
    assert "--reference p2c" in page


def test_an_unknown_reference_is_one_line(models, capsys):
    assert "no rows of policy 'x' to compare with; the file has dqn, p2c" in _fails(capsys, ["--reference", "x"], 1)


def test_a_missing_file_exits_with_1(tmp_path, capsys):
    assert "does not exist" in _fails(capsys, ["--csv", str(tmp_path / "none.csv")], 1)


def test_no_results_at_all_name_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TRIMTAB_MODELS", str(tmp_path))
    assert "train_dqn.py" in _fails(capsys, [], 1)


@pytest.mark.parametrize("argv", [["--cvs", "x"], ["--csv"], ["stray"]])
def test_bad_usage_exits_with_2(argv, capsys):
    _fails(capsys, argv, 2)


def test_the_script_runs_from_any_folder_and_explains_itself(tmp_path):
    result = subprocess.run([sys.executable, str(SCRIPT), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert "--csv" in result.stdout
    assert "python agent/visualize.py" in result.stdout


def test_help_and_mistakes_load_no_plotting_library():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import trimtab.cli.visualize; "
        "assert not {'matplotlib', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(SCRIPT.parent)], check=True, timeout=60)

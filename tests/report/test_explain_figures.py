"""Figures of `--explain`, alone and in the report, from a tiny model as users explain it."""

import pandas as pd
import pytest
import torch

from report.test_figures import assert_good
from tiny_runs import write_scenario
from trimtab.cli.visualize import main as visualize
from trimtab.core.observation import EXPECTED_COST, FEATURES
from trimtab.dqn.checkpoint import Checkpoint, save_checkpoint
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network
from trimtab.errors import ResultsError
from trimtab.experiments.explain import IMPORTANCE, SHARES
from trimtab.experiments.learned_rule import RULE
from trimtab.report.explain_figures import explained_drawings

FIGURES = ("explain_importance", "explain_rule", "explain_shares")


def model(path, anchor=EXPECTED_COST, problem="routing"):
    config = DQNConfig(hidden=8, anchor=anchor)
    network = build_network(config, len(FEATURES), 2, torch.Generator().manual_seed(1))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, Checkpoint(problem, FEATURES, 2, config, 1, network.state_dict(), {}))
    return path


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """A run's folder after `--explain` of its model, which has no anchor."""
    folder = tmp_path_factory.mktemp("run")
    path = model(folder / "checkpoints" / "tiny.pth", anchor=-1)
    assert visualize(["--explain", str(path), "--scenario", str(write_scenario(folder))]) == 0
    return folder


def test_files_and_figures_lie_with_the_run(explained):
    names = {path.name for path in (explained / "metrics" / "plots").iterdir()}
    assert names >= {IMPORTANCE, RULE, SHARES, *(f"{name}.png" for name in FIGURES)}


def test_the_figures_are_good(explained):
    drawings = explained_drawings(explained / "metrics" / "plots")
    assert tuple(one.name for one in drawings) == FIGURES
    for one in drawings:
        assert_good(one)


def test_a_report_written_there_has_the_section(explained, metrics_folder):
    out = explained / "metrics" / "plots"
    assert visualize(["--csv", str(metrics_folder / "evaluation.csv"), "--out", str(out)]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<h2>What it learned</h2>" in page
    assert all(f'<figure id="{name}">' in page for name in FIGURES)
    assert "--explain" in page.rpartition("<footer>")[2]


def test_a_report_elsewhere_has_no_section(metrics_folder, tmp_path):
    assert visualize(["--csv", str(metrics_folder / "evaluation.csv"), "--out", str(tmp_path)]) == 0
    assert "What it learned" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_model_of_another_problem_is_one_line(tmp_path, capsys):
    assert visualize(["--explain", str(model(tmp_path / "park.pth", problem="park")), "--scenario", str(write_scenario(tmp_path))]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "problem 'park'" in error


def test_a_scenario_without_a_model_is_bad_usage(capsys):
    assert visualize(["--scenario", "uniform"]) == 2
    assert "--explain MODEL" in capsys.readouterr().err


def test_a_malformed_file_is_named(explained, tmp_path):
    frame = pd.read_csv(explained / "metrics" / "plots" / IMPORTANCE)
    frame.drop(columns="q_loss").to_csv(tmp_path / IMPORTANCE, index=False)
    with pytest.raises(ResultsError, match=r"explain_importance.csv is no file of --explain .*expected rows of the columns model"):
        explained_drawings(tmp_path)


def test_intervals_that_nobody_knows_do_not_stop_the_figure(explained, tmp_path):
    frame = pd.read_csv(explained / "metrics" / "plots" / IMPORTANCE)
    frame["latency_low_percent"] = frame["latency_high_percent"] = float("nan")
    frame.to_csv(tmp_path / IMPORTANCE, index=False)
    (drawing,) = explained_drawings(tmp_path)
    assert_good(drawing)

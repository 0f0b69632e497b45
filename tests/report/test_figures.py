"""Figures are drawn for whatever the files hold: valid PNGs, captions that tell what is missing, no global matplotlib state."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trimtab.report.comparison import evaluation_tables, twin_against_live
from trimtab.report.drawing import DPI, WIDTH_IN, distinct, slug
from trimtab.report.evaluation_figures import evaluation_drawings, twin_drawings
from trimtab.report.training_figures import phase_name, rolling_mean, runs_of, training_drawings, window_of


def png_size(data):
    """Width and height from the header of a PNG that also ends as one."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


def assert_good(drawing):
    width, height = png_size(drawing.png)
    assert width == round(WIDTH_IN * DPI)
    assert 2 * DPI <= height <= 12 * DPI
    assert drawing.title
    assert drawing.caption


@pytest.fixture(scope="module")
def learning(make_training):
    return training_drawings(make_training())


def test_a_training_run_has_five_figures(learning):
    names = ["training_reward", "training_latency", "training_balance", "training_decisions", "training_learner"]
    assert [drawing.name for drawing in learning] == names
    for drawing in learning:
        assert_good(drawing)


def test_a_column_that_is_blank_everywhere_is_named_in_the_caption(learning):
    assert "Without a value in any episode, so not drawn: p99 latency." in learning[1].caption


def test_a_run_of_another_problem_draws_what_it_has(training):
    kept = training[["episode", "phase", "backend", "total_reward", "epsilon"]]
    assert [drawing.name for drawing in training_drawings(kept)] == ["training_reward", "training_decisions"]


@pytest.mark.parametrize("episodes", [1, 2, 7])
def test_tiny_runs_are_drawn(make_training, episodes):
    kept = ["episode", "phase", "backend", "total_reward", "mean_latency_ms", "p95_latency_ms"]
    for drawing in training_drawings(make_training((("1", "twin", episodes, 150),))[kept]):
        assert_good(drawing)


def test_zeros_on_a_log_axis_are_left_out_and_said(training):
    kept = training[["episode", "phase", "backend", "total_reward"]]
    _, learner = training_drawings(kept.assign(loss=0.0, q_mean=1.0, mean_latency_ms=0.0))
    assert_good(learner)
    assert "not drawn: loss." in learner.caption


def test_a_backend_without_a_single_value_is_drawn_beside_the_others(training):
    kept = training[["episode", "phase", "backend", "mean_latency_ms"]]
    (latency,) = training_drawings(kept.assign(mean_latency_ms=kept["mean_latency_ms"].where(kept["backend"] == "twin")))
    assert_good(latency)


def test_rolling_mean_starts_again_with_each_segment():
    values = pd.Series([*[1.0] * 10, *[5.0] * 10])
    segments = pd.Series([0] * 10 + [1] * 10)
    smooth = rolling_mean(values, segments, 20)
    assert smooth[:10].dropna().eq(1).all()
    assert smooth[10:].dropna().eq(5).all(), "nothing of the first segment leaks into the second"
    assert rolling_mean(pd.Series([2.0, 4.0]), pd.Series([0, 0]), 20).iloc[-1] == pytest.approx(3)


def test_rolling_mean_leaves_blanks_blank():
    smooth = rolling_mean(pd.Series([1.0, np.nan, 3.0, 5.0, 7.0, 9.0]), pd.Series([0] * 6), 2)
    assert np.isnan(smooth[1])


def test_window_is_twenty_or_five_percent():
    assert (window_of(30), window_of(400), window_of(6000)) == (20, 20, 300)


def test_runs_and_phase_names():
    assert runs_of(pd.Series(["twin", "twin", "http", "twin"])).tolist() == [0, 0, 1, 2]
    assert (phase_name("1"), phase_name("2.0"), phase_name("live")) == ("phase 1", "phase 2", "live")


def test_evaluation_has_two_figures_per_scenario_and_backend(both_worlds):
    drawings = evaluation_drawings(evaluation_tables(both_worlds))
    assert [drawing.name for drawing in drawings] == [
        "evaluation_latency_affinity-100_twin",
        "evaluation_service_affinity-100_twin",
        "evaluation_latency_affinity-100_http",
        "evaluation_service_affinity-100_http",
    ]
    for drawing in drawings:
        assert_good(drawing)


def test_unmeasured_quantiles_and_single_episodes_are_drawn(make_evaluation):
    frame = make_evaluation(episodes=1)
    frame.loc[frame["policy"] == "dqn", "p99_latency_ms"] = np.nan
    for drawing in evaluation_drawings(evaluation_tables(frame)):
        assert_good(drawing)


def test_a_problem_without_latency_draws_its_own_metrics(make_evaluation):
    frame = make_evaluation()[["scenario", "backend", "policy", "episode", "seed", "total_reward", "decision_us"]]
    (drawing,) = evaluation_drawings(evaluation_tables(frame))
    assert drawing.name == "evaluation_metrics_affinity-100_twin"
    assert_good(drawing)


def test_the_twin_figure_is_there_only_with_both_worlds(both_worlds, evaluation):
    (drawing,) = twin_drawings(twin_against_live(both_worlds))
    assert drawing.name == "twin_affinity-100_http"
    assert_good(drawing)
    assert twin_drawings(twin_against_live(evaluation)) == []


def test_names_with_dollars_and_slashes_are_drawn_as_they_are(make_evaluation):
    frame = make_evaluation("family:grey/$x_{$", policies={"a$b": 1.0, "dqn": 2.0})
    first, _ = evaluation_drawings(evaluation_tables(frame))
    assert first.name == "evaluation_latency_family-grey-x_twin"
    assert_good(first)


def test_slugs_that_agree_are_numbered():
    assert slug("a/b", "c d") == "a-b_c-d"
    assert distinct(["x", "y", "x", "x"]) == ["x", "y", "x-2", "x-3"]


def test_same_data_same_bytes(training):
    kept = training[["episode", "phase", "backend", "total_reward"]]
    assert training_drawings(kept) == training_drawings(kept)


def test_drawing_needs_no_pyplot_and_changes_no_setting():
    agent = Path(sys.modules["trimtab"].__path__[0]).parent
    # rcParams.copy(): reading the backend key the plain way would import pyplot.
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import matplotlib; before = repr(matplotlib.rcParams.copy()); "
        "import trimtab.report.writing; assert repr(matplotlib.rcParams.copy()) == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(agent)], check=True, timeout=120)

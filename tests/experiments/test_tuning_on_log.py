"""The comparison of tunings runs to its table, and what it does to a log is what a machine does that stands still."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # its modules find each other there

import tuning_on_log as tuning

from recorded import header, record, write
from trimtab.cli import train
from trimtab.dqn.checkpoint import load_checkpoint
from trimtab.experiments.decision_log import read_header
from trimtab.experiments.runs import RunFolder
from trimtab.experiments.session import TrainingSession
from trimtab.problems.routing.problem import Routing


@pytest.mark.parametrize(
    ("sent_s", "latency_s", "more_s"),
    [
        (19.0, 0.5, 0.0),  # over before the halt of 20.0 to 22.5
        (19.9, 0.2, 2.5),  # under way when it began
        (21.0, 0.3, 1.5),  # sent while nothing moved
        (22.5, 0.3, 0.0),  # after it
    ],
)
def test_what_is_under_way_in_a_halt_waits_for_its_end(sent_s, latency_s, more_s):
    assert tuning.rest_s(sent_s, latency_s, 20.0) == pytest.approx(more_s)


@pytest.fixture
def model(tiny, tmp_path):
    with TrainingSession(Routing(), tiny, RunFolder(tmp_path / "model"), "cpu") as training:
        training.start(overwrite=False)
        list(training.run())
    return training.folder.final


@pytest.fixture
def log(tmp_path):
    """1,100 decisions, 20 ms apart."""
    head = header(tmp_path)
    records = [record(head, number, server=number % 2) for number in range(1100)]
    for number, one in enumerate(records):
        one["sent_s"] = 50.0 + 0.02 * number
    return write(tmp_path / "log", head, records)


def test_halts_are_spread_over_the_log_and_leave_it_as_it_is(log):
    steps = list(tuning.recorded(log, read_header(log)))
    before = [float(step.record["latency_s"]) for step in steps]
    after = [float(step.record["latency_s"]) for step in tuning.halted(steps, 1)]
    longer = [number for number, (one, other) in enumerate(zip(before, after, strict=True)) if other > one]
    middle = (len(steps) - 1) // 2
    assert longer == list(range(longer[0], longer[-1] + 1))
    assert middle <= longer[0] <= middle + 1
    assert len(longer) == pytest.approx(tuning.HALT_S / 0.02, abs=2)
    assert [float(step.record["latency_s"]) for step in steps] == before


def test_every_variant_has_a_row_with_and_without_halts(model, log, monkeypatch, capsys):
    monkeypatch.setattr(tuning, "VARIANTS", (tuning.FREE, {}))
    assert tuning.main(["--log", str(log), "--init", str(model), "--episodes", "2", "--looks", "1"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| kept", "| the defaults"))]
    assert [line.split(" | ")[1] for line in rows] == ["0", "0", "3", "3"]


def test_as_many_looks_as_were_asked_for_and_one_at_the_end(model, log):
    problem, head = Routing(), read_header(log)
    config = load_checkpoint(model)
    agent = tuning.begun(problem, config, tuning.settings(problem, config, {}), head, seed=0)
    steps = list(tuning.recorded(log, head))
    assert list(tuning.tuned(agent, problem, head, steps, looks=3)) == [len(steps) // 4, len(steps) // 2, len(steps) * 3 // 4, len(steps)]


def test_the_defaults_are_those_of_the_program(model, log, tmp_path):
    problem = Routing()
    args = train._parser().parse_args(["--from-log", str(log), "--init", str(model)])
    wanted = train._settings(problem, RunFolder(tmp_path / "out"), args).learner
    assert tuning.settings(problem, load_checkpoint(model), {}) == wanted


def test_no_log_is_one_line(tmp_path, capsys):
    assert tuning.main(["--log", str(tmp_path)]) != 0
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "holds no decision log" in error


def test_a_log_of_other_features_is_refused(log, model, monkeypatch, capsys):
    monkeypatch.setattr(Routing, "features", tuple(reversed(Routing.features)))
    assert tuning.main(["--log", str(log), "--init", str(model)]) != 0
    assert "other features" in capsys.readouterr().err

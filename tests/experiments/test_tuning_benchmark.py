"""The comparison of tunings runs to its table, and what it does to a log is what a machine does that stands still."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # its modules find each other there

import tuning

from recorded import header, record, write
from trimtab.experiments.log_reader import Step
from trimtab.experiments.runs import RunFolder
from trimtab.experiments.session import TrainingSession
from trimtab.problems.routing.problem import Routing


@pytest.mark.parametrize(
    ("sent_s", "latency_s", "ends_s"),
    [
        (19.0, 0.5, 19.5),  # over before the first halt
        (19.9, 0.2, 22.6),  # 0.1 s of work left when it began
        (21.0, 0.3, 22.8),  # sent while nothing moved
        (22.5, 0.3, 22.8),  # after it
        (19.9, 60.0, 84.9),  # under way in both
    ],
)
def test_requests_under_way_in_a_halt_wait_for_its_end(sent_s, latency_s, ends_s, tmp_path):
    one = record(header(tmp_path), 0, latency_s=latency_s)
    one["sent_s"] = 1000.0 + sent_s
    found = tuning.halted(Step(one, broken=False), 1000.0, halts=2).record
    assert sent_s + found["latency_s"] == pytest.approx(ends_s)
    assert one["latency_s"] == latency_s, "the log stays as it is"


def test_every_variant_has_a_row_with_and_without_halts(tiny, tmp_path, monkeypatch, capsys):
    with TrainingSession(Routing(), tiny, RunFolder(tmp_path / "model"), "cpu") as training:
        training.start(overwrite=False)
        list(training.run())
    log = header(tmp_path)
    folder = write(tmp_path / "log", log, [record(log, number, server=number % 2) for number in range(1100)])
    monkeypatch.setattr(tuning, "VARIANTS", (tuning.FREE, {}))
    words = ["--log", str(folder), "--init", str(training.folder.final), "--episodes", "2", "--looks", "1"]
    assert tuning.main(words) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| kept", "| the defaults"))]
    assert [line.split(" | ")[1] for line in rows] == ["0", "0", "3", "3"]


def test_no_log_is_one_line(tmp_path, capsys):
    assert tuning.main(["--log", str(tmp_path)]) != 0
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "holds no decision log" in error

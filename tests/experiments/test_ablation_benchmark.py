"""The comparison of learners runs to its table, goes on where it was stopped, and refuses rows that were measured in another way."""

import csv
import itertools
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # its modules find each other there

import ablation
from ablation_variants import DEFAULTS as BY_LEARNING
from ablation_variants import SUITES, defaults_of

DEFAULTS = BY_LEARNING["td"]

TINY = (
    "--suite",
    "acceleration",
    "--variants",
    f"none,{DEFAULTS}",
    "--episodes",
    "2",
    "--fleets",
    "2",
    "--curve-fleets",
    "1",
    "--seeds",
    "0",
)


@pytest.fixture
def here(monkeypatch):
    """Work is done in this process; what is returned lists how many pieces were asked for."""
    asked = []

    def in_this_process(work, units, jobs):
        asked.append(len(units))
        return enumerate(map(work, units))

    monkeypatch.setattr(ablation, "in_processes", in_this_process)
    return asked


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_has_the_learner_that_its_variants_are_compared_with(suite):
    usual = defaults_of(SUITES[suite])
    assert [one.changes for one in SUITES[suite] if one.name == usual] == [{}]
    assert defaults_of(SUITES[suite][1:]) == usual, "also where some are left out"


def test_a_name_is_one_learner_in_all_suites():
    known = {}
    for one in itertools.chain.from_iterable(SUITES.values()):
        assert known.setdefault(one.name, one) == one


def test_a_tiny_comparison_runs_to_its_table_and_goes_on(tmp_path, here, capsys):
    out = tmp_path / "out"
    command = [*TINY, "--out", str(out)]
    assert ablation.main(command) == 0
    assert here == [4], "two references and two variants"
    results = rows_of(out / "results.csv")
    assert [row["variant"] for row in results] == ["sed-online", "sed-moods", "none", DEFAULTS]
    assert [bool(row["training_s"]) for row in results] == [False, False, True, True]
    assert len(rows_of(out / "fleets.csv")) == 4 * 2
    curves = rows_of(out / "curves.csv")
    assert {row["variant"] for row in curves} == {"none", DEFAULTS}
    assert {row["episode"] for row in curves} == {"0", "2"}
    names = [line.split(" | ")[0][2:] for line in (out / "acceleration.md").read_text().splitlines() if line.startswith("| ")]
    assert names == ["variant", "---", "none", DEFAULTS, "sed-online", "sed-moods"]
    assert (out / "acceleration.png").stat().st_size > 10_000
    (out / "results.csv").write_text("\n".join((out / "results.csv").read_text().splitlines()[:-1]) + "\n")
    assert ablation.main(command) == 0
    assert here == [4, 1], "what is missing, and nothing else"
    again = rows_of(out / "results.csv")
    assert [row["mean_latency_ms"] for row in again] == [row["mean_latency_ms"] for row in results]
    assert ablation.main([*command, "--episodes", "3"]) == 1
    assert "episodes = 2, not 3; name another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--variants", "lstm"), "'lstm' is none of these: none, xi H"),
        (("--curve-fleets", "65"), "--curve-fleets 65 are more than --fleets 64"),
        (("--scenario", "family:nothing"), "no family is called 'nothing'"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing_behind(options, words, tmp_path, here, capsys):
    assert ablation.main(["--suite", "acceleration", *options, "--out", str(tmp_path / "out")]) != 0
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert here == []
    assert not (tmp_path / "out").exists()

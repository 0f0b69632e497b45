"""The hyper-parameter search, on a tiny scenario: it runs to its table, goes on where it was stopped, and writes what it trained."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from tiny_runs import shorten, write_scenario
from trimtab.cli.options import learner_setting
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.errors import LearningError
from trimtab.errors import ResultsError, UsageError

pytest.importorskip("optuna", reason="optuna not installed; it is part of the extra 'tune'")

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # its modules find each other there

import optuna
import tune
import tune_space
import tune_study
import tune_training
from optuna.trial import TrialState
from tune_space import SPACES, Choice
from tune_training import Latencies, Look, Search

FLEETS = 12
REFERENCE = Latencies(np.linspace(20.0, 30.0, FLEETS), np.linspace(80.0, 90.0, FLEETS))
SEARCH = Search("tiny", "td", 4.0, "wall", 2, FLEETS, 4, 7, 3, 0.5)


def stand_in(factor, *, stop_at=None, diverge_at=None):
    """Trainings without the training: latencies are `factor(values)` times the reference's."""
    calls = []

    def looks(search, values):
        calls.append(values)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        if len(calls) == diverge_at:
            raise LearningError("loss is nan")
        for number in range(1, search.looks + 1):
            count = search.fleets if number == search.looks else search.look_fleets
            luck = np.random.default_rng(len(calls)).uniform(0.99, 1.01, count)
            found = Latencies(REFERENCE.mean_ms[:count] * factor(values) * luck, REFERENCE.p99_ms[:count] * factor(values) * luck)
            yield Look(number, found, 2.0 * number, 1000 * number, 10 * number)

    looks.calls = calls
    return looks


def worse_with_distance(values):
    """Least, .7, at a trust of .9."""
    return 0.7 + abs(values["trust"] - 0.9)


@pytest.fixture
def untrained(monkeypatch):
    """Trials take no time; what is returned changes how they end."""

    def use(looks):
        monkeypatch.setattr(tune_study, "looks", looks)
        monkeypatch.setattr(tune_study, "reference", lambda search: REFERENCE)
        return looks

    use(stand_in(worse_with_distance))
    return use


def run(tmp_path, *options):
    given = ["--scenario", str(write_scenario(tmp_path)), "--seconds", "4", "--looks", "2", "--fleets", str(FLEETS), "--look-fleets", "4"]
    return tune.main([*given, "--out", str(tmp_path / "out"), *options])


def states(tmp_path):
    study = optuna.load_study(study_name=tune_study.NAME, storage=f"sqlite:///{tmp_path / 'out' / tune_study.FILE}")
    return [one.state for one in study.trials]


# The space


LEARNINGS = pytest.mark.parametrize("learning", SPACES)


@LEARNINGS
def test_the_defaults_lie_inside_the_space(learning):
    usual = tune_space.defaults(SPACES[learning], learning)
    for one in SPACES[learning]:
        value = usual[one.key]
        assert value in one.options if isinstance(one, Choice) else one.low <= value <= one.high, one.key


@LEARNINGS
def test_every_corner_of_the_space_is_a_learner(learning):
    for one in SPACES[learning]:
        for value in one.options if isinstance(one, Choice) else (one.low, one.high):
            assert getattr(DQNConfig.from_dict({**tune_space.base(learning), one.key: value}), one.key) == value


@LEARNINGS
def test_what_is_printed_can_be_typed_and_is_what_was_trained(learning):
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=4)).ask()
    values = tune_space.suggested(trial, SPACES[learning])
    changes = tune_space.changed(values, learning)
    words = tune_space.set_words(changes).split()
    assert words[::2] == ["--set"] * (len(words) // 2)
    assert dict(map(learner_setting, words[1::2])) == changes
    assert len(changes) >= 6, "a random point differs from the defaults"
    assert tune_space.set_words(tune_space.changed(tune_space.defaults(SPACES[learning], learning), learning)) == "-"


# The score


def test_the_score_is_a_weighted_geometric_mean():
    found = Latencies(REFERENCE.mean_ms[:2] * [0.5, 2.0], REFERENCE.p99_ms[:2] * [0.25, 0.25])
    assert np.exp(found.logs(REFERENCE, 0.0).mean()) == pytest.approx(1.0)
    assert np.exp(found.logs(REFERENCE, 1.0).mean()) == pytest.approx(0.5)


def test_failures_cost_and_fleets_without_latency_are_refused():
    row = {"mean_latency_ms": 10.0, "p99_latency_ms": 50.0, "error_rate": 0.5}
    assert tune_training._latencies([row]).mean_ms.tolist() == [0.5 * 10 + 0.5 * 2000]
    with pytest.raises(tune_training.TrimtabError, match="too few requests"):
        tune_training._latencies([{**row, "mean_latency_ms": float("nan")}])


# The program


@pytest.mark.parametrize(("learning", "setting"), [("td", "n_step"), ("rollouts", "rollout_exponent")])
def test_a_tiny_search_trains_to_its_table(tmp_path, monkeypatch, capsys, learning, setting):
    shorten(monkeypatch.setattr)
    # The tiny scenario has too few requests for a p99.
    searched = ["--learning", learning, "--settings", f"{setting},trust"]
    assert run(tmp_path, "--scenario", "family:grey", "--trials", "2", "--seconds", "0.1", *searched) == 0
    table = (tmp_path / "out" / "tune.md").read_text()
    assert table in capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    ranked = [row for row in rows if row[0] in {"0 (defaults)", "1"}]
    assert len(ranked) == 2
    assert all(int(row[6].replace(",", "")) > 0 and row[1].count("%") == 1 for row in ranked), "decisions were made, and scored"
    assert all(f"--set {setting}=" in row[8] or "--set trust=" in row[8] for row in ranked if row[0] == "1")


def test_the_search_goes_on_where_it_was_stopped(tmp_path, untrained, capsys):
    stopped = untrained(stand_in(worse_with_distance, stop_at=3))
    assert run(tmp_path, "--trials", "6") == 130
    assert "goes on" in capsys.readouterr().err
    assert states(tmp_path) == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING]
    went_on = untrained(stand_in(worse_with_distance))
    assert run(tmp_path, "--trials", "6") == 0
    assert went_on.calls[0] == stopped.calls[2], "the trial that was interrupted is done again"
    assert len(went_on.calls) == 4
    assert run(tmp_path, "--trials", "6") == 0
    assert len(went_on.calls) == 4, "nothing was left to do"


def tried(tmp_path, untrained, *totals):
    tmp_path.mkdir()
    found = []
    for total in totals:
        looks = untrained(stand_in(worse_with_distance))
        assert run(tmp_path, "--trials", total, "--settings", "trust,loss", "--looks", "1") == 0
        found += looks.calls
    return found


def test_a_stop_does_not_change_what_is_tried(tmp_path, untrained):
    once, twice = tried(tmp_path / "once", untrained, "8"), tried(tmp_path / "twice", untrained, "3", "8")
    assert twice == once
    assert once[0] == tune_space.defaults([Choice("trust", ()), Choice("loss", ())], "rollouts"), "the defaults are the first trial"
    assert len({one["trust"] for one in once}) == 8, "no trial twice"


def test_the_table_ranks_and_names_the_command(tmp_path, untrained):
    assert run(tmp_path, "--trials", "24") == 0
    table = (tmp_path / "out" / "tune.md").read_text()
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    scores = [float(line.split("|")[2].split()[0]) for line in lines[2:12]]
    assert scores == sorted(scores)
    assert sum("(defaults)" in line for line in lines) == 1
    best_words = lines[2].rstrip(" |").split(" | ")[-1]
    assert f"train_dqn.py --backend twin --learning rollouts --scenario {tmp_path / 'tiny.toml'} {best_words}\n" in table
    shares = {line.split(" | ")[0][2:]: line.split(" | ")[1] for line in lines[12:] if "%" in line}
    assert {one.key for one in SPACES["rollouts"]} <= set(shares)
    assert TrialState.PRUNED in states(tmp_path)


def test_a_diverged_training_ends_a_trial_and_not_the_search(tmp_path, untrained, capsys):
    looks = untrained(stand_in(worse_with_distance, diverge_at=2))
    assert run(tmp_path, "--trials", "3") == 0
    assert "diverged: loss is nan" in capsys.readouterr().out
    assert len(looks.calls) == 3
    assert "3 trials: 2 went to the end, 0 were pruned, 1 diverged" in (tmp_path / "out" / "tune.md").read_text()


def test_a_study_of_other_measurements_is_not_mixed_in(tmp_path, untrained, capsys):
    assert run(tmp_path, "--trials", "1") == 0
    assert run(tmp_path, "--trials", "2", "--p99-weight", "1") == 1
    assert "p99_weight = 0.5, not 1.0" in capsys.readouterr().err


def test_a_file_that_is_no_study_is_refused(tmp_path, untrained, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / tune_study.FILE).write_text("not a database, and long enough to be seen as none" * 20)
    assert run(tmp_path, "--trials", "1") == 1
    assert "is not a study" in capsys.readouterr().err


def test_two_searches_do_not_share_a_folder(tmp_path):
    with tune_study.hold(tmp_path), pytest.raises(ResultsError, match="being written"), tune_study.opened(tmp_path, SEARCH, SPACES["td"]):
        pass


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--settings", "trust,speed"], "'speed' is none of these: "),
        (["--look-fleets", "99"], "--look-fleets 99"),
        (["--scenario", "nowhere"], "nowhere"),
        (["--evaluation-seed", "5", "--seed", "5"], "held-out fleets need another"),
        (["--table-only"], "there is no"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_training(tmp_path, capsys, options, named):
    assert run(tmp_path, *options) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [("--seconds", "0"), ("--seconds", "nan"), ("--p99-weight", "-1"), ("--trials", "0")])
def test_impossible_words_are_refused(option):
    with pytest.raises(SystemExit):
        tune._parser().parse_args(list(option))


def test_a_missing_package_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setattr(tune, "PACKAGES", ("optuna", "no_such_package"))
    with pytest.raises(UsageError, match=r"no_such_package .*\[tune\]"):
        tune.require_packages()
    assert importlib.util.find_spec("optuna") is not None


def test_the_settings_are_listed_with_their_defaults(capsys):
    assert tune.main(["--learning", "td", "--settings", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [one.key for one in SPACES["td"]]
    assert any(line.startswith("discount") and line.endswith("(default 0.95)") for line in lines)

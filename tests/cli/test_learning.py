"""What `--learning` is where nobody says it, and what it does not go with."""

import pytest

from tiny_runs import LEARNER_ARGS, AtOnce, config_of, shorten, write_scenario
from trimtab.cli import train
from trimtab.dqn.config import DQNConfig
from trimtab.experiments.curriculum import Phase
from trimtab.experiments.runs import RunFolder
from trimtab.problems.catalogue import build
from trimtab.problems.routing.problem import Routing

# What only rewards can do, and the word by which it is refused.
REWARDS_ONLY = [
    ("--backend http", "--backend http"),
    ("--backend twin --heuristic sed-online", "--heuristic"),
    ("--backend twin --reward integral", "--reward integral"),
    ("--problem park", "--problem park"),
    ("--problem lbnn", "--problem lbnn"),
    ("--traffic gateway", "--traffic gateway"),
    ("--from-log decisions", "--from-log"),
    ("--backend twin --set cloning=1", "--set cloning"),
    ("--backend twin --set anchor=-1", "--set anchor"),
]


def settings_of(words, tmp_path):
    args = train._parser().parse_args(words.split())
    return train._settings(build(args.problem or "routing"), RunFolder(tmp_path / "Models"), args)


@pytest.fixture
def words(tmp_path, monkeypatch):
    shorten(monkeypatch.setattr, phases=(Phase(1000, 4),))
    monkeypatch.setattr("trimtab.experiments.rollouts.Workers", AtOnce)
    return ["--backend", "twin", "--scenario", str(write_scenario(tmp_path)), "--episodes", "5", "--out", str(tmp_path), *LEARNER_ARGS]


@pytest.mark.parametrize("words", ["", "--backend hybrid", "--backend twin", "--reward response", "--scenario family:grey --backend twin"])
def test_routing_in_the_twin_is_learned_from_rollouts(words, tmp_path):
    settings = settings_of(words, tmp_path)
    assert settings.learning == "rollouts"
    assert settings.learner == DQNConfig.from_dict({**Routing.learner_defaults, **Routing.rollout_defaults})


@pytest.mark.parametrize(("words", "_named"), REWARDS_ONLY, ids=[one for one, _ in REWARDS_ONLY])
@pytest.mark.parametrize("asked", ["", " --learning td"], ids=["default", "td"])
def test_all_else_is_learned_from_rewards(words, _named, asked, tmp_path):
    assert settings_of(words + asked, tmp_path).learning == "td"


@pytest.mark.parametrize("backend", ["hybrid", "twin"])
def test_rewards_may_be_asked_for_and_have_settings_of_their_own(backend, tmp_path):
    settings = settings_of(f"--backend {backend} --learning td", tmp_path)
    assert settings.learning == "td"
    assert settings.learner == DQNConfig.from_dict(Routing.learner_defaults)


def test_what_is_set_counts_more_than_the_usual(tmp_path):
    settings = settings_of("--backend twin --set hidden=5 --set rollout_every=7", tmp_path)
    assert (settings.learner.hidden, settings.learner.rollout_every) == (5, 7)
    assert settings.learner.batch == Routing.rollout_defaults["batch"]


@pytest.mark.parametrize(("words", "named"), REWARDS_ONLY, ids=[one for one, _ in REWARDS_ONLY])
def test_rollouts_are_refused_where_they_cannot_be(words, named, tmp_path, capsys):
    out = tmp_path / "Models"
    assert train.main([*words.split(), "--learning", "rollouts", "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {named}")
    assert captured.err.count("\n") == 1
    assert "--learning td" in captured.err
    assert captured.out == ""
    assert not out.exists()


@pytest.mark.parametrize(("setting", "named"), [("anchor=here", "here"), ("cloning=much", "much"), ("rollout_every=0", "rollout_every")])
def test_a_setting_that_is_none_is_one_line(setting, named, tmp_path, capsys):
    assert train.main(["--backend", "twin", "--set", setting, "--out", str(tmp_path / "Models")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert named in captured.err


@pytest.mark.parametrize(("had", "other"), [("rollouts", "td"), ("td", "rollouts")])
def test_a_resumed_run_keeps_what_it_had(had, other, words, tmp_path, capsys):
    resume = ["--resume", "--out", str(tmp_path)]
    assert train.main([*words, "--learning", had]) == 0
    assert config_of(tmp_path)["learning"] == had
    capsys.readouterr()
    assert train.main([*resume, "--learning", other]) == 2
    assert f"a run with learning = '{had}', not '{other}'" in capsys.readouterr().err
    assert train.main([*resume, "--episodes", "6"]) == 0
    assert train.main([*resume, "--episodes", "7", "--learning", had, *LEARNER_ARGS]) == 0
    assert len((tmp_path / "metrics" / "training_metrics.csv").read_text().splitlines()) == 8
    assert config_of(tmp_path)["learning"] == had


@pytest.fixture
def trained(words, tmp_path):
    """A model with caution of its own."""
    assert train.main([*words, "--set", "trust=0.9", "--set", "lead=0.5"]) == 0
    return RunFolder(tmp_path).final


def test_a_model_that_is_begun_with_brings_its_shape_and_its_caution(trained, tmp_path):
    learner = settings_of(f"--traffic gateway --init {trained} --set lead=0.25", tmp_path).learner
    assert (learner.hidden, learner.trust, learner.lead) == (8, 0.9, 0.25)
    careful = (learner.epsilon_start, learner.heuristic_weight, learner.learning_rate)
    assert careful == (0.01, 0.0, 5e-5), "it is known to be good: little is tried out on people"
    assert (learner.kept, learner.loss) == (10.0, "huber"), "and its choices are held to what they were"


def test_a_model_that_is_begun_with_has_one_shape_only(trained, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert train.main(["--backend", "twin", "--init", str(trained), "--set", "hidden=9", "--out", str(tmp_path), "--overwrite"]) == 2
    assert f"learner setting hidden is 9 and {trained} has 8; leave it out of --set" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_holding_to_a_model_is_for_rewards(trained, tmp_path, capsys):
    words = ["--backend", "twin", "--init", str(trained), "--set", "kept=1", "--out", str(tmp_path / "again")]
    assert settings_of(" ".join(words), tmp_path).learning == "td"
    assert train.main([*words, "--learning", "rollouts"]) == 2
    assert "--set kept does not go with --learning rollouts" in capsys.readouterr().err


def test_holding_to_no_model_is_refused(tmp_path, capsys):
    assert train.main(["--traffic", "gateway", "--set", "kept=1", "--out", str(tmp_path / "Models")]) == 2
    error = capsys.readouterr().err
    assert "learner setting kept" in error
    assert "--init" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "Models").exists()

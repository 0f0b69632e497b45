"""Whatever a user gets wrong: one line that names it, the right exit code, and nothing lost or created."""

import resource
import subprocess
import sys

import pytest

from tiny_runs import AGENT, LEARNER, LEARNER_ARGS, SCENARIO, files_of, shorten, write_scenario
from trimtab.cli import evaluate, train, visualize
from trimtab.dqn.checkpoint import Checkpoint, save_checkpoint
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network
from trimtab.experiments.curriculum import Phase
from trimtab.experiments.evaluate import evaluation_columns
from trimtab.problems.routing.problem import Routing

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing answers there


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a scenario, watched for what a command leaves behind; Models/ lies in it."""
    shorten(monkeypatch.setattr, phases=(Phase(1000, 4),))
    monkeypatch.setenv("TRIMTAB_MODELS", str(tmp_path / "Models"))
    write_scenario(tmp_path)
    return tmp_path


@pytest.fixture
def fails(place, capsys):
    """Run a command that must fail: exit code, one line that holds `named`, and no file changed."""

    def check(main, words, code, *named):
        before = files_of(place)
        assert main([str(word) for word in words]) == code
        captured = capsys.readouterr()
        line = captured.err.splitlines()[-1]
        assert captured.out == ""
        assert line.startswith("error: ")
        assert captured.err.count("error: ") == 1
        assert "Traceback" not in captured.err
        assert [name for name in named if name not in line] == [], line
        assert files_of(place) == before, "nothing lost or created"

    return check


@pytest.fixture
def run(place, capsys):
    """A finished run of 20 episodes in Models/, learned from rewards: its state is larger, and scripts that resume it are sooner done."""
    words = ["--backend", "twin", "--learning", "td", "--episodes", "20", "--scenario", str(place / "tiny.toml"), *LEARNER_ARGS]
    assert train.main(words) == 0
    capsys.readouterr()
    return place / "Models"


def checkpoint_of(path, **changes):
    """A checkpoint of an untrained network with some of its labels changed."""
    config = DQNConfig(**LEARNER)
    features = changes.get("observation", Routing.features)
    fields = {"problem": "routing", "observation": features, "servers": 2, "config": config, "episode": 0, **changes}
    save_checkpoint(path, Checkpoint(**fields, network=build_network(config, len(features), 2).state_dict(), optimizer={}))
    return path


# Options


@pytest.mark.parametrize("main", [train.main, evaluate.main, visualize.main], ids=["train", "evaluate", "visualize"])
def test_an_unknown_option(fails, main):
    fails(main, ["--speed", "3"], 2, "--speed", "--help")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--backend", "cloud"], ("cloud", "hybrid")),
        (["--episodes", "many"], ("--episodes", "many")),
        (["--episodes", "0"], ("--episodes", "1 or more")),
        (["--episodes", "-3"], ("--episodes",)),
        (["--live-episodes", "1.5"], ("--live-episodes", "1.5")),
        (["--seed", "-1"], ("--seed",)),
        (["--problem", "chess"], ("chess", "routing")),
        (["--device", "tpu"], ("tpu", "cuda")),
        (["--set", "hidden"], ("hidden", "KEY=VALUE")),
        (["--set", "layers=3"], ("layers", "hidden")),
        (["--set", "hidden=0"], ("hidden", "0")),
        (["--set", "hidden=many"], ("hidden", "many")),
        (["--heuristic", "p3c", "--backend", "twin"], ("p3c", "p2c")),
        (["--scenario", "sinusoids", "--backend", "twin"], ("sinusoids", "mean sinusoid?")),
        (["--scenario", "family:odd", "--backend", "twin"], ("odd", "affinity")),
        (["--scenario", "family:grey", "--backend", "http"], ("family:grey", "twin")),
        (["--scenario", "missing.toml", "--backend", "twin"], ("missing.toml",)),
        (["--scenario-check", "missing.toml"], ("missing.toml",)),
        (["--resume", "--overwrite"], ("--resume", "--overwrite")),
        (["extra"], ("extra",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_of_train(fails, words, named):
    fails(train.main, words, 2, *named)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--backend", "hybrid"], ("hybrid", "twin")),
        (["--episodes", "0"], ("--episodes",)),
        (["--policies", "p2c,nobody"], ("nobody", "--policies list")),
        (["--policies", "p2c,p2c"], ("p2c,p2c",)),
        (["--policies", ","], ("--policies",)),
        (["--policies", "p2c", "--scenario", "uniform", "--scenario", "nowhere"], ("nowhere",)),
        (["--policies", "p2c", "--backend", "http", "--scenario", "family:grey"], ("family:grey",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_of_evaluate(fails, words, named):
    fails(evaluate.main, words, 2, *named)


# Scenario files


@pytest.mark.parametrize(
    ("found", "changed", "named"),
    [
        ("rate_rps = 300", "rate_rps = 300\nburst = 2", ("burst",)),
        ("rate_rps = 300", "rate_rps = -300", ("rate_rps", "-300")),
        ("rate_rps = 300", "rate_rps = 300\nload = 0.5", ("rate_rps", "load")),
        ("share = 0.5", "share = 0.6", ("share", "1")),
        ("speed = { a = 1.0, b = 0.5 }", "speed = { a = 1.0 }", ("servers[1].speed", "b = 1.0")),
        ('id = "tiny"', 'id = "tiny', ("TOML",)),
        ("slots = 2", "slots = 0", ("slots", "0")),
    ],
    ids=["unknown key", "negative rate", "rate and load", "shares", "speed of a class", "not TOML", "no slot"],
)
@pytest.mark.parametrize("main", [train.main, evaluate.main], ids=["train", "evaluate"])
def test_a_wrong_scenario_file(fails, place, main, found, changed, named):
    path = write_scenario(place, SCENARIO.replace(found, changed, 1))
    rest = ["--backend", "twin"] if main is train.main else ["--policies", "p2c"]
    fails(main, ["--scenario-check", path], 2, path.name, *named)
    fails(main, ["--scenario", path, *rest], 2, path.name, *named)


# Models


def test_a_model_that_is_missing(fails, place):
    fails(evaluate.main, ["--model", place / "none.pth", "--policies", "dqn"], 1, "none.pth", "train")


def test_a_model_of_another_problem(fails, place):
    path = checkpoint_of(place / "model.pth", problem="pod-autoscaling")
    fails(evaluate.main, ["--model", path, "--policies", "dqn"], 1, "pod-autoscaling", "routing")


def test_a_model_of_another_observation(fails, place):
    path = checkpoint_of(place / "model.pth", observation=(*Routing.features[:-1], "weather"))
    fails(evaluate.main, ["--model", path, "--policies", "p2c,dqn"], 1, "weather", Routing.features[-1])


def test_a_model_cut_short(fails, place):
    path = checkpoint_of(place / "model.pth")
    path.write_bytes(path.read_bytes()[:-500])
    fails(evaluate.main, ["--model", path, "--policies", "dqn"], 1, "model.pth")


def test_a_file_that_is_no_model(fails, place):
    fails(evaluate.main, ["--model", place / "tiny.toml", "--policies", "dqn"], 1, "tiny.toml")


def test_a_resume_file_is_no_model(fails, run):
    fails(evaluate.main, ["--model", run / "checkpoints" / "resume.pth", "--policies", "dqn", "--csv", run / "new.csv"], 1, "resume")


def test_a_model_for_another_number_of_servers(fails, place):
    config = DQNConfig(**LEARNER, network="mlp")
    path, network = place / "model.pth", build_network(config, len(Routing.features), 2)
    save_checkpoint(path, Checkpoint("routing", Routing.features, 2, config, 0, network.state_dict(), {}))
    fails(evaluate.main, ["--model", path, "--policies", "dqn"], 1, "2 servers", "4")


# Fleets


@pytest.mark.parametrize("main", [train.main, evaluate.main], ids=["train", "evaluate"])
def test_a_fleet_that_does_not_answer(fails, place, main):
    rest = [] if main is train.main else ["--policies", "p2c"]
    words = ["--backend", "http", "--scenario", place / "tiny.toml", "--servers", f"{NOBODY},{NOBODY}", *rest]
    fails(main, words, 1, NOBODY, "docker compose up -d")


@pytest.mark.parametrize("main", [train.main, evaluate.main], ids=["train", "evaluate"])
def test_another_number_of_urls_than_servers(fails, place, main):
    rest = [] if main is train.main else ["--policies", "p2c"]
    fails(main, ["--backend", "http", "--scenario", place / "tiny.toml", "--servers", NOBODY, *rest], 2, "1 server URL", "2 servers")


def test_a_url_that_is_none(fails, place):
    fails(train.main, ["--backend", "http", "--scenario", place / "tiny.toml", "--servers", "here,there"], 2, "here", "http://")


def test_a_dead_fleet_costs_no_earlier_results(fails, place):
    (place / "evaluation.csv").write_text("of an earlier evaluation\n")
    words = ["--backend", "http", "--scenario", place / "tiny.toml", "--servers", f"{NOBODY},{NOBODY}", "--policies", "p2c"]
    fails(evaluate.main, [*words, "--csv", place / "evaluation.csv", "--overwrite"], 1, NOBODY)


def test_a_dead_fleet_costs_no_earlier_run(fails, run):
    words = ["--backend", "http", "--scenario", run.parent / "tiny.toml", "--servers", f"{NOBODY},{NOBODY}", "--overwrite"]
    fails(train.main, words, 1, NOBODY)


# Runs and results


def test_a_folder_that_holds_another_run(fails, run):
    fails(train.main, ["--backend", "twin", "--episodes", "20", *LEARNER_ARGS], 1, "--resume", "--overwrite", "--out")


def test_nothing_to_resume(fails):
    fails(train.main, ["--resume"], 1, "nothing to resume", "--resume")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--seed", "7"], ("seed = 0", "7")),
        (["--backend", "http"], ("backend = 'twin'", "http")),
        (["--set", "hidden=16"], ("learner",)),
        (["--heuristic", "p2c"], ("heuristic = None", "p2c")),
        (["--learning", "rollouts"], ("learning = 'td'", "rollouts")),
    ],
    ids=["seed", "backend", "learner", "heuristic", "learning"],
)
def test_a_run_is_not_resumed_as_another(fails, run, words, named):
    fails(train.main, ["--resume", *words], 2, *named)


def test_a_broken_resume_file(fails, run):
    (run / "checkpoints" / "resume.pth").write_bytes(b"PK\x03\x04 and no more")
    fails(train.main, ["--resume"], 1, "resume.pth")


def test_a_training_csv_that_lost_rows(run, capsys):
    metrics = run / "metrics" / "training_metrics.csv"
    metrics.write_text("\n".join(metrics.read_text().splitlines()[:5]) + "\n")
    before = metrics.read_bytes()
    assert train.main(["--resume", "--episodes", "40"]) == 1
    assert "4 rows, the state 20" in capsys.readouterr().err
    assert metrics.read_bytes() == before


def test_an_evaluation_that_exists(fails, place):
    (place / "evaluation.csv").write_text("of an earlier evaluation\n")
    words = ["--policies", "p2c", "--scenario", place / "tiny.toml", "--csv", place / "evaluation.csv"]
    fails(evaluate.main, words, 1, "evaluation.csv", "--overwrite", "--csv")


def test_an_evaluation_where_no_file_can_be(fails, place):
    words = ["--policies", "p2c", "--scenario", place / "tiny.toml", "--csv", place / "tiny.toml" / "evaluation.csv"]
    fails(evaluate.main, words, 1, "evaluation.csv")


def test_a_run_where_no_folder_can_be(fails, place):
    fails(train.main, ["--backend", "twin", "--scenario", place / "tiny.toml", "--out", place / "tiny.toml"], 1, "tiny.toml", "--out")


def test_a_csv_with_a_column_missing(fails, place):
    path = place / "evaluation.csv"
    columns = [name for name in evaluation_columns(Routing()) if name != "policy"]
    path.write_text(",".join(columns) + "\n" + ",".join("1" for _ in columns) + "\n")
    fails(visualize.main, ["--csv", path, "--out", place / "plots"], 1, "evaluation.csv")


# A full disk: files may not grow beyond a limit, which the operating system reports on write as it does a full disk


def limited(place, script, words, limit_bytes):
    """Exit code, standard error of a command none of whose files may grow beyond the limit."""

    def forbid():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [sys.executable, str(AGENT / script), *map(str, words)]
    done = subprocess.run(command, cwd=place, preexec_fn=forbid, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr


def test_training_on_a_full_disk_keeps_what_was_there(run):
    before = files_of(run)
    code, said = limited(run, "train_dqn.py", ["--resume", "--episodes", "40"], 100_000)
    assert code == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: cannot write")
    after = files_of(run)
    kept = {name for name in before if name.startswith("checkpoints/")}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert not [name for name in after if name.endswith((".partial", ".tmp"))]
    assert train.main(["--resume", "--episodes", "40"]) == 0, "with space again, it goes on"


def test_evaluating_on_a_full_disk_is_one_line(place):
    words = ["--policies", "p2c", "--scenario", place / "tiny.toml", "--csv", place / "new.csv", "--episodes", "20"]
    code, said = limited(place, "evaluate_dqn.py", words, 1000)
    assert code == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: cannot write")

"""A run from start to end: its files, its resumption, and what survives a kill at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tiny_runs import AGENT, BOLD, LEARNER, AtOnce, config_of, files_of, rows_without_time, same_content, words_of
from trimtab.dqn.checkpoint import load_checkpoint, load_state, save_state
from trimtab.dqn.config import DQNConfig
from trimtab.errors import CheckpointError, FleetError, ResultsError, UsageError
from trimtab.experiments import rollouts, session
from trimtab.experiments.runs import RunFolder
from trimtab.experiments.session import Settings, TrainingSession, default_model, resumed_settings
from trimtab.problems.routing.problem import Routing
from trimtab.problems.routing.scenario_files import load_scenario

DRIVER = Path(__file__).with_name("interrupted.py")
EPISODES = 240
APPEND = "trimtab.experiments.csv_log:CsvLog.append"
STEP = "trimtab.dqn.learner:Learner.update"
STUDY = "trimtab.dqn.learner:Learner.study"
CHECKPOINT = "trimtab.experiments.session:save_checkpoint"
WRITE = "torch:save"
CREATE = "trimtab.experiments.csv_log:CsvLog.create"
BY_ROLLOUTS = DQNConfig.from_dict({**Routing.learner_defaults, **Routing.rollout_defaults, **BOLD})


def run(settings, folder, *, resume=False, overwrite=False, episodes=None):
    """A run, or its continuation, to the end of `episodes`."""
    chosen = settings if not resume else resumed_settings(folder, {} if episodes is None else {"episodes": episodes})
    with TrainingSession(Routing(), chosen, folder, "cpu") as training:
        if resume:
            training.resume()
        else:
            training.start(overwrite=overwrite)
        for _ in training.run():
            pass
        return training


def same_run(one, other):
    """Assert that two folders hold the same run: states and checkpoints by content, the CSV apart from wall_s."""
    assert rows_without_time(one.metrics) == rows_without_time(other.metrics)
    assert same_content(load_state(one.resume_state), load_state(other.resume_state))
    names = sorted(path.name for path in one.checkpoints.iterdir())
    assert names == sorted(path.name for path in other.checkpoints.iterdir())
    for name in set(names) - {"resume.pth"}:
        first, second = (load_checkpoint(folder.checkpoints / name) for folder in (one, other))
        assert same_content(first.network, second.network)
        assert same_content(first.optimizer, second.optimizer)
        assert first.episode == second.episode


# Files


def test_a_run_writes_the_documented_files(tiny, tmp_path):
    folder = RunFolder(tmp_path / "Models")
    run(tiny, folder)
    expected = {"config.json", "metrics/training_metrics.csv", "checkpoints/resume.pth", "checkpoints/dqn_final.pth"}
    assert set(files_of(folder.root)) == expected
    assert config_of(folder.root)["learner"]["hidden"] == 8
    assert load_checkpoint(folder.final, problem="routing", observation=Routing.features).episode == 60


def test_checkpoints_are_kept_every_hundred_episodes(tiny, tmp_path):
    folder = RunFolder(tmp_path / "Models")
    run(Settings(**{**vars_of(tiny), "episodes": 210}), folder)
    kept = sorted(path.name for path in folder.checkpoints.glob("dqn_episode_*"))
    assert kept == ["dqn_episode_0100.pth", "dqn_episode_0200.pth"]
    assert load_checkpoint(folder.checkpoint(100)).episode == 100


def vars_of(settings):
    return {name: getattr(settings, name) for name in Settings.__dataclass_fields__}


def test_the_length_of_episodes_can_be_chosen_and_is_kept(tiny, tmp_path):
    folder = RunFolder(tmp_path / "Models")
    run(Settings(**{**vars_of(tiny), "decisions": 17, "episodes": 40}), folder)
    assert run(tiny, folder, resume=True, episodes=60).agent.decisions == 60 * 17
    lengths = [line.split(",")[3] for line in folder.metrics.read_text().splitlines()]
    assert lengths == ["episode_length"] + ["17"] * 60


def test_the_first_state_is_there_before_the_first_episode(tiny, tmp_path):
    folder = RunFolder(tmp_path / "Models")
    with TrainingSession(Routing(), tiny, folder, "cpu") as training:
        training.start(overwrite=False)
        state = load_state(folder.resume_state)
        assert state["episode"] == 0
        assert len(folder.metrics.read_text().splitlines()) == 1


def test_rows_are_on_disk_when_they_are_yielded(tiny, tmp_path):
    folder = RunFolder(tmp_path / "Models")
    with TrainingSession(Routing(), tiny, folder, "cpu") as training:
        training.start(overwrite=False)
        for _ in training.run():
            assert len(folder.metrics.read_text().splitlines()) == 1 + training.trainer.episode


def test_states_are_saved_now_and_then_and_not_after_every_batch(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "SAVE_EVERY_S", 3600.0)
    folder = RunFolder(tmp_path / "Models")
    with TrainingSession(Routing(), tiny, folder, "cpu") as training:
        training.start(overwrite=False)
        next(training.run())
        assert load_state(folder.resume_state)["episode"] == 0


# Starting


def test_a_taken_folder_stays_as_it_is(tiny, tmp_path):
    folder = RunFolder(tmp_path / "Models")
    run(tiny, folder)
    before = files_of(folder.root)
    with pytest.raises(ResultsError, match="--overwrite"):
        run(tiny, folder)
    assert files_of(folder.root) == before


def test_overwrite_starts_anew(tiny, tmp_path):
    one, other = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "other")
    run(Settings(**{**vars_of(tiny), "seed": 1, "episodes": 120}), one)
    run(tiny, one, overwrite=True)
    run(tiny, other)
    same_run(one, other)


def test_servers_that_do_not_answer_leave_no_run_behind(tiny, tmp_path):
    folder = RunFolder(tmp_path / "Models")
    nobody = ("http://127.0.0.1:9", "http://127.0.0.1:9")
    with pytest.raises(FleetError):
        run(Settings(**{**vars_of(tiny), "backend": "http", "servers": nobody}), folder)
    assert not folder.root.exists()


def test_an_error_in_training_is_logged_with_its_traceback(tiny, tmp_path):
    folder = RunFolder(tmp_path / "Models")

    def fail():
        with TrainingSession(Routing(), tiny, folder, "cpu") as training:
            training.start(overwrite=False)
            training.agent.learn = lambda: 1 / 0
            list(training.run())

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "ZeroDivisionError" in folder.errors.read_text()


# Resuming


def test_a_longer_run_equals_a_short_one_continued(tiny, tmp_path):
    one, other = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "other")
    run(Settings(**{**vars_of(tiny), "episodes": 120}), one)
    run(tiny, other)
    run(tiny, other, resume=True, episodes=120)
    same_run(one, other)


def test_episodes_is_the_total_also_with_resume(tiny, tmp_path):
    folder = RunFolder(tmp_path / "Models")
    run(tiny, folder)
    run(tiny, folder, resume=True)
    assert len(rows_without_time(folder.metrics)) == 61, "a run that is done has nothing left to do"
    run(tiny, folder, resume=True, episodes=80)
    assert len(rows_without_time(folder.metrics)) == 81


def test_a_run_that_is_held_to_a_model_equals_a_short_one_continued(tiny, tmp_path):
    first = run(tiny, RunFolder(tmp_path / "first"))
    held = Settings(**{**vars_of(tiny), "init": str(first.folder.final), "learner": replace(tiny.learner, kept=3.0)})
    one, other = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "other")
    run(replace(held, episodes=120), one)
    run(held, other)
    first.folder.final.unlink()  # what it is held to is in its own state
    run(held, other, resume=True, episodes=120)
    same_run(one, other)


def test_a_state_without_settings_that_came_later_is_resumed(tiny, tmp_path):
    one, other = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "other")
    run(Settings(**{**vars_of(tiny), "episodes": 120}), one)
    run(tiny, other)
    state = load_state(other.resume_state)
    del state["settings"]["learner"]["kept"], state["agent"]["config"]["kept"]
    save_state(other.resume_state, state)
    run(tiny, other, resume=True, episodes=120)
    same_run(one, other)


def test_nothing_to_resume_names_the_way_out(tiny, tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing to resume.*without --resume"):
        resumed_settings(RunFolder(tmp_path / "Models"), {})
    assert not (tmp_path / "Models").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("learning", "rollouts"), ("seed", 7), ("scenario", "affinity-100"), ("backend", "http"), ("heuristic", "p2c")]
)
def test_a_run_is_not_resumed_as_another(tiny, tmp_path, key, value):
    folder = RunFolder(tmp_path / "Models")
    run(tiny, folder)
    with pytest.raises(UsageError, match=key):
        resumed_settings(folder, {key: value})
    assert resumed_settings(folder, {key: getattr(tiny, key)}) == tiny


def test_another_thread_count_is_said(tiny, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "Models")
    run(tiny, folder)
    here = session.hardware()
    monkeypatch.setattr(session, "hardware", lambda: here | {"threads": 64})
    assert any("threads = 1" in note for note in run(tiny, folder, resume=True).notes)


def test_part_of_the_learner_s_settings_may_be_said_again(tiny, tmp_path):
    folder = RunFolder(tmp_path / "Models")
    run(tiny, folder)
    assert resumed_settings(folder, {"learner": {"hidden": 8, "batch": 32}}) == tiny
    with pytest.raises(UsageError, match="learner"):
        resumed_settings(folder, {"learner": {"hidden": 8, "batch": 33}})


@pytest.mark.parametrize("learning", ["td", "rollouts"])
def test_hybrid_calibrates_once_then_trains_in_the_twin_and_live(tiny, tmp_path, monkeypatch, learning):
    monkeypatch.setattr(rollouts, "Workers", AtOnce)
    calibrated = []

    class Pretended(Routing):
        """Its live servers are a twin."""

        def open(self, task):
            world = super().open(type(task)(task.scenario, "twin"))
            if task.backend == "http":
                world.backend = "http"
                world.calibrate = lambda path: self._measured(path, task)
            return world

        def _measured(self, path, task):
            calibrated.append(path)
            path.write_text(Path(task.scenario).read_text())
            return super().open(type(task)(str(path), "twin"))

    monkeypatch.setattr(sys.modules[__name__], "Routing", Pretended)
    folder = RunFolder(tmp_path / "Models")
    config = BY_ROLLOUTS if learning == "rollouts" else tiny.learner
    settings = Settings(
        **{**vars_of(tiny), "backend": "hybrid", "episodes": 40, "live_episodes": 5, "learning": learning, "learner": config}
    )
    agent = run(settings, folder).agent
    assert (agent.rollouts > 0) == (learning == "rollouts")
    assert agent._replay.fill > 0.0, "live episodes are learned from rewards"
    rows = [line.split(",")[:3] for line in folder.metrics.read_text().splitlines()[1:]]
    assert rows == [[str(n), "1", "twin"] for n in range(1, 41)] + [[str(n), "4", "http"] for n in range(41, 46)]
    run(tiny, folder, resume=True)
    assert calibrated == [folder.calibrated], "a resumed run goes on in the twin it has"
    assert load_scenario(str(folder.calibrated)).id == "tiny"


# Interruption


@pytest.fixture(scope="module")
def driver():
    """The process that trains in forks of itself."""
    environment = {**os.environ, "PYTHONPATH": f"{AGENT}{os.pathsep}{AGENT.parent / 'tests'}"}
    with subprocess.Popen(
        [sys.executable, str(DRIVER)], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process
        process.stdin.close()
        assert process.wait(30) == 0


def interrupt(driver, tmp_path, *moment, resume=False, expected=-signal.SIGKILL, learning="td", episodes=EPISODES, processes=False):
    """Train until the signal strikes; what was said on standard error."""
    learner = words_of(BOLD if learning == "rollouts" else LEARNER)
    new = ["--backend", "twin", "--learning", learning, "--scenario", str(tmp_path / "tiny.toml"), *learner]
    said, end = tmp_path / "stderr", ["--episodes", str(episodes), "--out", str(tmp_path / "killed")]
    task = {"arguments": [*(["--resume"] if resume else new), *end], "stderr": str(said), "moment": moment, "processes": processes}
    driver.stdin.write(json.dumps(task) + "\n")
    driver.stdin.flush()
    code = driver.stdout.readline().strip()
    assert code == str(int(expected)), said.read_text()
    return said.read_text()


def whole_run(tiny, tmp_path):
    folder = RunFolder(tmp_path / "whole")
    run(Settings(**{**vars_of(tiny), "episodes": EPISODES}), folder)
    return folder


def test_kill_nine_at_any_moment_costs_nothing_that_was_saved(driver, tiny, tmp_path):
    killed = RunFolder(tmp_path / "killed")
    interrupt(driver, tmp_path, "SIGKILL", CREATE, "before", 1)  # the first state is saved, its CSV is not there
    assert load_state(killed.resume_state)["episode"] == 0
    interrupt(driver, tmp_path, "SIGKILL", STEP, "before", 20, resume=True)  # between two decisions, rewards under way
    interrupt(driver, tmp_path, "SIGKILL", APPEND, "after", 3, resume=True)  # rows written, their state not: they will be cut
    rows, state = len(killed.metrics.read_text().splitlines()) - 1, load_state(killed.resume_state)["episode"]
    assert rows == state + 20
    interrupt(driver, tmp_path, "SIGKILL", WRITE, "after", 2, resume=True)  # a new state lies beside the old one
    assert killed.resume_state.with_name(".resume.pth.partial").exists()
    assert load_state(killed.resume_state)["episode"] == state + 20
    interrupt(driver, tmp_path, "SIGKILL", CHECKPOINT, "after", 1, resume=True)  # a checkpoint is new, the state is old
    newest = max(killed.checkpoints.glob("dqn_episode_*.pth"))
    assert load_checkpoint(newest).episode > load_state(killed.resume_state)["episode"]
    run(tiny, killed, resume=True, episodes=EPISODES)
    same_run(killed, whole_run(tiny, tmp_path))


def test_a_run_killed_before_its_first_state_can_be_started_again(driver, tiny, tmp_path):
    interrupt(driver, tmp_path, "SIGKILL", WRITE, "before", 1)
    killed = RunFolder(tmp_path / "killed")
    assert not killed.is_taken()
    run(tiny, killed)
    assert len(rows_without_time(killed.metrics)) == 61


def test_kill_nine_costs_nothing_that_was_learned_from_rollouts(driver, tiny, tmp_path, monkeypatch):
    def kill(*moment, **options):
        interrupt(driver, tmp_path, "SIGKILL", *moment, learning="rollouts", episodes=160, **options)

    killed, whole = RunFolder(tmp_path / "killed"), RunFolder(tmp_path / "whole")
    kill(STUDY, "before", 8, processes=True)  # in the middle of study, two batches under way
    wait_for_the_end_of_all_that_write_to(tmp_path / "stderr")
    kill(APPEND, "after", 2, resume=True)  # between two batches: rows written, their state not
    rows, state = len(killed.metrics.read_text().splitlines()) - 1, load_state(killed.resume_state)["episode"]
    assert rows == state + 20
    kill(WRITE, "after", 2, resume=True)  # a new state lies beside the old one
    kill(CHECKPOINT, "before", 1, resume=True)
    monkeypatch.setattr(rollouts, "Workers", AtOnce)
    settings = Settings(**{**vars_of(tiny), "learning": "rollouts", "episodes": 160, "learner": BY_ROLLOUTS})
    run(settings, killed, resume=True)
    assert run(settings, whole).agent.rollouts > 0
    same_run(killed, whole)
    assert set(files_of(killed.root)) == set(files_of(whole.root))


def wait_for_the_end_of_all_that_write_to(path):
    """No worker outlives the training that was killed; they inherit its standard error."""
    give_up_s = time.monotonic() + 60.0
    while any(writes_to(process, path) for process in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def writes_to(process, path):
    try:
        return (process / "fd" / "2").samefile(path)
    except OSError:  # it has just ended
        return False


def test_control_c_keeps_the_state_and_says_how_to_go_on(driver, tiny, tmp_path):
    said = interrupt(driver, tmp_path, "SIGINT", STEP, "before", 30, expected=130)
    assert "--resume" in said
    assert "Traceback" not in said
    killed = RunFolder(tmp_path / "killed")
    assert 0 < load_state(killed.resume_state)["episode"] < EPISODES
    assert not killed.errors.exists(), "an interruption is no error"
    run(tiny, killed, resume=True)
    same_run(killed, whole_run(tiny, tmp_path))


# Models


def test_the_default_model_is_the_run_s_own_then_the_reference(tmp_path):
    folder, reference = RunFolder(tmp_path / "Models"), tmp_path / "reference.pth"
    with pytest.raises(CheckpointError, match="--model"):
        default_model(folder, reference)
    reference.write_text("")
    assert default_model(folder, reference) == reference
    folder.claim(overwrite=False)
    folder.final.write_text("")
    assert default_model(folder, reference) == folder.final


def test_rollouts_that_no_episode_is_long_enough_for_leave_the_run_before_alone(tiny, tmp_path):
    folder = RunFolder(tmp_path / "Models")
    run(tiny, folder)
    before = files_of(folder.root)
    learner = DQNConfig.from_dict({**tiny.learner.to_dict(), "rollout_horizon": 10_000})
    with pytest.raises(UsageError, match="rollout_horizon is 10000; allowed: at most"):
        run(Settings(**{**vars_of(tiny), "learning": "rollouts", "learner": learner}), folder, overwrite=True)
    assert files_of(folder.root) == before

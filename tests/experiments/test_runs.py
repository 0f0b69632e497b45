"""A run's folder: nobody's run is replaced by surprise, and none is mixed with another."""

import json

import pytest

from tiny_runs import config_of, files_of
from trimtab.errors import ResultsError
from trimtab.experiments.runs import RunFolder, commit, provenance


def run_in(tmp_path):
    """A folder that holds everything a run writes."""
    folder = RunFolder(tmp_path / "Models")
    folder.claim(overwrite=False)
    for path in (folder.resume_state, folder.final, folder.checkpoint(100), folder.metrics, folder.calibrated, folder.evaluation):
        path.write_text("of an earlier run")
    return folder


def test_an_empty_folder_is_free(tmp_path):
    folder = RunFolder(tmp_path / "new" / "Models")
    assert not folder.is_taken()
    folder.claim(overwrite=False)
    assert folder.checkpoints.is_dir()
    assert not folder.is_taken(), "folders alone are no run"


@pytest.mark.parametrize("left", ["resume_state", "final", "metrics"])
def test_any_trace_of_a_run_takes_the_folder(tmp_path, left):
    folder = RunFolder(tmp_path)
    folder.claim(overwrite=False)
    getattr(folder, left).write_text("x")
    assert folder.is_taken()


@pytest.mark.parametrize("ask", [RunFolder.claim, RunFolder.require_free])
def test_a_taken_folder_is_refused_with_all_remedies_and_stays_as_it_is(tmp_path, ask):
    folder = run_in(tmp_path)
    before = files_of(folder.root)
    with pytest.raises(ResultsError) as caught:
        ask(folder, overwrite=False)
    for remedy in ("--resume", "--overwrite", "--out"):
        assert remedy in str(caught.value)
    assert str(folder.root) in str(caught.value)
    assert files_of(folder.root) == before


def test_overwrite_removes_what_would_pass_for_the_new_run_s(tmp_path):
    folder = run_in(tmp_path)
    folder.claim(overwrite=True)
    assert set(files_of(folder.root)) == {"metrics/evaluation.csv"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="--out"):
        RunFolder(tmp_path / "file").claim(overwrite=False)


def test_checkpoints_have_four_digits(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.checkpoint(100).name == "dqn_episode_0100.pth"
    assert folder.checkpoint(6000).name == "dqn_episode_6000.pth"
    assert folder.checkpoint(12000).name == "dqn_episode_12000.pth"


def test_config_holds_settings_and_what_they_ran_on(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_config({"seed": 5, "learner": {"hidden": 8}})
    written = config_of(tmp_path)
    assert written["seed"] == 5
    assert written["learner"] == {"hidden": 8}
    assert set(written["versions"]) >= {"trimtab", "python", "torch", "numpy", "numba"}
    assert {"commit", "threads", "cores", "processor"} <= set(written)


def test_provenance_is_plain_data():
    assert json.loads(json.dumps(provenance())) == provenance()


def test_commit_is_none_or_one_word():
    assert commit() is None or len(str(commit()).split()) == 1

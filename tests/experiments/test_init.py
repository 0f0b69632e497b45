"""Training that begins with a trained model (`--init`)."""

from dataclasses import replace

import pytest

from tiny_runs import files_of, same_content
from trimtab.dqn.checkpoint import load_checkpoint, load_state
from trimtab.errors import CheckpointError, UsageError
from trimtab.experiments.runs import RunFolder
from trimtab.experiments.session import TrainingSession
from trimtab.problems.routing.problem import Routing


def run(settings, folder, *, overwrite=False):
    """A run from start to end."""
    with TrainingSession(Routing(), settings, folder, "cpu") as training:
        training.start(overwrite=overwrite)
        for _ in training.run():
            pass
        return training


@pytest.mark.parametrize("learning", ["td", "rollouts"])
def test_a_run_begins_with_the_weights_that_it_is_given(tiny, tmp_path, learning):
    first = run(tiny, RunFolder(tmp_path / "first"))
    again = replace(tiny, seed=5, learning=learning, init=str(first.folder.final))
    with TrainingSession(Routing(), again, RunFolder(tmp_path / "again"), "cpu") as training:
        training.start(overwrite=False)
        trained = load_checkpoint(first.folder.final).network
        assert same_content(dict(training.agent.policy_network.state_dict()), dict(trained))
        state = load_state(training.folder.resume_state)
        assert all(same_content(state["agent"]["learner"][one], dict(trained)) for one in ("online", "target", "average"))
        if learning == "rollouts":
            assert same_content(state["trainer"]["weights"], dict(trained)), "the first batches are played with them too"


def test_a_model_of_another_shape_is_refused_and_nothing_is_touched(tiny, tmp_path):
    first = run(tiny, RunFolder(tmp_path / "first"))
    before = files_of(tmp_path / "first")
    wider = replace(tiny, learner=replace(tiny.learner, hidden=16), init=str(first.folder.final))
    with pytest.raises(CheckpointError, match="another shape"):
        run(wider, first.folder, overwrite=True)
    assert files_of(tmp_path / "first") == before


def test_holding_to_no_model_is_refused_and_leaves_nothing(tiny, tmp_path):
    with pytest.raises(UsageError, match=r"kept is 3 .*--init, or leave kept at 0"):
        run(replace(tiny, learner=replace(tiny.learner, kept=3.0)), RunFolder(tmp_path / "Models"))
    assert not (tmp_path / "Models").exists()

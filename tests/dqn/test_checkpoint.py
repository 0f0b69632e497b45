"""Checkpoint files: what goes in comes out, and each kind of bad file has its own line."""

import contextlib
import dataclasses
import os
import resource
import zipfile

import numpy as np
import pytest
import torch

from trimtab.dqn import checkpoint as module
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.checkpoint import Checkpoint, load_checkpoint, load_network, load_state, save_checkpoint, save_state
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import q_values
from trimtab.errors import CheckpointError, ResultsError

NAMES = ("in_flight", "free_slots", "wait")


def made(network="set", episode=7):
    config = DQNConfig(network=network, hidden=8, replay_capacity=64)
    agent = DQNAgent(config, len(NAMES), 3, seed=0)
    weights = {k: v.clone() for k, v in agent.policy_network.state_dict().items()}
    return agent, Checkpoint("routing", NAMES, 3, config, episode, weights, agent.optimizer_state)


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "dqn.pth"
    save_checkpoint(path, made()[1])
    return path


def error_of(path, **wanted):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **wanted)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("network", ["set", "mlp"])
def test_loaded_network_gives_the_same_numbers(tmp_path, network):
    agent, checkpoint = made(network)
    save_checkpoint(tmp_path / "m.pth", checkpoint)
    loaded = load_checkpoint(tmp_path / "m.pth", problem="routing", observation=NAMES)
    obs, mask = np.random.default_rng(0).random((5, 3, 3), dtype=np.float32), np.ones((5, 3), np.bool_)
    assert torch.equal(q_values(load_network(loaded, 3), obs, mask), q_values(agent.policy_network, obs, mask))
    assert (loaded.problem, loaded.observation, loaded.servers, loaded.episode) == ("routing", NAMES, 3, 7)
    assert loaded.config == checkpoint.config


def test_set_models_serve_other_fleet_sizes_and_flat_ones_refuse():
    load_network(made("set")[1], servers=9)
    with pytest.raises(CheckpointError, match="mlp model for 3 servers; the fleet has 9"):
        load_network(made("mlp")[1], servers=9)


def test_weights_of_another_shape_are_refused():
    checkpoint = dataclasses.replace(made()[1], config=DQNConfig(hidden=16))
    with pytest.raises(CheckpointError, match="weights do not fit"):
        load_network(checkpoint, 3)


def test_missing_file(tmp_path):
    assert "no such file" in error_of(tmp_path / "none.pth")


def test_folder_in_place_of_a_file(tmp_path):
    assert "cannot be read" in error_of(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x80\x04", b"PK\x03\x04", bytes(range(256)) * 8])
def test_files_of_another_kind(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    assert "not a checkpoint" in error_of(path)


def test_every_truncation_is_recognised(stored):
    whole = stored.read_bytes()
    for size in {*range(0, len(whole), 997), len(whole) - 1}:
        stored.write_bytes(whole[:size])
        assert "not a checkpoint, or cut short" in error_of(stored)


def test_zip_files_of_another_kind_and_altered_bytes(stored):
    whole = bytearray(stored.read_bytes())
    for place in range(0, len(whole) // 4, 211):  # the pickled structure comes first
        altered = whole.copy()
        altered[place] ^= 0xFF
        stored.write_bytes(altered)
        with contextlib.suppress(CheckpointError):  # a changed number may go unseen, but nothing else may be raised
            load_checkpoint(stored)
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert "not a checkpoint, or altered" in error_of(stored)


def test_a_file_of_another_program(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"model": torch.zeros(2)}, path)
    assert "not a file of this program" in error_of(path)
    torch.save([1, 2], path)
    assert "not a file of this program" in error_of(path)


def test_a_file_that_would_run_code_is_not_run(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"kind": "checkpoint", "call": os.getcwd}, path)
    assert "not a checkpoint" in error_of(path)


def test_missing_and_altered_fields(stored):
    fields = torch.load(stored, weights_only=True)
    torch.save({k: v for k, v in fields.items() if k != "network"}, stored)
    assert "incomplete or altered checkpoint ('network')" in error_of(stored)
    torch.save({**fields, "config": {"hidden": -1}}, stored)
    assert "hidden is -1" in error_of(stored)


def test_other_format(stored):
    torch.save({**torch.load(stored, weights_only=True), "format": 99}, stored)
    assert "checkpoint format 99; this version reads 1" in error_of(stored)


def test_other_problem(stored):
    assert "trained for problem 'routing'; wanted 'memory'" in error_of(stored, problem="memory")


def test_other_observation_names_the_features_that_differ(stored):
    message = error_of(stored, observation=("in_flight", "age", "wait"))
    assert "lacks age and has unknown free_slots" in message
    assert "another order" in error_of(stored, observation=("wait", "free_slots", "in_flight"))


def test_resume_states_and_checkpoints_are_not_mixed_up(stored, tmp_path):
    save_state(tmp_path / "resume.pth", {"episode": 3})
    assert "a resume file; expected a checkpoint file" in error_of(tmp_path / "resume.pth")
    with pytest.raises(CheckpointError, match="a checkpoint file; expected a resume file"):
        load_state(stored)


def test_state_round_trip(tmp_path):
    save_state(tmp_path / "r.pth", {"episode": 3, "nested": {"x": torch.arange(3)}, "rng": "{}"})
    state = load_state(tmp_path / "r.pth")
    assert state["episode"] == 3
    assert state["nested"]["x"].tolist() == [0, 1, 2]


def test_replacing_leaves_no_other_file(stored):
    save_checkpoint(stored, made(episode=8)[1])
    assert load_checkpoint(stored).episode == 8
    assert [p.name for p in stored.parent.iterdir()] == ["dqn.pth"]


def test_a_write_that_does_not_fit_leaves_the_old_file(stored):
    before = stored.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # a real short write, as on a full disk
    try:
        with pytest.raises(ResultsError, match=r"cannot write .*dqn\.pth") as caught:
            save_checkpoint(stored, made(episode=8)[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert stored.read_bytes() == before
    assert [p.name for p in stored.parent.iterdir()] == ["dqn.pth"]


def test_a_disk_full_at_the_last_moment_leaves_the_old_file(stored, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    before = stored.read_bytes()
    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(ResultsError, match="No space left on device"):
        save_checkpoint(stored, made(episode=8)[1])
    assert stored.read_bytes() == before
    assert [p.name for p in stored.parent.iterdir()] == ["dqn.pth"]


def test_a_folder_that_does_not_exist_is_one_line(tmp_path):
    with pytest.raises(ResultsError, match="cannot write"):
        save_checkpoint(tmp_path / "none" / "m.pth", made()[1])

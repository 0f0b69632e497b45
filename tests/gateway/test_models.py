"""Model files, real ones: taken up, refused, awaited, half-written; nothing is put in place outside the loop's thread."""

import os
import shutil
import threading
import time

import numpy as np
import pytest
import torch

from builders import scenario, server
from gateway.test_guard import view_of
from trimtab.core.observation import FEATURES
from trimtab.core.scenario import RequestClass
from trimtab.dqn.checkpoint import Checkpoint, save_checkpoint
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network
from trimtab.errors import CheckpointError
from trimtab.gateway.deciders import Wanted, build_deciding, just
from trimtab.gateway.guard import DECIDING, MISSING, PlainDecider
from trimtab.gateway.models import NOTES_KEPT, Journal
from trimtab.policies import catalogue

PATIENCE_S = 30.0
CLASSES = (RequestClass("a", 0.5, 0.01), RequestClass("b", 0.3, 0.02), RequestClass("c", 0.2, 0.02))
FLEET = scenario(*[server(4, classes=("a", "b", "c")) for _ in range(4)], classes=CLASSES)


def write(path, seed=0, *, servers=4, network="set", change=None, **fields):
    """A checkpoint as training writes it, from weights that `change` may spoil."""
    config = DQNConfig(hidden=8, network=network)
    net = build_network(config, len(FEATURES), servers, torch.Generator().manual_seed(seed))
    if change is not None:
        with torch.no_grad():
            change(net)
    plain = {"problem": "routing", "observation": FEATURES, "servers": servers, "config": config, "episode": 1}
    save_checkpoint(path, Checkpoint(network=net.state_dict(), optimizer={}, **plain | fields))
    return path


def garbage(path):
    path.write_bytes(b"\x80\x04 no model at all")


def half(path):
    whole = write(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def nan(path):
    write(path, change=lambda net: net.advantage.bias.fill_(np.nan))


def hidden_nan(path):
    """One weight of one unit: its unit may be shut by the rectifier, so an idle fleet need not show it."""
    write(path, change=lambda net: net.advantage.weight.view(-1)[:1].fill_(np.inf))


BAD = [
    (garbage, "not a checkpoint, or cut short"),
    (half, "not a checkpoint, or cut short"),
    (lambda path: write(path, servers=5, network="mlp"), "5 servers"),
    (lambda path: write(path, observation=FEATURES[:-1]), f"lacks {FEATURES[-1]}"),
    (lambda path: write(path, problem="parking"), "parking"),
    (nan, "not finite"),
    (hidden_nan, "not finite"),
    (lambda path: path.mkdir(), "cannot be read"),
]
BAD_IDS = ["garbage", "half", "shape", "features", "problem", "nan", "hidden-nan", "folder"]


class Loop:
    """Stands for the event loop: what the watcher wants called waits until the test's thread runs it."""

    def __init__(self):
        self.calls = []

    def call(self, function):
        assert threading.current_thread() is not threading.main_thread()
        self.calls.append(function)

    def turn_until(self, condition):
        give_up_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up_s
            while self.calls:
                self.calls.pop(0)()
            time.sleep(0.01)


def deciding_of(**wanted):
    return build_deciding(Wanted(**wanted), FLEET)


def notes(deciding):
    return [one.what for one in deciding.files.journal.notes]


def replace(path, fill):
    """As a careful writer does: beside, then renamed."""
    beside = path.with_name("beside")
    fill(beside)
    if path.is_dir():
        path.rmdir()
    if beside.is_dir():
        path.unlink()
    beside.rename(path)


def test_a_new_file_is_taken_up_between_two_decisions(tmp_path):
    path, loop, view = write(tmp_path / "a.pth", 0), Loop(), view_of((True,) * 4)
    deciding = deciding_of(model=path, reload=True)
    (file,) = deciding.files.files
    deciding.decider.decide(view)
    before = np.array(deciding.decider.guard.q)
    with deciding.files.watched(loop.call):
        replace(path, lambda beside: write(beside, 1))
        wait(lambda: loop.calls)
        deciding.decider.decide(view)
        assert np.array_equal(deciding.decider.guard.q, before), "only the loop's thread puts it in place"
        loop.turn_until(lambda: file.loads == 2)
    deciding.decider.decide(view)
    assert not np.array_equal(deciding.decider.guard.q, before)
    assert (file.refusals, file.refused) == (0, None)
    assert notes(deciding) == ["primary: a.pth loaded"]


def wait(condition):
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


@pytest.mark.parametrize(("spoil", "said"), BAD, ids=BAD_IDS)
def test_a_bad_file_is_refused_and_the_present_model_stays(tmp_path, spoil, said):
    path, loop, view = write(tmp_path / "a.pth", 0), Loop(), view_of((True,) * 4)
    deciding = deciding_of(model=path, reload=True)
    (file,) = deciding.files.files
    deciding.decider.decide(view)
    before = np.array(deciding.decider.guard.q)
    with deciding.files.watched(loop.call):
        replace(path, spoil)
        loop.turn_until(lambda: file.refusals == 1)
        assert deciding.decider.decide(view)[1] == "dqn"
        assert np.array_equal(deciding.decider.guard.q, before)
        assert said in file.refused
        assert str(tmp_path) not in file.refused
        assert said in notes(deciding)[-1]
        replace(path, lambda beside: write(beside, 1))
        loop.turn_until(lambda: file.loads == 2)
    assert (file.refusals, file.refused) == (1, None)


@pytest.mark.parametrize(("spoil", "said"), BAD, ids=BAD_IDS)
def test_a_bad_file_at_the_start_is_awaited_with_reload(tmp_path, spoil, said):
    path = tmp_path / "a.pth"
    spoil(path)
    deciding = deciding_of(model=path, reload=True)
    assert deciding.decider.state == MISSING
    assert said in notes(deciding)[-1]


def test_a_missing_file_is_awaited_and_sed_online_decides(tmp_path):
    path, loop, view = tmp_path / "a.pth", Loop(), view_of((True,) * 4)
    deciding = deciding_of(model=path, reload=True)
    assert (deciding.decider.state, deciding.decider.names) == (MISSING, ("dqn", "sed-online"))
    assert deciding.decider.decide(view)[1] == "sed-online"
    assert deciding.decider.reasons["missing"] == 1
    with deciding.files.watched(loop.call):
        write(path)
        loop.turn_until(lambda: deciding.files.files[0].loads == 1)
    assert deciding.decider.decide(view)[1] == "dqn"
    assert deciding.decider.state == DECIDING
    assert notes(deciding) == ["primary: a.pth is not there yet", "primary: a.pth loaded"]


@pytest.mark.parametrize("role", ["model", "shadow", "canary"])
def test_a_missing_file_is_an_error_without_reload(tmp_path, role):
    wanted = {role: tmp_path / "a.pth"} | ({} if role == "model" else {"policy": "p2c"})
    with pytest.raises(CheckpointError, match=r"a\.pth: no such file"):
        deciding_of(**wanted)


def test_a_file_that_is_written_in_pieces_does_no_harm(tmp_path):
    path, loop, view = write(tmp_path / "a.pth", 0), Loop(), view_of((True,) * 4)
    deciding = deciding_of(model=path, reload=True)
    (file,) = deciding.files.files
    whole = write(tmp_path / "whole", 1).read_bytes()
    with deciding.files.watched(loop.call), path.open("wb") as slow:
        slow.write(whole[:1000])
        slow.flush()
        loop.turn_until(lambda: file.refusals >= 1)
        assert deciding.decider.decide(view)[1] == "dqn"
        slow.write(whole[1000:])
        slow.flush()
        loop.turn_until(lambda: file.loads == 2)
    assert file.refused is None


def test_a_file_that_is_removed_leaves_its_model_and_no_word(tmp_path):
    path, loop = write(tmp_path / "a.pth", 0), Loop()
    deciding = deciding_of(model=path, reload=True)
    with deciding.files.watched(loop.call):
        path.unlink()
        path.with_name("other").write_bytes(b"")
        write(path, 1)
        loop.turn_until(lambda: deciding.files.files[0].loads == 2)
    assert deciding.decider.state == DECIDING


def test_without_reload_only_asking_helps(tmp_path):
    path, loop = write(tmp_path / "a.pth", 0), Loop()
    deciding = deciding_of(model=path)
    (file,) = deciding.files.files
    with deciding.files.watched(loop.call):
        deciding.files.ask()
        loop.turn_until(lambda: file.loads == 2)
        replace(path, garbage)
        deciding.files.ask()
        loop.turn_until(lambda: file.refusals == 1)
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        deciding.files.ask()
        loop.turn_until(lambda: file.refusals == 2)
    assert "no such file" in file.refused
    assert deciding.decider.state == DECIDING


def test_a_touched_file_is_another_version_and_a_restart_of_the_canary(tmp_path):
    path, loop = write(tmp_path / "a.pth", 0), Loop()
    deciding = deciding_of(policy="sed-online", canary=path, canary_share=0.5, reload=True)
    deciding.canary._stopped = True
    with deciding.files.watched(loop.call):
        os.utime(path, ns=(1, 1))
        loop.turn_until(lambda: deciding.files.files[0].loads == 2)
    assert deciding.canary.state == DECIDING


def test_each_role_has_its_file_and_a_policy_needs_none(tmp_path):
    path = write(tmp_path / "a.pth", 0)
    deciding = deciding_of(model=path, shadow=path, canary=path)
    assert [one.role for one in deciding.files.files] == ["primary", "shadow", "canary"]
    assert [one.loads for one in deciding.files.files] == [1, 1, 1]
    assert deciding.decider.names == ("dqn", "sed-online", "canary")
    plain = deciding_of(policy="p2c")
    assert (plain.files.files, plain.shadow, plain.canary) == ((), None, None)
    with just(PlainDecider(catalogue.build("p2c"))).files.watched(None):
        assert not [one for one in threading.enumerate() if one.name == "models"]


def test_the_watcher_ends_with_its_block_also_after_the_loop(tmp_path):
    def closed(_function):
        raise RuntimeError("Event loop is closed")

    path = write(tmp_path / "a.pth", 0)
    deciding = deciding_of(model=path)
    with deciding.files.watched(closed):
        deciding.files.ask()
    assert not [one for one in threading.enumerate() if one.name == "models"]


def test_old_notes_are_dropped():
    journal = Journal(lambda: 0.0)
    for number in range(2 * NOTES_KEPT):
        journal.note(str(number))
    assert [one.what for one in journal.notes] == [str(number) for number in range(NOTES_KEPT, 2 * NOTES_KEPT)]

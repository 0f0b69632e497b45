"""Every policy of the catalogue, and the learned one, against the contract."""

import pytest
import torch

from contracts.policy_contract import PolicyContract
from trimtab.core.observation import FEATURES
from trimtab.dqn.checkpoint import Checkpoint, save_checkpoint
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network
from trimtab.errors import CheckpointError
from trimtab.policies import catalogue, class_split
from trimtab.policies.learned import load_policy


@pytest.fixture(scope="module", autouse=True)
def solved_once():
    """A split of classes is a linear programme of milliseconds, and most tests pose the same ones: each is solved once in this file."""
    solve, known = class_split.split, {}

    def split(mean_service_s, slots, shares):
        posed = (mean_service_s.shape, mean_service_s.tobytes(), slots.tobytes(), shares.tobytes())
        if posed not in known:
            known[posed] = solve(mean_service_s, slots, shares)
        return known[posed].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_split, "split", split)
        yield


class TestCatalogue(PolicyContract):
    @pytest.fixture(params=catalogue.NAMES)
    def make(self, request):
        return lambda: catalogue.build(request.param)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A checkpoint of random weights."""
    config = DQNConfig(hidden=8)
    network = build_network(config, len(FEATURES), 4, torch.Generator().manual_seed(3))
    path = tmp_path_factory.mktemp("model") / "dqn_final.pth"
    save_checkpoint(path, Checkpoint("routing", FEATURES, 4, config, 1, network.state_dict(), {}))
    return path


class TestLearned(PolicyContract):
    @pytest.fixture
    def make(self, model):
        return lambda: load_policy(model, "routing", 4)


def test_a_model_of_another_problem_is_refused(model):
    with pytest.raises(CheckpointError, match="trained for problem 'routing'"):
        load_policy(model, "autoscaling", 4)

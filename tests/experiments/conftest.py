"""One thread: the networks are tiny, and bitwise comparisons hold for equal thread counts only."""

import pytest
import torch

from tiny_runs import LEARNER, shorten, write_scenario
from trimtab.dqn.config import DQNConfig
from trimtab.experiments.session import Settings
from trimtab.problems.routing.problem import Routing


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Settings of a short run in the twin."""
    shorten(monkeypatch.setattr, save_every_s=-1.0)
    return Settings(
        scenario=str(write_scenario(tmp_path)),
        backend="twin",
        episodes=60,
        learner=DQNConfig.from_dict({**Routing.learner_defaults, **LEARNER}),
    )

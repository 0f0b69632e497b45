"""Programs called in this process play rollouts in it, too: starting others takes seconds. Scripts run as they are."""

import pytest

from tiny_runs import AtOnce


@pytest.fixture(autouse=True)
def rollouts_in_this_process(monkeypatch):
    monkeypatch.setattr("trimtab.experiments.rollouts.Workers", AtOnce)

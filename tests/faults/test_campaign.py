"""A test of the campaign that breaks down is told as that test's failure, and the others go on."""

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from trimtab.errors import FleetError

FOLDER = Path(__file__).parent
# The modules beside a program are found through its own folder, which must not stay on the path: it would hide modules of other tests.
MODULES = ("agents", "backends", "badclients", "books", "client", "clients", "haproxy", "learners", "results", "soak", "stage", "writer")


@pytest.fixture
def campaign():
    path, known = list(sys.path), {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    spec = importlib.util.spec_from_file_location("campaign", FOLDER / "campaign.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path[:] = path
        for name in MODULES:
            sys.modules.pop(name, None)
        sys.modules.update(known)


class Servers:
    """Stands for the fleet; `fault` is raised when it is repaired."""

    def __init__(self, fault=None):
        self.fault = fault

    def repair(self):
        if self.fault is not None:
            raise self.fault


def test_whatever_a_test_fails_of_is_its_own(campaign, monkeypatch):
    faults = [campaign.StageError("no stage"), FleetError("no server"), OSError("no socket"), TimeoutError()]

    async def breaks(_servers, _args):
        raise faults.pop(0)

    async def goes_well(_servers, _args):
        return campaign.Result("well", 1, 0, "fine", "fine", kept=True)

    monkeypatch.setattr(campaign, "TESTS", {"breaks": breaks, "well": goes_well})
    found = [campaign._one(name, Servers(), Namespace()) for name in ("breaks", "well", "breaks", "breaks", "breaks")]
    assert [(one.name, one.kept) for one in found] == [("breaks", False), ("well", True), *[("breaks", False)] * 3]
    assert [one.figure.removeprefix("not measured: ") for one in found if not one.kept] == [
        "no stage",
        "no server",
        "no socket",
        "TimeoutError",
    ]


def test_servers_that_cannot_be_repaired_fail_the_test_that_needs_them(campaign):
    found = campaign._one("kill", Servers(FleetError("gone")), Namespace())
    assert (found.name, found.kept, found.figure) == ("kill", False, "not measured: gone")


def test_an_error_of_the_campaigns_own_is_not_hidden(campaign, monkeypatch):
    async def wrong(_servers, _args):
        raise KeyError("typing mistake")

    monkeypatch.setattr(campaign, "TESTS", {"wrong": wrong})
    with pytest.raises(KeyError):
        campaign._one("wrong", Servers(), Namespace())

"""Every problem of the catalogue keeps the contract, on its default scenario and on harder ones."""

import pytest

from contracts.problem_contract import ProblemContract
from trimtab.errors import UsageError
from trimtab.problems.base import Task
from trimtab.problems.catalogue import NAMES, build

HARDER = {"routing": ("leave-join", "crash-restart", "family:grey"), "lbnn": ("lbnn-v1",)}
CASES = [(name, scenario) for name in NAMES for scenario in (build(name).default_scenario, *HARDER.get(name, ()))]


@pytest.mark.parametrize(("name", "scenario"), CASES, ids=[f"{name}-{scenario}" for name, scenario in CASES])
class TestCatalogue(ProblemContract):
    @pytest.fixture
    def problem(self, name, scenario):
        return build(name)

    @pytest.fixture
    def task(self, name, scenario):
        return Task(scenario, "twin")


def test_the_id_of_a_problem_is_its_name_in_the_catalogue():
    assert [build(name).id for name in NAMES] == list(NAMES)


def test_an_unknown_problem_is_named_with_what_is_allowed():
    with pytest.raises(UsageError, match=r"chess.*routing"):
        build("chess")

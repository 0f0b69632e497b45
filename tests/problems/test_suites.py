"""Suites as data: every scenario exists, and a wrong file is one line."""

import itertools

import pytest

from trimtab.errors import ScenarioError, UsageError
from trimtab.problems.base import Task
from trimtab.problems.catalogue import build
from trimtab.problems.routing.setting import setting
from trimtab.problems.suites import Entry, list_suites, load_suite

SUITES = [name for name, _ in list_suites()]
ONE = '{ id = "uniform", group = "equal", label = "equal servers" }'


@pytest.mark.parametrize("name", SUITES)
def test_every_scenario_of_a_packaged_suite_exists(name):
    suite = load_suite(name)
    problem = build(suite.problem)
    assert all(problem.choices(Task(one.id, "twin")) > 0 for one in suite.entries)
    assert all(one.group and one.label for one in suite.entries)
    groups = [one.group for one in suite.entries]
    assert sum(a != b for a, b in itertools.pairwise(groups)) == len(set(groups)) - 1, "a group stands in one place"


def test_the_scoreboard_suite_holds_fleets_of_every_size_and_each_packaged_regime():
    ids = [one.id for one in load_suite("twin").entries]
    assert ids[0] == "uniform"
    assert {f"family:affinity:{size}" for size in (2, 16, 100, 1000)} | {"family:grey", "black-hole", "overload", "cluster-trace"} <= set(
        ids
    )


@pytest.mark.parametrize(
    ("scenario", "held"),
    [
        ("uniform", "4 servers x 2 slots, 1 class, load 0.7"),
        ("affinity-100", "4 servers x 1 slot, 2 classes, 100 requests/s = load 0.8"),
        ("flash", "4 servers x 1-4 slots, 3 classes, load 0.3, at its peak 1.5"),
        ("sinusoid", "4 servers x 1-4 slots, 3 classes, load 0.35-1.05"),
        ("mmpp", "4 servers x 1-4 slots, 3 classes, load 0.25 or 1.25 by chance"),
        ("overload", "5 servers x 1 slot, 1 class, load 0.75-1.74"),
        ("cluster-trace", "4 servers x 1-4 slots, 3 classes, load 0.7 on average"),
        ("family:grey", "4 servers x 1-4 slots, 3 classes, load 0.3-0.8"),
        ("family:affinity:16", "16 servers x 1-4 slots, 3 classes, load 0.5-0.95"),
        ("unheard-of", ""),
        ("family:unheard-of", ""),
        ("family:grey:none", ""),
    ],
)
def test_a_setting_is_read_off_the_scenario(scenario, held):
    assert setting(scenario) == held


def test_every_scenario_of_the_scoreboard_has_a_setting():
    assert all(" servers x " in setting(one.id) for one in load_suite("twin").entries)


def test_a_file_of_your_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(f'problem = "routing"\nscenarios = [{ONE}, {{ id = "p", group = "g", label = "l", cost = 3 }}]')
    suite = load_suite(str(path))
    assert (suite.name, suite.problem) == ("mine", "routing")
    assert suite.entries == (Entry("uniform", "equal", "equal servers", 1.0), Entry("p", "g", "l", 3.0))


def test_groups_may_be_explained(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(f'problem = "routing"\nscenarios = [{ONE}]\n[groups]\nequal = "nothing to learn"')
    assert load_suite(str(path)).groups == {"equal": "nothing to learn"}
    twin = load_suite("twin")
    assert set(twin.groups) == {one.group for one in twin.entries}


def test_an_unknown_suite_suggests_one():
    with pytest.raises(UsageError, match=r"did you mean twin\?.*--suite list"):
        load_suite("twins")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("problem = ", "is not TOML"),
        ('problem = "routing"', "holds problem; allowed"),
        ('problem = "routing"\nscenarios = []', "with at least one"),
        (f'problem = "routing"\nscenarios = [{ONE}]\nmore = 1', "more; allowed"),
        (f'problem = "routing"\nscenarios = [{ONE}, {ONE}]', "'uniform' stands twice"),
        (f'problem = "routing"\nscenarios = [{ONE}]\n[groups]\nother = "x"', "allowed: a line of text for any of equal"),
        (f'problem = "routing"\ngroups = {{ equal = 1 }}\nscenarios = [{ONE}]', "allowed: a line of text"),
        ('problem = "routing"\nscenarios = [{ id = "uniform" }]', "is no scenario of a suite"),
        ('problem = "routing"\nscenarios = ["uniform"]', "is no scenario of a suite"),
        ('problem = "routing"\nscenarios = [{ id = "a", group = "g", label = "l", cost = 0 }]', "a cost above 0"),
    ],
)
def test_a_wrong_file_is_one_line(text, message, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=message) as raised:
        load_suite(str(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ScenarioError, match="cannot read"):
        load_suite(str(tmp_path / "none.toml"))

"""The files beside an evaluation: what a run leaves there, and what it takes away."""

import csv
from dataclasses import replace

import pytest

from builders import scenario, server
from trimtab.core.scenario import Fault
from trimtab.errors import ResultsError
from trimtab.experiments.details import COLUMNS, Details, beside, kind_of
from trimtab.experiments.evaluate import evaluate
from trimtab.policies import catalogue
from trimtab.problems.base import Task
from trimtab.problems.park.problem import Park
from trimtab.problems.routing.world import family_twin, fixed_twin

CALM = scenario(server(slots=2), server(slots=1, speed=0.5), rate_rps=1.0, requests=60, warmup=5)
FAULTY = replace(CALM, id="faulty", faults=(Fault("server-2", "crash", 10.0, 20.0),))
NAMES = ("round-robin", "sed-online")


def played(world, details, names=NAMES, episodes=3):
    rows = [row for part in evaluate(world, [catalogue.build(name) for name in names], episodes, 4, details=details) for row in part]
    return {(row["policy"], row["episode"]): row for row in rows}


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_has_its_columns_and_every_policy(tmp_path):
    details = Details(3)
    measured = played(fixed_twin(FAULTY), details)
    written = details.write(tmp_path / "evaluation.csv")
    assert [path.name for path in written] == ["evaluation_latency.csv", "evaluation_shares.csv", "evaluation_timeline.csv"]
    for path, (kind, columns) in zip(written, COLUMNS.items(), strict=True):
        rows = rows_of(path)
        assert tuple(rows[0]) == columns
        assert kind_of(list(rows[0])) == kind
        assert list(dict.fromkeys((row["scenario"], row["backend"], row["policy"]) for row in rows)) == [
            ("faulty", "twin", name) for name in NAMES
        ]
    latency, shares, timeline = map(rows_of, written)
    for name in NAMES:
        failed = sum(measured[name, n]["error_rate"] * 60 for n in range(3))
        assert {(row["requests"], row["failed"]) for row in latency if row["policy"] == name} == {("180", f"{failed:.0f}")}
        assert sum(int(row["decisions"]) for row in shares if row["policy"] == name) == 180
    assert {row["fault"] for row in timeline} == {"", "crash", "server-2 crash"}


def test_twin_and_one_by_one_write_the_same(tmp_path):
    """Live evaluations play an episode of every policy at a time; the pooled files do not show it."""

    class OneByOne:
        def __init__(self, world):
            self._world = world

        def __getattr__(self, name):
            return getattr(self._world, name)

        def evaluation_env(self, batch):
            return self._world.evaluation_env(1)

    texts = []
    for number, world in enumerate((fixed_twin(FAULTY), OneByOne(fixed_twin(FAULTY)))):
        details = Details(3)
        played(world, details, names=("round-robin",))
        texts.append([path.read_text() for path in details.write(tmp_path / f"{number}.csv")])
    assert texts[0] == texts[1]


def test_an_interrupted_policy_keeps_the_episodes_it_has(tmp_path):
    details = Details(50)
    played(fixed_twin(CALM), details, names=("p2c",))
    latency, shares = details.write(tmp_path / "e.csv")
    assert rows_of(latency)[0]["requests"] == "180"
    assert sum(int(row["decisions"]) for row in rows_of(shares)) == 180


def test_a_file_of_an_earlier_evaluation_goes_where_this_one_has_no_rows(tmp_path):
    path = tmp_path / "evaluation.csv"
    for kind in COLUMNS:
        beside(path, kind).write_text("of an earlier evaluation\n")
    details = Details(3)
    played(fixed_twin(CALM), details)
    details.write(path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["evaluation_latency.csv", "evaluation_shares.csv"]


def test_a_family_has_latencies_and_shares_by_rank(tmp_path):
    details = Details(2)
    played(family_twin("grey"), details, names=("p2c",), episodes=2)
    latency, shares = details.write(tmp_path / "e.csv")
    assert (latency.name, shares.name) == ("e_latency.csv", "e_shares.csv")
    rows = rows_of(shares)
    assert sum(int(row["decisions"]) for row in rows) == 4000
    light = [float(row["capacity_share"]) for row in rows if row["class"] == "light"]
    assert [row["server"] for row in rows if row["class"] == "light"] == [f"rank-{n}" for n in range(1, 5)]
    assert light == sorted(light, reverse=True)


def test_a_problem_without_requests_has_none(tmp_path):
    details = Details(2)
    problem = Park()
    for _ in evaluate(problem.open(Task(problem.default_scenario, "twin")), [problem.build_policy("random")], 2, 0, details=details):
        pass
    assert details.write(tmp_path / "e.csv") == []


def test_a_file_that_cannot_be_removed_is_one_line(tmp_path):
    beside(tmp_path / "e.csv", "latency").mkdir()
    with pytest.raises(ResultsError, match=r"cannot remove .*e_latency\.csv.*remove it"):
        Details(1).write(tmp_path / "e.csv")

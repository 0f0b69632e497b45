"""The live league's scenarios: the grey one is drawn as it says, and a shorter run keeps its faults to itself."""

import numpy as np
import pytest

from benchmarks.live_league import lasting, late_runs
from trimtab.policies.catalogue import build
from trimtab.problems.routing import families
from trimtab.problems.routing.scenario_files import load_scenario


def test_grey_four_is_drawn_as_the_family_draws():
    rng, scenario = np.random.default_rng(0), load_scenario("grey-four")
    spells = [one for server in scenario.server_ids for one in families._slow_spells(server, 60.0, rng)]
    drawn = [(one.server, one.kind, one.factor, one.start_s, min(one.end_s, 60.0)) for one in spells]
    for found, (*names, start_s, end_s) in zip(scenario.faults, drawn, strict=True):
        assert [found.server, found.kind, found.factor] == names
        assert (found.start_s, found.end_s) == (pytest.approx(start_s, abs=0.006), pytest.approx(end_s, abs=0.006))


def test_the_faults_of_a_run_end_before_its_arrivals():
    """Those of grey-four as it is: they would hit the run of the next policy."""
    scenario = load_scenario("grey-four")
    expected_s = (scenario.warmup + scenario.requests) / scenario.rate_rps()
    assert max(one.end_s for one in scenario.faults) < 0.96 * expected_s
    short = lasting(scenario, 20.0)
    assert [(one.server, one.start_s, one.end_s) for one in short.faults] == [
        ("server-3", 0.05, 9.12),
        ("server-3", 11.73, 16.01),
    ]
    shorter = lasting(scenario, 12.0)
    assert [(one.start_s, one.end_s) for one in shorter.faults] == [(0.05, 9.12)]
    assert (shorter.warmup + shorter.requests) / shorter.rate_rps() == pytest.approx(10.0, abs=0.01)


def test_servers_that_come_and_go_are_left_alone():
    scenario = load_scenario("leave-join")
    assert lasting(scenario, 12.0).faults == scenario.faults


def test_only_live_runs_that_did_not_keep_their_schedule_are_played_again():
    def row(policy, lag, backend="http", scenario="a"):
        return {"scenario": scenario, "backend": backend, "policy": policy, "schedule_lag_ms": lag}

    rows = [
        row("p2c", "4.1"),
        row("p2c", "50.1"),
        row("p2c", "", "twin"),
        row("random", "99"),
        row("p2c", "99", scenario="b"),
        row("sed", "99"),
    ]
    field = [build("p2c"), build("random")]
    assert [(place, one.name) for place, one in late_runs(rows, "a", field)] == [(1, "p2c"), (3, "random")]

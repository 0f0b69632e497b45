"""Families: reproducible random scenarios inside their stated ranges, all of them valid scenario files."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from trimtab.core.scenario import Fault, Scenario
from trimtab.core.scenario_text import parse_scenario, scenario_table
from trimtab.core.traffic import draw_episode
from trimtab.errors import UsageError
from trimtab.problems.routing.families import EPISODES_A_SHAPE, FAMILIES, draw_family, draw_for_training, draw_named

PLAIN = ("uniform", "speeds", "affinity", "grey")
NAMES = (*PLAIN, "mixed", "general")


def drawn(name: str, count: int = 40, fleet_size: int = 4) -> list[Scenario]:
    return [draw_family(name, 1, index, fleet_size=fleet_size) for index in range(count)]


def test_the_families_are_documented() -> None:
    assert tuple(FAMILIES) == NAMES
    assert all(family.doc for family in FAMILIES.values())


@pytest.mark.parametrize("name", NAMES)
def test_seed_and_index_decide_the_scenario(name: str) -> None:
    assert draw_family(name, 3, 5) == draw_family(name, 3, 5)
    others = [draw_family(name, 3, 6), draw_family(name, 4, 5)]
    assert all(one.servers != draw_family(name, 3, 5).servers for one in others)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fleet_size", [1, 4, 9])
def test_every_draw_is_a_valid_scenario_with_traffic(name: str, fleet_size: int) -> None:
    for scenario in drawn(name, 5, fleet_size):
        assert len(scenario.servers) == fleet_size
        again = parse_scenario(scenario_table(scenario), source=scenario.id)
        assert again == scenario
        assert draw_episode(scenario, 0, 0).arrival_s.shape == (2200,)


@pytest.mark.parametrize("name", PLAIN)
def test_draws_stay_inside_their_ranges(name: str) -> None:
    low, high = (0.3, 0.8) if name == "grey" else (0.5, 0.95)
    for scenario in drawn(name):
        assert low <= (scenario.traffic.load or 0) <= high
        assert [one.share for one in scenario.classes] == [0.6, 0.3, 0.1]
        assert {one.slots for one in scenario.servers} <= {1, 2, 3, 4}
        speeds = np.array([list(one.speed.values()) for one in scenario.servers])
        least, most = (0.25 * 0.4, 2.5) if name in ("affinity", "grey") else (0.25, 1.0)
        assert ((speeds >= least) & (speeds <= most)).all()
        assert all(0 <= one.contention <= (0.4 if name == "grey" else 0) for one in scenario.servers)
        assert bool(scenario.faults) <= (name == "grey")


def test_uniform_servers_are_equal_and_speeds_are_not() -> None:
    for scenario in drawn("uniform"):
        assert len({(one.slots, tuple(one.speed.values())) for one in scenario.servers}) == 1
    for scenario in drawn("speeds"):
        assert len({tuple(one.speed.values()) for one in scenario.servers}) == 4
        assert all(len(set(one.speed.values())) == 1 for one in scenario.servers)


def test_half_of_the_mixed_fleets_are_grey_and_no_kind_is_missing() -> None:
    scenarios = drawn("mixed", 300)
    plain = [one for one in scenarios if [kind.share for kind in one.classes] == [0.6, 0.3, 0.1]]
    grey = [one for one in plain if {fault.factor for fault in one.faults} == {6.0}]
    assert abs(len(grey) / 300 - 0.5) < 0.1
    equal = [one for one in plain if len({(s.slots, tuple(s.speed.values())) for s in one.servers}) == 1]
    assert 5 <= len(equal) <= 30
    assert abs(1.0 - len(plain) / 300 - 0.2) < 0.1, "general"
    assert {len(one.classes) for one in scenarios} == {3}, "episodes of one batch have equally many"


def slow_share(faults: Sequence[Fault], horizon_s: float) -> float:
    return sum(max(0.0, min(one.end_s, horizon_s) - one.start_s) for one in faults) / horizon_s


def test_grey_servers_are_slow_a_tenth_of_the_time_from_start_to_end() -> None:
    scenarios = drawn("grey", 400)
    spells = [one for scenario in scenarios for one in scenario.faults]
    assert {(one.kind, one.factor) for one in spells} == {("slowdown", 6.0)}
    lengths_s = np.array([one.end_s - one.start_s for one in spells])
    assert abs(lengths_s.mean() - 4) < 5 * 4 / np.sqrt(lengths_s.size)
    shares = np.array([slow_share(one.faults, 1.5 * 2200 / one.rate_rps()) / 4 for one in scenarios])
    assert abs(shares.mean() - 0.1) < 5 * shares.std() / np.sqrt(shares.size)
    at_start = sum(one.start_s == 0 for one in spells) / 1600
    assert abs(at_start - 0.1) < 5 * np.sqrt(0.09 / 1600)


def test_spells_of_one_server_do_not_overlap() -> None:
    for scenario in drawn("grey"):
        for server in scenario.server_ids:
            own = [one for one in scenario.faults if one.server == server]
            assert all(before.end_s <= after.start_s for before, after in pairwise(own))


def test_the_family_stream_is_not_the_traffic_stream() -> None:
    traffic = np.random.Generator(np.random.PCG64(np.random.SeedSequence([3, 5])))
    traffic.integers(1, 5)  # the slots, which `uniform` draws before the speed
    assert draw_family("uniform", 3, 5).servers[0].speed["light"] != traffic.uniform(0.25, 1.0)


def test_wrong_names_and_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="'gray'; allowed: uniform, speeds, affinity, grey"):
        draw_family("gray", 0, 0)
    with pytest.raises(UsageError, match="fleet size is 0"):
        draw_family("grey", 0, 0, fleet_size=0)


def test_a_name_may_carry_the_fleet_size() -> None:
    assert draw_named("grey", 1, 2) == draw_family("grey", 1, 2)
    assert draw_named("grey:16", 1, 2) == draw_family("grey", 1, 2, fleet_size=16)


@pytest.mark.parametrize("text", ["grey:", "grey:x", "grey:-3", "grey:1.5", "grey:0", "grey:²"])
def test_a_fleet_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="allowed: 1 or more servers"):
        draw_named(text, 0, 0)


@pytest.mark.parametrize(("servers", "requests", "warmup"), [(2, 2000, 200), (16, 2000, 200), (100, 5000, 300), (1000, 5000, 3000)])
def test_a_large_fleet_is_filled_before_it_is_measured(servers: int, requests: int, warmup: int) -> None:
    scenario = draw_family("affinity", 0, 0, fleet_size=servers)
    assert (scenario.requests, scenario.warmup) == (requests, warmup)
    assert scenario.warmup > sum(one.slots for one in scenario.servers)


def test_training_on_general_meets_fleets_of_many_shapes_one_at_a_time() -> None:
    shapes = FAMILIES["general"].shapes
    for turn, (servers, classes) in enumerate(shapes):
        for index in (turn * EPISODES_A_SHAPE, (turn + 1) * EPISODES_A_SHAPE - 1, (turn + len(shapes)) * EPISODES_A_SHAPE):
            scenario = draw_for_training("general", 0, index)
            assert (len(scenario.servers), len(scenario.classes)) == (servers, classes)
            assert parse_scenario(scenario_table(scenario), source=scenario.id) == scenario
    assert len({servers for servers, _ in shapes}) >= 5
    assert len({classes for _, classes in shapes}) >= 4


def test_a_fleet_of_anything_has_every_kind_of_trouble_somewhere() -> None:
    many = drawn("general", 300)
    assert {one.traffic.kind for one in many} == {"poisson", "mmpp", "sinusoid", "flash", "ramp"}
    kinds = {fault.kind for one in many for fault in one.faults}
    assert kinds == {"slowdown", "fail_fast", "error_share", "freeze", "crash", "leave"}
    assert 0.3 < sum(not one.faults for one in many) / len(many) < 0.8
    assert all(fault.server != "server-1" for one in many for fault in one.faults)
    assert max(server.slots for one in many for server in one.servers) > 8


def test_other_families_train_on_what_they_are() -> None:
    assert draw_for_training("grey", 2, 7) == draw_named("grey", 2, 7)
    assert draw_for_training("general:5", 2, 7) == draw_named("general:5", 2, 7)

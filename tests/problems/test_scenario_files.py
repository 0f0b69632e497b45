"""Scenario files: every packaged one is sound, and whatever is wrong with a file is said in one line."""

import re
from pathlib import Path

import numpy as np
import pytest

from trimtab.core.scenario import Scenario
from trimtab.core.traffic import draw_episode
from trimtab.errors import ScenarioError, UsageError
from trimtab.problems.routing.scenario_files import check_scenario, list_scenarios, load_scenario, load_trace, save_scenario

IDS = [scenario_id for scenario_id, _ in list_scenarios()]
EXPECTED = [
    *("affinity-100", "affinity-180", "affinity-240", "black-hole", "cluster-trace", "compose-cpu", "compose-default", "contention"),
    *(
        "crash-restart",
        "error-share",
        "flash",
        "freeze",
        "grey-four",
        "heavy-tail-known",
        "heavy-tail",
        "leave-join",
        "mmpp",
        "overload",
        "ramp",
        "sinusoid",
        "slow-middle",
        "speeds-50",
        "speeds-70",
        "speeds-90",
        "trace",
        "uniform",
    ),
]

TINY = """
[scenario]
id = "tiny"
requests = 10
[traffic]
rate_rps = 5
[[classes]]
name = "a"
share = 1
work_ms = 10
[[servers]]
id = "server-1"
slots = 1
speed = { a = 1.0 }
"""
HEAD, REST = TINY.split("[traffic]")
FLEET = "[[classes]]" + REST.partition("[[classes]]")[2]


def refused(path: Path) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(str(path))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_the_list_names_every_scenario_with_a_sentence() -> None:
    assert IDS == EXPECTED
    for _, description in list_scenarios():
        assert re.fullmatch(r"[A-Z][^#\n]{20,140}[.?]", description)


@pytest.mark.parametrize("scenario_id", EXPECTED)
def test_a_packaged_scenario_loads_and_draws_its_traffic(scenario_id: str) -> None:
    scenario = load_scenario(scenario_id)
    assert scenario.id == scenario_id
    drawn = draw_episode(scenario, 0, 0, load_trace(scenario))
    assert drawn.arrival_s.shape == (scenario.warmup + scenario.requests,)
    for fault in scenario.faults:
        assert fault.start_s < drawn.arrival_s[-1], "a fault after the last arrival shows nothing"
        assert fault.end_s == float("inf") or fault.end_s < drawn.arrival_s[-1]


@pytest.mark.parametrize("scenario_id", EXPECTED)
def test_a_packaged_scenario_survives_saving(scenario_id: str, tmp_path: Path) -> None:
    path = tmp_path / "copy.toml"
    save_scenario(path, load_scenario(scenario_id), description="A copy\nof it.")
    assert load_scenario(str(path)) == load_scenario(scenario_id)
    assert path.read_text().startswith("# A copy of it.\n")
    assert [one.name for one in tmp_path.iterdir()] == ["copy.toml"]


def utilisation_when_full(scenario: Scenario) -> list[float]:
    return [one.slots * max(k.cpu for k in scenario.classes) / one.cpu for one in scenario.servers]


def test_the_default_fleet_is_what_its_scenario_promises() -> None:
    scenario = load_scenario("compose-default")
    assert (scenario.requests, scenario.warmup, scenario.slo_s, scenario.traffic.load) == (2000, 200, 0.2, 0.8)
    assert scenario.server_ids == ("server-1", "server-2", "server-3", "server-4")
    assert scenario.class_names == ("light", "medium", "heavy")
    assert 150 <= scenario.capacity_rps() <= 200
    # Equal shares are the worst of the sensible policies: each server must carry a quarter of the traffic.
    assert (scenario.service_rate_rps() > scenario.rate_rps() / 4).all()
    assert max(utilisation_when_full(scenario)) <= 1


@pytest.mark.parametrize("scenario_id", EXPECTED)
def test_utilisation_stays_below_one(scenario_id: str) -> None:
    assert max(utilisation_when_full(load_scenario(scenario_id))) <= 1


def test_affinity_has_the_service_times_it_is_known_for() -> None:
    expected = [[0.010, 0.060], [0.012, 0.050], [0.060, 0.010], [0.040, 0.015]]
    assert load_scenario("affinity-180").mean_service_s() == pytest.approx(np.array(expected))
    assert load_scenario("speeds-70").mean_service_s()[:, 0] == pytest.approx([0.01, 0.02, 0.02, 0.04, 0.08])


def test_an_unknown_id_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'compose-defualt'; did you mean compose-default\? list them with --scenario list"):
        load_scenario("compose-defualt")
    with pytest.raises(UsageError, match="'zzzz'; list them"):
        load_scenario("zzzz")


def test_a_file_is_named_by_suffix_or_separator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tiny.toml", "tiny.conf"):
        (tmp_path / name).write_text(TINY)
    monkeypatch.chdir(tmp_path)
    assert load_scenario("tiny.toml") == load_scenario("./tiny.conf") == check_scenario(tmp_path / "tiny.toml")


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.toml")
    assert "cannot read" in refused(tmp_path / "folder" / "none.toml")


def test_broken_toml_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('[scenario]\nid = "x"\nrequests = = 3\n')
    assert "line 3" in refused(path)
    path.write_bytes(b"\xff\xfe")
    assert "is not TOML" in refused(path)
    path.write_text("a = " + "9" * 5000)
    assert "is not TOML" in refused(path)


def test_a_wrong_value_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(TINY.replace("slots = 1", "slots = 0"))
    assert refused(path).startswith(f"{path}: servers[0].slots is 0; allowed: ")


# Fleets


def with_fleet(tmp_path: Path, fleet: str, scenario: str = HEAD + 'fleet = "fleet.toml"\n[traffic]\nrate_rps = 5\n') -> Path:
    (tmp_path / "fleet.toml").write_text(fleet)
    (tmp_path / "mine.toml").write_text(scenario)
    return tmp_path / "mine.toml"


def test_a_fleet_beside_the_file_completes_it(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    assert load_scenario(str(with_fleet(tmp_path, FLEET))) == load_scenario(str(tmp_path / "tiny.toml"))


def test_the_fleet_in_servers_follows_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_fleet(tmp_path, FLEET)
    monkeypatch.setenv("TRIMTAB_SERVERS", str(tmp_path))
    assert load_scenario("compose-default").server_ids == ("server-1",)


def test_wrong_fleets_are_refused(tmp_path: Path) -> None:
    assert "scenario does not belong to a fleet" in refused(with_fleet(tmp_path, TINY))
    assert "one of the two" in refused(with_fleet(tmp_path, FLEET, TINY.replace("requests", 'fleet = "fleet.toml"\nrequests')))
    assert "fleet.toml: servers[0].slots" in refused(with_fleet(tmp_path, FLEET.replace("slots = 1", "slots = 0")))
    assert "scenario.fleet is 3" in refused(with_fleet(tmp_path, FLEET, HEAD + "fleet = 3\n"))
    assert "cannot read" in refused(with_fleet(tmp_path, FLEET, HEAD + 'fleet = "servers/none.toml"\n'))


# Traces


def with_trace(tmp_path: Path, csv: str, rate_rps: float = 5, file: str = "rates.csv") -> Path:
    (tmp_path / "rates.csv").write_text(csv)
    path = tmp_path / "traced.toml"
    path.write_text(TINY.replace("rate_rps = 5", f'kind = "trace"\nrate_rps = {rate_rps}\nfile = "{file}"\ncolumn = "load"'))
    return path


def test_a_trace_lies_beside_its_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_trace(tmp_path, "time,load\n0,4\n1,6.5\n")
    monkeypatch.chdir("/")
    scenario = load_scenario(str(path))
    assert scenario.traffic.file == str(tmp_path / "rates.csv")
    rates = load_trace(scenario)
    assert rates is not None
    assert rates.tolist() == [4.0, 6.5]
    assert load_trace(load_scenario("uniform")) is None


@pytest.mark.parametrize(
    ("csv", "words"),
    [
        ("time,laod\n0,4\n", ["no column 'load'", "time, laod", "did you mean laod?"]),
        ("", ["no column 'load'", "it is empty"]),
        ("load\n4\nmany\n", ["line 3", "'many'", "0 or more"]),
        ("load\n4\n-1\n", ["line 3", "'-1'"]),
        ("load\n4\nnan\n", ["line 3", "'nan'"]),
        ("time,load\n0,1\n1\n", ["line 3", "None"]),
        ("load\n0\n0\n", ["holds no request (2 rows)"]),
        ("load\n", ["holds no request (0 rows)"]),
        ("load\n4\n4\n", ["asks for 5 ", "at most its mean, 4"]),
    ],
)
def test_wrong_traces_are_refused(csv: str, words: list[str], tmp_path: Path) -> None:
    message = refused(with_trace(tmp_path, csv))
    assert [word for word in words if word not in message] == []


def test_a_missing_trace_names_the_packaged_ones(tmp_path: Path) -> None:
    for file in ("none.csv", "none"):
        message = refused(with_trace(tmp_path, "", file=file))
        assert "cannot read trace" in message
        assert "rush-hours" in message


# Saving


def test_saving_replaces_the_file_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "saved.toml"
    path.write_text("old")
    save_scenario(path, load_scenario("uniform"))
    assert load_scenario(str(path)) == load_scenario("uniform")


def test_a_folder_that_does_not_exist_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        save_scenario(tmp_path / "none" / "saved.toml", load_scenario("uniform"))

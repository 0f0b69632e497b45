import json
from pathlib import Path

import pytest

from server_profile import ProfileError, profile_from_environment, profile_from_fleet, profile_from_tables, profile_or_exit

DEFAULT_FLEET = Path(__file__).resolve().parents[2] / "servers" / "fleet.toml"
SERVER = {"id": "s", "slots": 2, "speed": {"a": 0.5}}
CLASS = {"name": "a", "work_ms": 20}
FLEET = """
[[classes]]
name = "a"
share = 1.0
work_ms = 20
[[servers]]
id = "s"
slots = 2
speed = { a = 0.5 }
[[servers]]
id = "t"
slots = 1
speed = { a = 1.0 }
work = "cpu"
"""


def test_files_speak_milliseconds_records_seconds_and_defaults_are_the_designs():
    profile = profile_from_tables(SERVER, [CLASS])
    assert profile.classes[0].work_s == pytest.approx(0.02)
    assert (profile.queue_limit, profile.contention, profile.cpu, profile.memory, profile.work) == (64, 0.0, 1000.0, 1000.0, "sleep")
    assert (profile.classes[0].distribution, profile.classes[0].spread, profile.classes[0].cpu) == ("lognormal", 1.0, 10.0)


def test_threads_cover_slots_the_queue_up_to_256_and_8_spare():
    assert profile_from_tables(SERVER, [CLASS]).threads == 2 + 64 + 8
    assert profile_from_tables(SERVER | {"queue_limit": 5000}, [CLASS]).threads == 2 + 256 + 8


def test_capacity_is_slots_over_the_mean_service_time_of_the_mix():
    rates = [profile_from_fleet(DEFAULT_FLEET, f"server-{number}").capacity_per_s for number in range(1, 5)]
    assert [round(rate) for rate in rates] == [49, 45, 43, 38], "as the file's own comments say"


def test_without_shares_all_classes_weigh_the_same():
    classes = [CLASS, CLASS | {"name": "b", "work_ms": 60}]
    server = SERVER | {"speed": {"a": 1.0, "b": 1.0}}
    assert profile_from_tables(server, classes).capacity_per_s == pytest.approx(2 / 0.04)
    weighed = [one | {"share": share} for one, share in zip(classes, (0.75, 0.25), strict=True)]
    assert profile_from_tables(server, weighed).capacity_per_s == pytest.approx(2 / 0.03)


@pytest.mark.parametrize("shares", [(0.5, None), (0, 0)])
def test_shares_are_for_all_classes_or_none_and_not_all_zero(shares):
    stated = [{} if share is None else {"share": share} for share in shares]
    classes = [CLASS | stated[0], CLASS | {"name": "b"} | stated[1]]
    with pytest.raises(ProfileError, match=r"share of the classes = \["):
        profile_from_tables(SERVER | {"speed": {"a": 1.0, "b": 1.0}}, classes)


def test_a_fleet_file_and_json_give_the_same_profile(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET)
    from_file = profile_from_environment({"TRIMTAB_FLEET": str(path), "SERVER_ID": "s"})
    document = {"server": SERVER, "classes": [CLASS | {"share": 1.0}]}
    assert profile_from_environment({"TRIMTAB_PROFILE": json.dumps(document)}) == from_file
    assert profile_from_fleet(path, "t").work == "cpu"


@pytest.mark.parametrize(
    ("server", "one", "message"),
    [
        ({"slots": 0}, {}, "slots = 0"),
        ({"slots": 1.5}, {}, "slots = 1.5"),
        ({"speed": {"b": 1.0}}, {}, "a = None"),
        ({"speed": {"a": 0.0}}, {}, "a = 0.0"),
        ({"work": "gpu"}, {}, "sleep, cpu"),
        ({"slot": 1}, {}, "unknown key 'slot'"),
        ({"queue_limit": -1}, {}, "queue_limit = -1"),
        ({"contention": True}, {}, "contention = True"),
        ({}, {"work_ms": float("inf")}, "work_ms = inf"),
        ({}, {"distribution": "normal"}, "lognormal, exponential, pareto, fixed"),
        ({}, {"name": "a/b"}, "without '/'"),
    ],
)
def test_impossible_values_are_named(server, one, message):
    with pytest.raises(ProfileError, match="allowed") as caught:
        profile_from_tables(SERVER | server, [CLASS | one])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TRIMTAB_PROFILE": "{"},
        {"TRIMTAB_PROFILE": "[]"},
        {"TRIMTAB_FLEET": "/nowhere.toml", "SERVER_ID": "s"},
        {"TRIMTAB_PROFILE": json.dumps({"server": SERVER, "classes": []})},
    ],
)
def test_a_bad_profile_is_one_line_and_exit_code_2(environment, capsys):
    with pytest.raises(SystemExit) as caught:
        profile_or_exit(environment)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_server_that_the_file_lacks_is_named_with_those_it_has(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET)
    with pytest.raises(ProfileError, match=r"'u' is not in .*found: s, t"):
        profile_from_fleet(path, "u")

"""The files about single requests, whatever number of processes shared the work."""

from tiny_runs import write_scenario
from trimtab.cli.evaluate import main
from trimtab.experiments.details import COLUMNS, beside
from trimtab.problems.routing.scenario_files import load_scenario, save_scenario

POLICIES = "p2c,sed-online,random,oracle-greedy"


def test_several_processes_write_the_files_of_one(tmp_path, capsys):
    calm, faulty = write_scenario(tmp_path), tmp_path / "faulty.toml"
    save_scenario(faulty, load_scenario("crash-restart"))

    def measured(jobs):
        path = tmp_path / f"{jobs}.csv"
        words = ["--scenario", str(calm), "--scenario", str(faulty), "--scenario", "family:speeds:2", "--episodes", "2", "--jobs", jobs]
        assert main([*words, "--csv", str(path), "--policies", POLICIES, "--metrics-port", "0"]) == 0
        return {kind: beside(path, kind).read_text() for kind in COLUMNS}

    alone, spread = measured("1"), measured("3")
    assert alone == spread
    assert all(name in alone["latency"] for name in ("tiny", "crash-restart", "family:speeds:2", *POLICIES.split(",")))
    assert "server-3 crash" in alone["timeline"]
    assert "family:speeds:2,twin,p2c,rank-2,heavy" in alone["shares"]
    assert "family:" not in alone["timeline"]
    assert "--jobs" not in capsys.readouterr().err

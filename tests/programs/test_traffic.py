"""Learning from live traffic as people run it: real servers, a gateway, a learner, and what is left when one of them is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import urllib3

from tiny_runs import AGENT, LEARNER, rows_without_time, write_scenario
from trimtab.cli import app
from trimtab.dqn.checkpoint import load_checkpoint, load_state
from trimtab.experiments import log_training
from trimtab.experiments.decision_log import decisions_in, read_deciders, read_header
from trimtab.experiments.log_lock import holder
from trimtab.experiments.runs import RunFolder
from trimtab.fleets.local import LocalServers, free_ports
from trimtab.problems.routing.scenario_files import load_scenario

PATIENCE_S = 120.0
LEARNER_ARGS = [word for key, value in (LEARNER | {"decisions_per_update": 8}).items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def scenario_file(tmp_path_factory):
    return write_scenario(tmp_path_factory.mktemp("scenario"))


@pytest.fixture(scope="module")
def servers(scenario_file):
    """The same servers for all tests: no test here harms one, and they keep nothing from one request to the next."""
    with LocalServers(load_scenario(str(scenario_file))) as local:
        yield local.urls


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "Models")


@pytest.fixture
def learner(scenario_file, servers, folder):
    """Start train_dqn.py beside a gateway; the process, and the gateway's address. No process is left behind."""
    (port,) = free_ports(1)
    started = []

    def begin(*words):
        command = [
            sys.executable,
            str(AGENT / "train_dqn.py"),
            "--port",
            str(port),
            "--metrics-port",
            "0",
            "--out",
            str(folder.root),
            *words,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}"))
        return process, f"http://127.0.0.1:{port}"

    begin.new = ("--traffic", "gateway", "--scenario", str(scenario_file), "--servers", ",".join(servers), *LEARNER_ARGS)
    yield begin
    for process in started:
        process.kill()
        process.communicate()
    gateway = holder(folder.decisions) if folder.decisions.exists() else None
    if gateway:
        os.kill(gateway, signal.SIGKILL)


def answers(url):
    try:
        return urllib3.request("GET", f"{url}/readyz", retries=False, timeout=2.0).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def until(condition):
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


class Clients:
    """Some clients that ask one thing after the other until told to stop."""

    def __init__(self, url, count=3):
        self.statuses, self._url, self._over = [], url, threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]

    def __enter__(self):
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for one in self._threads:
            one.join()

    def _ask(self):
        with urllib3.PoolManager(retries=False, timeout=20.0) as pool:
            while not self._over.is_set():
                kind = "ab"[len(self.statuses) % 2]
                try:
                    self.statuses.append(pool.request("GET", f"{self._url}/job/{kind}").status)
                except urllib3.exceptions.HTTPError as error:
                    self.statuses.append(repr(error))

    @property
    def failed(self):
        return [one for one in self.statuses if one != 200]

    def ask(self, more):
        wanted = len(self.statuses) + more
        until(lambda: len(self.statuses) >= wanted)


def recorded(folder):
    try:
        return decisions_in(folder.decisions, read_header(folder.decisions).record)
    except Exception:  # noqa: BLE001 -- not there yet
        return 0


def test_it_learns_from_what_others_send(learner, folder):
    process, url = learner(*learner.new, "--episodes", "2")
    with Clients(url) as clients:
        until(lambda: process.poll() is not None or len(clients.statuses) > 5000)
        out, err = process.communicate(timeout=PATIENCE_S)
        before_the_end = clients.statuses[: 2 * log_training.EPISODE]
    assert process.returncode == 0, err
    assert set(before_the_end) == {200}
    assert out == f"{folder.final}\n"
    assert f"gateway: {url}" in err
    assert "python -m locust -f load/locustfile.py" in err
    rows = rows_without_time(folder.metrics)
    assert len(rows) == 3
    assert [row.split(",")[2] for row in rows[1:]] == ["gateway"] * 2
    assert load_checkpoint(folder.final).episode == 2
    assert load_state(folder.resume_state)["agent"]["learner"]["updates"] > 50
    assert "dqn" in read_deciders(folder.decisions)
    assert not answers(url), "the gateway ended with the learner"
    assert json.loads(folder.config.read_text())["learner"]["replay_capacity"] == LEARNER["replay_capacity"]


def test_a_killed_learner_is_not_noticed_and_is_resumed_where_it_was(learner, folder):
    process, url = learner(*learner.new, "--episodes", "3")
    with Clients(url) as clients:
        until(lambda: recorded(folder) >= 300)
        process.kill()
        process.communicate()
        clients.ask(300)
        assert clients.failed == []
        gateway = holder(folder.decisions)
        assert gateway, "the gateway goes on"
        resumed, _ = learner("--resume")
        _, err = resumed.communicate(timeout=PATIENCE_S)
        assert resumed.returncode == 0, err
        assert f"kill {gateway}" in err
        clients.ask(10)
        assert clients.failed == []
    assert answers(url), "it was not this learner's to end"
    assert len(rows_without_time(folder.metrics)) == 4
    assert load_state(folder.resume_state)["agent"]["decisions"] == 3 * log_training.EPISODE - 1, "each decision once, but the newest"


def test_ctrl_c_ends_both_in_order_and_both_go_on_with_resume(learner, folder):
    process, url = learner(*learner.new, "--episodes", "2")
    with Clients(url, 1) as clients:
        until(lambda: recorded(folder) >= 100)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert holder(folder.decisions) is None
    before = recorded(folder)
    assert 100 <= before <= len(clients.statuses)
    resumed, url = learner("--resume")
    with Clients(url) as clients:
        _, err = resumed.communicate(timeout=PATIENCE_S)
    assert resumed.returncode == 0, err
    assert recorded(folder) >= 2 * log_training.EPISODE
    breaks = 1  # between the two sessions one decision closes the stream
    assert load_state(folder.resume_state)["agent"]["decisions"] == 2 * log_training.EPISODE - 1 - breaks


def test_a_gateway_that_cannot_start_is_one_line(learner, folder):
    process, _ = learner(*learner.new, "--servers", "http://127.0.0.1:9")
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "names 1" in errors[0]
    assert str(folder.gateway_log) in errors[0]
    assert "Traceback" not in err


def test_a_gateway_that_dies_is_one_line(learner, folder):
    process, _ = learner(*learner.new)
    until(lambda: holder(folder.decisions))
    os.kill(holder(folder.decisions), signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "error: the gateway ended with exit code -9" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--policy", "p2c", "--record-limit", "5"], "--record DIR"),
        (["--policy", "p2c", "--record", "x", "--explore"], "--model PATH"),
        (["--model", "x.pth", "--explore"], "--record DIR"),
        (["--policy", "p2c", "--record", "{file}"], "--record"),
    ],
)
def test_options_of_the_gateway_that_make_no_sense_are_one_line(tmp_path, capsys, words, named):
    (tmp_path / "file").write_text("")
    assert app.main([word.format(file=tmp_path / "file" / "log") for word in words]) in (1, 2)
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert named in captured.err

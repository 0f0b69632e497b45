"""Training and evaluation let themselves be watched: a page of metrics on the port asked for."""

import socket
import threading
import time
from types import SimpleNamespace

import pytest
import urllib3

from tiny_runs import LEARNER_ARGS, shorten, write_scenario
from trimtab.cli import evaluate, train, watching
from trimtab.dqn.errors import LearningError
from trimtab.experiments.curriculum import Phase
from trimtab.fleets.local import free_ports


@pytest.fixture
def port():
    return free_ports(1)[0]


@pytest.fixture
def pages(port, monkeypatch):
    """What the page said after each batch of rows: the programs' own updates of the progress bar are the moments to look."""
    seen = []
    update = train.Bar.update

    def look(bar, done, text):
        update(bar, done, text)
        with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
            seen.append(pool.request("GET", f"http://127.0.0.1:{port}/metrics").data.decode())

    monkeypatch.setattr(train.Bar, "update", look)
    return seen


def words(tmp_path, port):
    return ["--scenario", str(write_scenario(tmp_path)), "--metrics-port", str(port)]


def training(tmp_path, port, *more):
    return train.main([*words(tmp_path, port), "--backend", "twin", "--out", str(tmp_path / "Models"), *LEARNER_ARGS, *more])


def test_a_training_run_shows_itself(tmp_path, port, pages, monkeypatch):
    shorten(monkeypatch.setattr, phases=(Phase(1000, 40),))
    assert training(tmp_path, port, "--episodes", "60") == 0
    assert "trimtab_training_episode 60.0" in pages[-1]
    assert 'trimtab_training_info{backend="twin",problem="routing"' in pages[-1]
    for policy in ("dqn", "sed-online", "least-outstanding"):
        assert f'backend="twin",class="a",policy="{policy}",server="server-1"' in pages[-1]
    assert 'trimtab_training_reference_latency_seconds{policy="sed-online"}' in pages[-1]


def test_a_named_port_that_is_taken_ends_the_run_and_the_default_one_does_not(tmp_path, port, monkeypatch, capsys):
    shorten(monkeypatch.setattr, phases=(Phase(1000, 40),))
    with socket.create_server(("127.0.0.1", port)):
        assert training(tmp_path, port, "--episodes", "20") == 1
        assert f"metrics port {port}" in capsys.readouterr().err
        arguments = watching.argparse.Namespace(metrics_port=None, metrics_bind=None)
        with watching.page(arguments, port, []) as watched:
            assert not watched
        assert "Prometheus does not see this run" in capsys.readouterr().err


def test_port_zero_is_no_page(tmp_path, monkeypatch):
    shorten(monkeypatch.setattr, phases=(Phase(1000, 40),))
    before = threading.active_count()
    arguments = watching.argparse.Namespace(metrics_port=0, metrics_bind=None)
    with watching.page(arguments, 9, []) as watched:
        assert not watched
        assert threading.active_count() == before


def test_learning_that_broke_down_is_seen_before_the_run_ends(tmp_path, port, monkeypatch, capsys):
    shorten(monkeypatch.setattr, phases=(Phase(1000, 40),))
    seen = []

    def look(seconds):
        with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
            seen.append((seconds, pool.request("GET", f"http://127.0.0.1:{port}/metrics").data.decode()))

    def broken(_session):
        raise LearningError("loss is not finite")
        yield

    # The name in this module alone: whatever else waits, such as for a child process, sleeps before the page is there or after.
    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=look, time=time.time))
    monkeypatch.setattr("trimtab.experiments.session.TrainingSession.run", broken)
    assert training(tmp_path, port, "--episodes", "20") == 1
    assert "loss is not finite" in capsys.readouterr().err
    ((seconds, page),) = seen
    assert seconds == watching.LINGER_S
    assert "trimtab_training_loss NaN" in page


def test_an_evaluation_shows_itself(tmp_path, port, pages):
    options = ["--policies", "round-robin,p2c", "--episodes", "3", "--csv", str(tmp_path / "rows.csv")]
    assert evaluate.main([*words(tmp_path, port), *options]) == 0
    assert 'trimtab_evaluation_episodes_total{backend="twin",policy="p2c",scenario="tiny"} 3.0' in pages[-1]
    assert 'policy="round-robin"' in pages[-1]

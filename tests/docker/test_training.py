"""Training, evaluation and gateway over the Compose fleet: watched by every panel, and survived when servers die, hang and come back."""

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from benchmarks.failing_servers import RETURN, Watch
from grafana.panels import dashboards, series, walk

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = "http://127.0.0.1:9090"
# It learns from the first seconds on and explores little: enough to see it turn away from a server.
LEARNER = {"hidden": 16, "batch": 64, "learn_start": 128, "decisions_per_update": 64, "epsilon_decisions": 20_000}
LEARNER_ARGS = [word for key, value in LEARNER.items() for word in ("--set", f"{key}={value}")]
WINDOW = 200  # decisions over which a share is taken


@contextmanager
def running(script, *words):
    """The program in the background; interrupted at the end as by Ctrl-C, unless it has ended well by itself."""
    command = [sys.executable, f"agent/{script}", *words]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert process.returncode in (0, 130), said


def empty_panels(row_is_wanted):
    """Panels of all dashboards, in rows that are wanted, whose query gives nothing at this moment."""
    wanted = [(board["title"], query) for board in dashboards() for query in walk(board) if row_is_wanted(query.row)]
    assert wanted
    return [f"{title}, {one.row}: {one.panel} ({one.ref})" for title, one in wanted if series(PROMETHEUS, one.expr) == 0]


def is_watched(job):
    """Whether Prometheus reads the program's page now: for minutes a panel may still show one that ended before."""
    answer = requests.get(f"{PROMETHEUS}/api/v1/query", params={"query": f'up{{job="{job}"}}'}, timeout=10)
    return any(float(one["value"][1]) == 1.0 for one in answer.json()["data"]["result"])


def trains(row):
    """Rows that a training run alone fills; the others need their own program."""
    return row != "Evaluation" and not row.startswith("Gateway")


def test_no_panel_is_empty_while_a_training_runs(stack, eventually, tmp_path):
    options = ["--backend", "http", "--episodes", "6000", "--out", str(tmp_path), *LEARNER_ARGS]
    with running("train_dqn.py", *options) as process:
        eventually(lambda: process.poll() is not None or (is_watched("training") and not empty_panels(trains)), deadline_s=120)
        assert process.poll() is None, "the training went on by itself"
        assert empty_panels(trains) == []


def test_no_evaluation_panel_is_empty_while_an_evaluation_runs(stack, eventually, tmp_path):
    options = ["--backend", "http", "--policies", "round-robin,p2c,sed-online", "--episodes", "9", "--csv", str(tmp_path / "rows.csv")]

    def evaluates(row):
        return row == "Evaluation"

    with running("evaluate_dqn.py", *options) as process:
        eventually(lambda: process.poll() is not None or (is_watched("evaluation") and not empty_panels(evaluates)), deadline_s=120)
        assert empty_panels(evaluates) == []


@pytest.mark.parametrize("row", ["Gateway", "Gateway that learns"])
def test_no_gateway_panel_is_empty_while_a_gateway_with_a_model_runs(stack, eventually, tmp_path, row):
    """With a model, for a classical policy has no fallbacks to show; on trial, or learning with a control group of half the requests."""
    host = stack.host_address()

    def asks():
        for kind in ("light", "medium", "heavy"):
            requests.get(f"http://{host}:8080/job/{kind}", timeout=10)
        return not empty_panels(lambda one: one == row)

    learns = ["--explore", "--record", str(tmp_path), "--control-share", "0.5"]
    trial = ["--shadow", "Models/reference.pth", "--canary", "Models/reference.pth"]
    with running("app.py", "--model", "Models/reference.pth", *(trial if row == "Gateway" else learns), "--host", host) as process:
        eventually(lambda: process.poll() is not None or listens(host), deadline_s=60)
        assert process.poll() is None, "the gateway did not start"
        eventually(asks, deadline_s=60)


def listens(host):
    try:
        return requests.get(f"http://{host}:8080/readyz", timeout=2).ok
    except requests.RequestException:
        return False


@pytest.fixture
def watch():
    one = Watch(window=WINDOW)
    one.start()
    yield one
    one.stop()


def test_training_survives_servers_that_die_hang_and_come_back(stack, eventually, watch, tmp_path):
    options = ["--episodes", "400", "--live-episodes", "6000", "--out", str(tmp_path), *LEARNER_ARGS]

    def decided(more):
        goal = watch.samples[-1].decided + more if watch.samples else more
        eventually(lambda: process.poll() is not None or (watch.samples and watch.samples[-1].decided >= goal), deadline_s=120)
        assert process.poll() is None, "the training went on by itself"

    with running("train_dqn.py", *options) as process:
        decided(3 * WINDOW)
        for verb, server in (("kill", "server-3"), ("pause", "server-2"), ("stop", "server-1")):
            before = watch.samples[-1]
            stack.compose(verb, server)
            gone_s = watch.samples[-1].at_s
            decided(4 * WINDOW)
            last_s = watch.samples[-1].at_s
            stack.compose(RETURN[verb], server)
            assert watch.samples[-1].failed(server) > before.failed(server), "requests to a server that is gone have failed"
            former = before.decisions[server] / before.decided
            assert watch.first(server, gone_s, last_s, under=former / 2) is not None, f"it turned away from {server} after {verb}"
            served = watch.samples[-1].outcomes[server, "served"]
            eventually(lambda served=served, server=server: watch.samples[-1].outcomes[server, "served"] > served + 20, deadline_s=60)
        unanswered = [one.decided - sum(one.outcomes.values()) for one in watch.samples[-100:]]
        eventually(lambda: unanswered.append(watch.samples[-1].decided - sum(watch.samples[-1].outcomes.values())) or 0 in unanswered)
    stack.up()

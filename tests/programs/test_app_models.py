"""app.py and its model files: replaced under traffic without a failed request, awaited, refused, asked for by SIGHUP, on trial."""

import signal
import threading

import pytest

from gateway.test_models import garbage, nan, replace, write
from programs.test_app import NOBODY, fleet, port, start, wait_until  # noqa: F401 -- fixtures

SMALL = {"servers": 2}


class Traffic:
    """Requests one after the other on a connection of its own until it ends; statuses are kept."""

    def __init__(self, gateway):
        self.gateway, self.statuses = gateway, []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(60)

    def _send(self):
        while not self._over.is_set():
            self.statuses.append(self.gateway.get("/job/a" if len(self.statuses) % 2 else "/job/b").status)

    def more(self, many=20):
        """Wait until so many more were answered."""
        wanted = len(self.statuses) + many
        wait_until(lambda: len(self.statuses) >= wanted or not self._thread.is_alive())


def decisions(gateway):
    return gateway.state()["decider"]["decisions"]


def the_model(gateway):
    (file,) = gateway.state()["models"]
    return file


def test_a_model_is_awaited_taken_up_refused_and_replaced_while_requests_flow(start, tmp_path):  # noqa: F811
    path = tmp_path / "live.pth"
    gateway = start("--model", str(path), "--reload")
    with Traffic(gateway) as traffic:
        traffic.more()
        state = gateway.state()
        assert (state["decider"]["state"], state["decider"]["reasons"]["missing"]) == (
            "missing",
            state["decider"]["decisions"]["sed-online"],
        )
        assert decisions(gateway)["dqn"] == 0
        replace_or_write(path, lambda beside: write(beside, 0, **SMALL))
        wait_until(lambda: the_model(gateway)["loads"] == 1)
        traffic.more()
        wait_until(lambda: decisions(gateway)["dqn"] > 0)
        for refusals, spoil in enumerate((garbage, nan), start=1):
            replace(path, spoil)
            wait_until(lambda refusals=refusals: the_model(gateway)["refusals"] == refusals)
            by_model = decisions(gateway)["dqn"]
            wait_until(lambda by_model=by_model: decisions(gateway)["dqn"] > by_model)
        for loads in (2, 3, 4):
            replace(path, lambda beside, loads=loads: write(beside, loads, **SMALL))
            wait_until(lambda loads=loads: the_model(gateway)["loads"] == loads)
            traffic.more()
    assert set(traffic.statuses) == {200}
    state = gateway.state()
    assert state["counts"]["failed"] == 0
    assert state["counts"]["served"] == len(traffic.statuses)
    assert the_model(gateway)["refused"] is None
    assert {"live.pth is not there yet", "live.pth loaded"} <= {one["what"].removeprefix("primary: ") for one in state["events"]}
    assert state["decider"]["reasons"]["error"] == 0
    assert state["reward"] < 0.0
    assert b'trimtab_gateway_model_loads_total{result="refused",role="primary"} 2.0' in gateway.get("/metrics").data
    assert gateway.end(signal.SIGTERM)[0] == 0


def replace_or_write(path, fill):
    fill(path.with_name("beside"))
    path.with_name("beside").rename(path)


def test_sighup_loads_the_model_anew_without_reload(start, tmp_path):  # noqa: F811
    path = write(tmp_path / "a.pth", 0, **SMALL)
    gateway = start("--model", str(path))
    assert the_model(gateway)["loads"] == 1
    for loads in (2, 3):
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda loads=loads: the_model(gateway)["loads"] == loads)
    replace(path, garbage)
    gateway.process.send_signal(signal.SIGHUP)
    wait_until(lambda: the_model(gateway)["refusals"] == 1)
    assert gateway.get("/job/a").status == 200
    assert gateway.end(signal.SIGTERM)[0] == 0


def test_shadow_and_canary_beside_a_classical_policy(start, tmp_path):  # noqa: F811
    path = write(tmp_path / "a.pth", 0, **SMALL)
    gateway = start("--policy", "p2c", "--shadow", str(path), "--canary", str(path), "--canary-share", "0.5", "--seed", "3")
    with Traffic(gateway) as traffic:
        traffic.more(60)
    assert set(traffic.statuses) == {200}
    state = gateway.state()
    made = state["decider"]["decisions"]
    assert set(made) == {"p2c", "sed-online", "canary"}
    assert made["p2c"] > 0
    assert made["canary"] > 0
    shadow = state["shadow"]
    assert shadow["decisions"]["agree"] >= made["canary"], "it is the same model"
    assert sum(shadow["decisions"].values()) == len(traffic.statuses)
    assert 0.0 < shadow["agreement"] <= 1.0
    assert shadow["gain_ms"]["q"] >= 0.0
    assert {one["name"]: one["served"] for one in state["deciders"]} == made
    assert gateway.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--policy", "p2c", "--reload"], ["--reload", "--shadow"]),
        (["--policy", "p2c", "--canary-share", "0.1"], ["--canary PATH"]),
        (["--policy", "p2c", "--canary", "x", "--canary-share", "0"], ["'0'", "0.5"]),
        (["--policy", "p2c", "--canary", "x", "--canary-share", "0.6"], ["'0.6'", "0.5"]),
        (["--policy", "p2c", "--canary", "x", "--canary-share", "nan"], ["'nan'", "0.5"]),
        (["--policy", "p2c", "--canary", "x", "--canary-share", "all"], ["'all'", "0.5"]),
        (["--policy", "p2c", "--shadow", "nope.pth"], ["nope.pth", "no such file"]),
    ],
)
def test_options_that_make_no_sense_are_one_line(words, named, capsys):
    from trimtab.cli.app import main

    assert main([*words, "--servers", ",".join([NOBODY] * 4)]) in {1, 2}
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert [one for one in named if one not in captured.err] == []

"""The state document, from real books: a router that routed, a window that counted, health that knows who is out."""

import json
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from jsonschema_rs import validator_for

from builders import scenario, server
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.core.scenario import RequestClass
from trimtab.gateway.decider_metrics import FileGauges
from trimtab.gateway.deciders import Wanted, build_deciding, just
from trimtab.gateway.guard import REASONS, GuardedDecider, PlainDecider
from trimtab.gateway.health import HealthBook
from trimtab.gateway.router import Router
from trimtab.gateway.scores import Scores
from trimtab.gateway.snapshot import Watched, gauges, state_document
from trimtab.gateway.telemetry import GatewayCounts
from trimtab.gateway.trials import trial_gauges
from trimtab.gateway.window import Window
from trimtab.policies import catalogue

CLASSES = (RequestClass("a", 0.5, 0.01), RequestClass("b", 0.5, 0.02))
START_S = 1000.0
EVERYBODY = np.ones(2, dtype=bool)


@pytest.fixture
def watched():
    tiny = scenario(server(slots=2, classes=("a", "b")), server(slots=3, classes=("a", "b")), classes=CLASSES)
    decider = PlainDecider(catalogue.build("round-robin"))
    return Watched(
        scenario=tiny,
        urls=("http://one:8000", "http://two:8000"),
        router=Router(tiny, decider, capacity=64),
        health=HealthBook(2),
        window=Window(2, 2, START_S),
        counts=GatewayCounts(tiny.server_ids, tiny.class_names, decider.names),
        scores=Scores(decider.names, tiny.fleet_service_s(), START_S),
        deciding=just(decider),
        started_s=START_S,
    )


def send(watched, kind, now_s, status=SERVED, latency_s=0.01):
    """One request through the books as the gateway does it; None leaves it in flight."""
    ticket = watched.router.route(kind, now_s, EVERYBODY)
    watched.window.sent(ticket.server, kind, now_s)
    watched.counts.decided(ticket.decided_by, ticket.server, kind)
    if status is not None:
        watched.router.finish(ticket, status, now_s + latency_s)
    if status == SERVED:
        watched.window.served(ticket.server, latency_s, now_s + latency_s)
    return ticket


def is_described(document):
    text = (resources.files("trimtab.gateway") / "openapi.json").read_text()
    components = json.loads(text)["components"]
    return validator_for(components["schemas"]["State"] | {"components": components}).is_valid(document)


def test_a_gateway_that_has_done_nothing(watched):
    document = state_document(watched, START_S, draining=False)
    assert is_described(document)
    assert document["counts"] == {"sent": 0, "served": 0, "failed": 0, "unmeasured": 0, "in_flight": 0, "retries": 0}
    assert (document["rate_rps"], document["latency_ms"], document["events"]) == (0.0, None, [])
    assert [one["share"] for one in document["servers"]] == [0.0, 0.0]


def test_rates_shares_and_counts_are_those_of_the_books(watched):
    for number in range(30):  # round-robin: 15 each, class b to the second server only
        send(watched, number % 2, START_S + 0.1 * number)
    send(watched, 0, START_S + 3.0, FAILED)
    send(watched, 1, START_S + 3.0, UNMEASURED)
    send(watched, 0, START_S + 3.0, None)
    document = state_document(watched, START_S + 5.0, draining=False)
    assert is_described(document)
    assert document["counts"] == {"sent": 33, "served": 30, "failed": 1, "unmeasured": 1, "in_flight": 1, "retries": 0}
    assert document["uptime_s"] == pytest.approx(5.0)
    assert document["rate_rps"] == pytest.approx(33 / 5, rel=0.05)
    first, second = document["servers"]
    assert first["share"] == pytest.approx(17 / 33)
    assert first["share"] + second["share"] == pytest.approx(1.0)
    assert (first["by_class"]["b"], second["by_class"]["a"]) == (0.0, 0.0)
    assert first["by_class"]["a"] == first["rate_rps"]
    assert [one["rate_rps"] for one in document["classes"]] == [first["rate_rps"], second["rate_rps"]]
    assert (first["in_flight"], first["slots"], second["in_flight"], second["slots"]) == (1, 2, 0, 3)
    assert (first["id"], first["url"]) == ("server-1", "http://one:8000")
    assert first["latency_ms"] == pytest.approx(10.0, rel=0.05)
    assert document["latency_ms"]["p50"] == pytest.approx(10.0, rel=0.05)
    assert document["latency_ms"]["p99"] is None  # thirty requests have no 99th percentile
    assert document["decider"]["decisions"] == {"round-robin": 33}


def test_a_server_that_fails_its_checks_is_down_at_once(watched):
    for second in range(3):
        watched.health.probed(1, False, START_S + second)
    document = state_document(watched, START_S + 4.0, draining=False)
    assert [one["status"] for one in document["servers"]] == ["ok", "down"]
    assert document["events"][0]["server"] == "server-2"
    assert document["events"][0]["age_s"] == pytest.approx(2.0)
    assert not document["panic"]
    watched.health.probed(1, True, START_S + 5.0)
    watched.health.probed(1, True, START_S + 6.0)
    back = state_document(watched, START_S + 6.5, draining=False)["servers"][1]
    assert back["status"] == "ramping"
    assert 0.0 < back["ramp"] < 1.0


def test_events_are_newest_first(watched):
    for server_number in (0, 1):
        for _ in range(3):
            watched.health.probed(server_number, False, START_S + server_number)
    document = state_document(watched, START_S + 2.0, draining=True)
    assert [one["server"] for one in document["events"][:2]] == ["server-2", "server-1"]
    assert (document["panic"], document["draining"]) == (True, True)


def test_who_decides_and_why(watched):
    policies = catalogue.build("p2c"), catalogue.build("sed-online")
    watched.router.decider = GuardedDecider(*policies, clock=lambda: 0.0)
    decider = state_document(watched, START_S, draining=False)["decider"]
    assert (decider["primary"], decider["fallback"], decider["state"]) == ("p2c", "sed-online", "deciding")
    assert decider["reasons"] == dict.fromkeys(REASONS, 0)


def test_rewards_are_by_decider_and_models_are_named_without_their_folder(watched, tmp_path):
    path = tmp_path / "a.pth"
    deciding = build_deciding(Wanted(policy="round-robin", shadow=path, canary=path, reload=True), watched.scenario, clock=lambda: START_S)
    watched.router.decider = deciding.decider
    watched = replace(watched, deciding=deciding, scores=Scores(deciding.decider.names, 0.05, START_S))
    for _ in range(30):
        watched.scores.ended("round-robin", SERVED, 0.1, START_S + 1.0)
        watched.scores.ended("canary", SERVED, 0.2, START_S + 1.0)
    watched.health.probed(0, False, START_S + 1.0)
    document = state_document(watched, START_S + 2.0, draining=False)
    assert is_described(document)
    assert document["reward"] == pytest.approx(-3.0)
    rewards = {one["name"]: (one["role"], one["reward"], one["served"]) for one in document["deciders"]}
    assert rewards == {"round-robin": ("primary", -2.0, 30), "sed-online": ("fallback", None, 0), "canary": ("canary", -4.0, 30)}
    assert document["deciders"][1]["latency_ms"]["mean"] == pytest.approx(200.0)
    missing = {"file": "a.pth", "age_s": None, "loads": 0, "refusals": 0, "refused": None}
    assert document["models"] == [{"role": "shadow", **missing}, {"role": "canary", **missing}]
    assert (document["shadow"]["state"], document["shadow"]["agreement"]) == ("missing", None)
    assert (document["canary"]["state"], document["canary"]["share"]) == ("missing", 0.05)
    assert {"age_s": 2.0, "server": None, "what": "canary: a.pth is not there yet"} in document["events"]
    now = trial_gauges(deciding, START_S + 2.0)
    assert now.files["shadow"] == FileGauges(0, 0, None)
    assert (now.canary_share, now.canary_stopped, now.shadow.agreement, now.shadow.gains_s) == (0.05, False, None, {})


def test_gauges_are_of_the_same_books(watched):
    send(watched, 0, START_S, None)
    for _ in range(3):
        watched.health.probed(1, False, START_S)
    now = gauges(watched, START_S + 1.0, draining=True)
    assert (now.in_flight, now.up, now.panic, now.draining) == ([1, 0], [True, False], False, True)

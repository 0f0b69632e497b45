"""GET /probe: what is inside, and how long such a request took of late."""

import pytest

from job_app import create_app
from recent import BUCKETS, RECENT, RecentTimes


@pytest.fixture
def app(make_profile):
    return create_app(make_profile(slots=2), faults_enabled=True)


def test_nothing_is_known_of_an_idle_server(app):
    reply = app.test_client().get("/probe")
    assert (reply.status_code, reply.get_json()) == (200, {"server": "server-1", "in_flight": 0, "latency_ms": 0})
    assert reply.content_type == "application/json"


def test_it_counts_what_is_inside_and_tells_the_latency_there(app):
    service = app.extensions["service"]
    service.recent.add(0, 0.010)
    service.recent.add(1, 0.025)
    assert app.test_client().get("/probe").get_json()["latency_ms"] == 10
    service.gate.enter(0)
    assert app.test_client().get("/probe").get_json() == {"server": "server-1", "in_flight": 1, "latency_ms": 25}


def test_a_served_request_is_remembered_under_what_it_found(app):
    service = app.extensions["service"]
    service.gate.enter(0)
    app.test_client().get("/job/a", headers={"X-Work": "5"})
    assert 0.0045 < service.recent.typical_s(1) < 5
    assert len(service.recent._buckets[1]) == 1
    assert not service.recent._buckets[0]


@pytest.mark.parametrize("fault", [{"kind": "fail_fast"}, {"kind": "error_share", "share": 1.0}])
def test_what_failed_is_not_remembered(app, fault):
    client = app.test_client()
    client.post("/faults", json=fault)
    assert client.get("/job/a").status_code == 500
    assert app.extensions["service"].recent.typical_s(0) == 0


def test_a_crashed_server_has_no_answer(app):
    client = app.test_client()
    client.post("/faults", json={"kind": "crash"})
    assert client.get("/probe").status_code == 503


def test_a_probe_is_a_get(app):
    reply = app.test_client().post("/probe")
    assert (reply.status_code, reply.headers["Allow"]) == (405, "GET, HEAD")
    assert app.test_client().head("/probe").data == b""


def test_a_probe_counts_as_no_request(app):
    client = app.test_client()
    client.get("/probe")
    assert 'trimtab_server_requests_total{class="a",status="200"} 0.0' in client.get("/metrics").text


def test_the_median_of_the_newest_and_the_nearest_known_number():
    recent = RecentTimes()
    for place in range(RECENT + 3):
        recent.add(4, float(place))
    assert recent.typical_s(4) == 3 + RECENT // 2
    assert recent.typical_s(0) == recent.typical_s(BUCKETS + 5) == 3 + RECENT // 2
    recent.add(2, 0.5)
    assert recent.typical_s(3) == 0.5, "of two as near the lower number counts"
    recent.add(BUCKETS + 100, 9.0)
    assert recent.typical_s(BUCKETS - 1) == 9.0

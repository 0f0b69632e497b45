import json
import re
import threading

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from faults import KINDS
from job_app import create_app
from telemetry import BUCKETS_S, STATUSES

JOIN_S = 10


@pytest.fixture
def app(make_profile):
    return create_app(make_profile(), faults_enabled=True)


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def service(app):
    return app.extensions["service"]


def in_background(app, path, replies, **options):
    thread = threading.Thread(target=lambda: replies.append(app.test_client().get(path, **options)), daemon=True)
    thread.start()
    return thread


def samples(client):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_job_answers_json_timings_and_load(client, method):
    reply = getattr(client, method)("/job/a", headers={"X-Request-Id": "r-1", "X-Work": "2"}, data=b"x" * 10 if method == "post" else None)
    assert reply.status_code == 200
    assert reply.get_json() == {"server": "server-1", "class": "a"}
    assert reply.headers["X-Request-Id"] == "r-1"
    assert re.fullmatch(r"queue;dur=\d+\.\d{3}, work;dur=\d+\.\d{3}", reply.headers["Server-Timing"])
    work_ms = float(reply.headers["Server-Timing"].rsplit("=", 1)[1])
    assert work_ms > 1.8, "2 class means at speed 1 are 2 ms"
    assert reply.headers["endpoint-load-metrics"] == "TEXT cpu_utilization=0.0000,mem_utilization=0.0000,named_metrics.in_flight=0"


def test_service_time_is_work_over_speed_with_contention_and_slowdown(make_profile):
    app = create_app(make_profile(slots=3, contention=0.5), faults_enabled=True)
    service, held = app.extensions["service"], []
    service.gate.enter(0), service.gate.enter(0)
    service.gate.hold = lambda ticket, duration_s, since_s: held.append(duration_s)
    app.test_client().get("/job/b", headers={"X-Work": "3"})
    app.test_client().post("/faults", json={"kind": "slowdown", "factor": 10})
    app.test_client().get("/job/b", headers={"X-Work": "3"})
    assert held == pytest.approx([0.002 * 3 / 2 * (1 + 0.5 * 2), 0.002 * 3 / 2 * (1 + 0.5 * 2) * 10])


def test_without_x_work_two_servers_of_one_id_draw_the_same_work(make_profile):
    draws = []
    for _ in range(2):
        service = create_app(make_profile()).extensions["service"]
        draws.append([service.draw(1) for _ in range(5)])
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 5


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "much", ""])
def test_impossible_work_is_refused(client, value):
    reply = client.get("/job/a", headers={"X-Work": value})
    assert reply.status_code == 400
    assert "X-Work" in reply.get_json()["error"]


def test_an_unknown_class_is_told_the_known_ones(client):
    reply = client.get("/job/zzz")
    assert reply.status_code == 404
    assert reply.get_json()["classes"] == ["a", "b"]


@pytest.mark.parametrize(
    ("method", "path"), [("put", "/job/a"), ("head", "/job/a"), ("delete", "/job/a"), ("post", "/health"), ("patch", "/faults")]
)
def test_other_methods_are_405_with_allow(client, method, path):
    reply = getattr(client, method)(path)
    assert reply.status_code == 405
    assert "Allow" in reply.headers


def test_large_bodies_and_request_ids_are_refused(client):
    assert client.post("/job/a", data=b"x" * 70_000).status_code == 413
    assert client.post("/faults", data=b"x" * 70_000).status_code == 413
    assert client.get("/job/a", headers={"X-Request-Id": "x" * 200}).status_code == 400


def test_over_the_queue_limit_503_while_health_state_and_metrics_answer(app, client, service, eventually):
    occupant, replies = service.gate.enter(0), []
    waiting = [in_background(app, "/job/a", replies) for _ in range(2)]
    eventually(lambda: service.gate.queued == 2)
    refused = client.get("/job/a")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.headers["endpoint-load-metrics"].endswith("named_metrics.in_flight=3")
    assert client.get("/health").get_json()["status"] == "ok"
    expected = {"id": "server-1", "slots": 1, "in_flight": 3, "queued": 2, "cpu_utilization": 0.25, "memory_utilization": 0.1, "faults": []}
    assert client.get("/state").get_json() == expected
    values = samples(client)
    assert values["trimtab_server_queued_requests", ()] == 2
    assert values["trimtab_server_cpu_utilization_ratio", ()] == 0.25
    service.gate.leave(occupant)
    for thread in waiting:
        thread.join(JOIN_S)
    assert [one.status_code for one in replies] == [200, 200]


def test_metrics_count_by_class_and_status_in_a_registry_of_their_own(make_profile):
    registry = CollectorRegistry()
    client, other = create_app(make_profile(), registry=registry).test_client(), create_app(make_profile()).test_client()
    client.get("/job/a")
    client.get("/job/a", headers={"X-Work": "x"})
    values = samples(client)
    assert values["trimtab_server_requests_total", (("class", "a"), ("status", "200"))] == 1
    assert values["trimtab_server_requests_total", (("class", "a"), ("status", "400"))] == 1
    assert values["trimtab_server_response_seconds_count", (("class", "a"),)] == 1
    assert registry.get_sample_value("trimtab_server_service_seconds_count", {"class": "a"}) == 1
    assert registry.get_sample_value("trimtab_server_queue_seconds_count", {"class": "a"}) == 1
    assert samples(other)["trimtab_server_requests_total", (("class", "a"), ("status", "200"))] == 0


def test_response_is_queue_and_service_in_every_histogram(client):
    for _ in range(3):
        client.get("/job/b")
    values = samples(client)
    sums = {name: values[f"trimtab_server_{name}_seconds_sum", (("class", "b"),)] for name in ("queue", "service", "response")}
    assert sums["response"] == pytest.approx(sums["queue"] + sums["service"])
    assert {values[f"trimtab_server_{name}_seconds_count", (("class", "b"),)] for name in sums} == {3}


def test_metrics_say_the_capacity_and_what_the_process_uses(client):
    values = samples(client)
    assert values["trimtab_server_capacity_requests_per_second", ()] == pytest.approx(1 / 0.001), "1 ms each, classes in equal shares"
    assert values["process_resident_memory_bytes", ()] > 1e6
    assert values["process_cpu_seconds_total", ()] > 0


def test_the_number_of_series_is_bounded_by_classes_statuses_and_buckets(client):
    client.get("/job/a"), client.get("/job/zzz"), client.get("/nowhere")
    own = [key for key in samples(client) if key[0].startswith("trimtab_server_")]
    gauges, kinds, classes, buckets = 6, len(KINDS), 2, len(BUCKETS_S) + 1
    assert len(own) == classes * len(STATUSES) + 3 * classes * (buckets + 2) + gauges + kinds


def test_faults_are_off_by_default_and_say_how_to_enable(make_profile):
    client = create_app(make_profile()).test_client()
    for method in (client.get, client.post, client.delete):
        reply = method("/faults")
        assert reply.status_code == 404
        assert "TRIMTAB_FAULTS=1" in reply.get_json()["error"]


def test_faults_are_listed_counted_and_cleared(client):
    assert client.post("/faults", json={"kind": "slowdown", "factor": 4}).status_code == 201
    assert client.get("/faults").get_json() == {"faults": [{"kind": "slowdown", "factor": 4.0}]}
    assert samples(client)["trimtab_server_faults_active", (("kind", "slowdown"),)] == 1
    assert client.delete("/faults").get_json() == {"faults": []}
    assert samples(client)["trimtab_server_faults_active", (("kind", "slowdown"),)] == 0


@pytest.mark.parametrize("body", [b"{", b"[]", json.dumps({"kind": "nap"}).encode()])
def test_a_malformed_fault_is_400(client, body):
    assert client.post("/faults", data=body).status_code == 400


def test_fail_fast_answers_500_without_a_slot(client, service):
    client.post("/faults", json={"kind": "fail_fast", "after_ms": 0.1})
    service.gate.enter(0)
    assert client.get("/job/a").status_code == 500


def test_error_share_fails_after_the_normal_service(client):
    client.post("/faults", json={"kind": "error_share", "share": 1})
    reply = client.get("/job/a")
    assert reply.status_code == 500
    assert float(reply.headers["Server-Timing"].rsplit("=", 1)[1]) > 0.8


def test_freeze_keeps_requests_waiting_until_cleared(app, client, service, eventually):
    client.post("/faults", json={"kind": "freeze"})
    replies = []
    threads = [in_background(app, "/job/a", replies) for _ in range(2)]
    eventually(lambda: service.gate.in_flight == 2)
    assert client.get("/health").status_code == 200
    assert not replies
    client.delete("/faults")
    for thread in threads:
        thread.join(JOIN_S)
    assert [one.status_code for one in replies] == [200, 200]


def test_crash_fails_what_is_inside_refuses_the_rest_and_can_be_cleared(app, client, service, eventually):
    replies = []
    threads = [in_background(app, "/job/a", replies, headers={"X-Work": "1e6"}) for _ in range(2)]
    eventually(lambda: service.gate.queued == 1)
    client.post("/faults", json={"kind": "crash"})
    for thread in threads:
        thread.join(JOIN_S)
    assert [one.status_code for one in replies] == [500, 500]
    assert client.get("/job/a").status_code == 503
    assert client.get("/health").status_code == 503
    client.delete("/faults")
    assert client.get("/job/a").status_code == 200
    assert client.get("/health").status_code == 200


def test_cpu_work_burns_the_calibrated_number_of_blocks(make_profile, monkeypatch):
    burned = []
    monkeypatch.setattr("work.calibrate", lambda: 50_000.0)
    monkeypatch.setattr("work.burn", lambda blocks, checkpoint: burned.append(blocks))
    create_app(make_profile(work="cpu")).test_client().get("/job/a", headers={"X-Work": "3"})
    assert burned == [150]

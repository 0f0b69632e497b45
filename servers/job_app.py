"""The HTTP face of a server: jobs, health, state, metrics and, only if allowed, faults."""

import json
import os
import time
from typing import Any

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from werkzeug.exceptions import HTTPException

from faults import KINDS, FaultError, parse_fault
from jobs import BODY_LIMIT_BYTES, JobEndpoint
from server_profile import Profile
from service import Service
from telemetry import Telemetry

HOW_TO_ENABLE = "faults are off; start the server with TRIMTAB_FAULTS=1 to allow them"


def create_app(profile: Profile, *, faults_enabled: bool = False, registry: CollectorRegistry | None = None) -> Flask:
    """The server as a WSGI app. Each app has its own slots, faults and metrics registry, so several live in one process."""
    app = Flask("trimtab-server", static_folder=None)
    service = Service(profile)
    app.extensions["service"] = service
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT_BYTES
    telemetry = Telemetry([one.name for one in profile.classes], registry or CollectorRegistry())
    _register_gauges(telemetry, service)
    app.register_error_handler(HTTPException, _json_error)
    _read_routes(app, service, telemetry)
    _fault_routes(app, service, enabled=faults_enabled)
    app.wsgi_app = JobEndpoint(app.wsgi_app, service, telemetry)  # type: ignore[method-assign]  # the documented place for middleware
    return app


def _json(document: Any, status: int = 200) -> Response:
    return Response(json.dumps(document), status, content_type="application/json")


def _json_error(error: HTTPException) -> Response:
    response = _json({"error": error.description or error.name}, error.code or 500)
    response.headers.extend((key, value) for key, value in error.get_headers() if key == "Allow")
    return response


def _register_gauges(telemetry: Telemetry, service: Service) -> None:
    gate = service.gate
    telemetry.gauge("in_flight_requests", "Requests inside: in a slot or waiting.", lambda: gate.in_flight)
    telemetry.gauge("queued_requests", "Requests waiting for a slot.", lambda: gate.queued)
    telemetry.gauge("slots", "Requests served at a time.", lambda: gate.slots)
    telemetry.gauge("cpu_utilization_ratio", "Modelled CPU cost of the requests in slots / capacity.", lambda: service.utilization()[0])
    telemetry.gauge(
        "memory_utilization_ratio", "Modelled memory cost of the requests in slots / capacity.", lambda: service.utilization()[1]
    )
    capacity_per_s = service.profile.capacity_per_s
    telemetry.gauge("capacity_requests_per_second", "Slots / mean service time of the class mix.", lambda: capacity_per_s)
    telemetry.faults(lambda: _faults_by_kind(service))


def _faults_by_kind(service: Service) -> dict[str, int]:
    active = [one.kind for one in service.faults.active(time.monotonic())]
    return {kind: active.count(kind) for kind in KINDS}


def _read_routes(app: Flask, service: Service, telemetry: Telemetry) -> None:
    @app.get("/health")
    def health() -> Response:
        crashed = service.gate.crashed
        return _json({"status": "crashed" if crashed else "ok", "id": service.profile.id, "pid": os.getpid()}, 503 if crashed else 200)

    @app.get("/state")
    def state() -> Response:
        return _json(state_document(service))

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(telemetry.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def state_document(service: Service) -> dict[str, Any]:
    """`GET /state`: what is inside now."""
    cpu, memory = service.utilization()
    now_s = time.monotonic()
    return {
        "id": service.profile.id,
        "slots": service.profile.slots,
        "in_flight": service.gate.in_flight,
        "queued": service.gate.queued,
        "cpu_utilization": cpu,
        "memory_utilization": memory,
        "faults": [one.description(now_s) for one in service.faults.active(now_s)],
    }


def _fault_routes(app: Flask, service: Service, *, enabled: bool) -> None:
    if not enabled:
        app.add_url_rule("/faults", "faults", lambda: _json({"error": HOW_TO_ENABLE}, 404), methods=["GET", "POST", "DELETE"])
        return

    def listing(status: int = 200) -> Response:
        return _json({"faults": state_document(service)["faults"]}, status)

    @app.get("/faults")
    def list_faults() -> Response:
        return listing()

    @app.post("/faults")
    def add_fault() -> Response:
        try:
            service.faults.add(parse_fault(request.get_json(force=True), time.monotonic()))
        except FaultError as error:
            return _json({"error": str(error)}, 400)
        return listing(201)

    @app.delete("/faults")
    def clear_faults() -> Response:
        service.faults.clear()
        return listing()

"""`/job/<class>` and `/probe` as plain WSGI in front of the Flask app.

Flask's routing, contexts and response objects cost about 0.2 ms of CPU a request, more than all the rest of the app; with the client on
the same two cores that would halve the load a fleet can be given. Every other path goes on to Flask.
"""

import json
import math
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from service import Answer, Service
from telemetry import Telemetry

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX = "/job/"
PROBE = "/probe"
BODY_LIMIT_BYTES = 64 * 1024
REQUEST_ID_LIMIT = 128
STATUS_LINES = {code: f"{code} {HTTPStatus(code).phrase}" for code in (200, 400, 404, 405, 413, 500, 503)}


class Reply(NamedTuple):
    """Status, body and headers beyond type and length."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def parse_units(text: str) -> float | None:
    """X-Work as a number of class means; None unless finite and above 0."""
    try:
        units = float(text)
    except ValueError:
        return None
    return units if math.isfinite(units) and units > 0 else None


def orca_text(service: Service) -> str:
    """The load report in ORCA's text form. ORCA bounds mem_utilization by 1 (cpu_utilization may exceed it), so it is cut there."""
    cpu, memory = service.utilization()
    return f"TEXT cpu_utilization={cpu:.4f},mem_utilization={min(memory, 1.0):.4f},named_metrics.in_flight={service.gate.in_flight}"


def _error(status: int, document: dict[str, Any], *headers: tuple[str, str]) -> Reply:
    return Reply(status, json.dumps(document).encode(), headers)


def _refusal(environ: "WSGIEnvironment") -> Reply | None:
    """Why a job is not even tried, if so. Bodies are never read; gunicorn drops them."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > BODY_LIMIT_BYTES:
        return _error(413, {"error": f"body over {BODY_LIMIT_BYTES} bytes"})
    given = environ.get("HTTP_X_WORK")
    if given is not None and parse_units(given) is None:
        return _error(400, {"error": f"X-Work {given[:40]!r} is not a finite number above 0"})
    request_id = environ.get("HTTP_X_REQUEST_ID", "")
    if len(request_id) > REQUEST_ID_LIMIT or not request_id.isprintable():
        return _error(400, {"error": f"X-Request-Id is longer than {REQUEST_ID_LIMIT} or not printable"})
    return None


class JobEndpoint:
    """WSGI: answers jobs and probes, hands everything else to `otherwise`."""

    def __init__(self, otherwise: "WSGIApplication", service: Service, telemetry: Telemetry) -> None:
        self._otherwise, self._service, self._telemetry = otherwise, service, telemetry
        names = [one.name for one in service.profile.classes]
        self._names = names
        self._kinds = {name.encode().decode("latin-1"): index for index, name in enumerate(names)}  # as PATH_INFO spells them
        self._bodies = [json.dumps({"server": service.profile.id, "class": name}).encode() for name in names]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if path.startswith(PREFIX):
            reply = self._reply(environ, path[len(PREFIX) :])
        elif path == PROBE:
            reply = self._probed(environ)
        else:
            return self._otherwise(environ, start_response)
        length = ("Content-Length", str(len(reply.body)))
        start_response(STATUS_LINES[reply.status], [("Content-Type", "application/json"), length, *reply.headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]

    def _reply(self, environ: "WSGIEnvironment", name: str) -> Reply:
        if environ["REQUEST_METHOD"] not in ("GET", "POST"):
            return _error(405, {"error": "jobs take GET and POST"}, ("Allow", "GET, POST"))
        kind = self._kinds.get(name)
        if kind is None:
            return _error(404, {"error": f"no class {name!r}", "classes": self._names})
        refusal = _refusal(environ)
        reply = self._serve(environ, kind) if refusal is None else refusal
        self._telemetry.count(kind, reply.status)
        return reply

    def _probed(self, environ: "WSGIEnvironment") -> Reply:
        """Requests inside now, and the response time that was typical of late with so many; a crashed server has no answer."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _error(405, {"error": "probes are GET"}, ("Allow", "GET, HEAD"))
        service = self._service
        if service.gate.crashed:
            return _error(503, {"server": service.profile.id, "error": "crashed"})
        inside = service.gate.in_flight
        document = {"server": service.profile.id, "in_flight": inside, "latency_ms": round(service.recent.typical_s(inside) * 1e3, 3)}
        return Reply(200, json.dumps(document).encode())

    def _serve(self, environ: "WSGIEnvironment", kind: int) -> Reply:
        given = environ.get("HTTP_X_WORK")
        answer = self._service.serve(kind, self._service.draw(kind) if given is None else float(given))
        if answer.status != 200:
            return _error(answer.status, {"server": self._service.profile.id, "error": answer.reason}, *self._headers(environ, answer))
        self._telemetry.served(kind, answer.queue_s, answer.work_s)
        return Reply(200, self._bodies[kind], self._headers(environ, answer))

    def _headers(self, environ: "WSGIEnvironment", answer: Answer) -> tuple[tuple[str, str], ...]:
        timing = f"queue;dur={answer.queue_s * 1e3:.3f}, work;dur={answer.work_s * 1e3:.3f}"
        headers: tuple[tuple[str, str], ...] = (("Server-Timing", timing), ("endpoint-load-metrics", orca_text(self._service)))
        if answer.status == 503:
            headers += (("Retry-After", "1"),)
        if request_id := environ.get("HTTP_X_REQUEST_ID"):
            headers += (("X-Request-Id", request_id),)
        return headers

"""The control API and the live page as a Flask app: health, readiness, metrics, state. It only reads; nothing here changes the gateway.

Every answer that is not the page itself says `Cache-Control: no-store`. Errors are problem documents (RFC 9457), whatever the path.
The page polls `/api/state`: a stream would hold one thread of the small pool that serves these paths for each open page.
"""

import json
from importlib import resources
from typing import Any, Final, Protocol

from flask import Blueprint, Flask, Response, request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from werkzeug.exceptions import HTTPException, NotFound, ServiceUnavailable

from trimtab.errors import TrimtabError

OFFERED: Final = frozenset({"ok", "ramping"})  # states in which a server gets requests
MIME_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
# The page loads from here only, so nothing that a server or a header smuggles into it can call elsewhere.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
UI: Final = resources.files("trimtab.gateway") / "ui"


class StateUnavailableError(TrimtabError):
    """The gateway could not say its state in time; the next question may succeed."""


class StateSource(Protocol):
    """Where the control API learns what the gateway does. Called from any thread."""

    def snapshot(self) -> dict[str, Any]:
        """The `/api/state` document (`snapshot.state_document`), newly built. Raises `StateUnavailableError`."""


def create_control(state: StateSource, registry: CollectorRegistry) -> Flask:
    """The app that answers /healthz, /readyz, /metrics, /api/... and /ui."""
    app = Flask(__name__, static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # a doubled slash is an unknown path, not a redirect
    app.register_error_handler(HTTPException, _problem)
    app.register_error_handler(StateUnavailableError, _unavailable)
    app.after_request(_protect)
    app.register_blueprint(_api(state, registry))
    app.register_blueprint(_page())
    return app


def own_paths(app: Flask) -> frozenset[str]:
    """Every path that the app answers, one by one: what else begins like them belongs to the servers behind the gateway."""
    return frozenset(
        {rule.rule for rule in app.url_map.iter_rules() if not rule.arguments} | {"/ui/"} | {f"/ui/{name}" for name in _ui_files()}
    )


def is_ready(document: dict[str, Any]) -> bool:
    """Whether new requests are taken and at least one server is offered."""
    return not document["draining"] and any(one["status"] in OFFERED for one in document["servers"])


def _api(state: StateSource, registry: CollectorRegistry) -> Blueprint:
    api = Blueprint("api", __name__)
    description = (resources.files("trimtab.gateway") / "openapi.json").read_text(encoding="utf-8")

    def healthz() -> Response:
        return _json({"status": "alive"})

    def readyz() -> Response:
        document = state.snapshot()
        if not is_ready(document):
            reason = "it is draining" if document["draining"] else "no server is in rotation"
            raise ServiceUnavailable(f"the gateway takes no requests: {reason}")
        return _json({"status": "ready"})

    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)

    for path, view in (
        ("/healthz", healthz),
        ("/readyz", readyz),
        ("/metrics", metrics),
        ("/api/state", lambda: _json(state.snapshot())),
        ("/api/openapi.json", lambda: Response(description, mimetype="application/json")),
    ):
        api.add_url_rule(path, path.strip("/").replace("/", "-").replace(".", "-"), view, methods=["GET"], provide_automatic_options=False)
    return api


def _page() -> Blueprint:
    files = _ui_files()
    page = Blueprint("page", __name__)

    def serve(name: str) -> Response:
        if name not in files:
            raise NotFound(f"the page has no file {name!r}")
        content, mime_type = files[name]
        response = Response(content, mimetype=mime_type, headers={"Cache-Control": "no-cache"})
        response.add_etag()
        response.make_conditional(request)  # in place
        return response

    options: dict[str, Any] = {"methods": ["GET"], "provide_automatic_options": False}
    page.add_url_rule("/ui", "index", lambda: serve("index.html"), **options)
    page.add_url_rule("/ui/<path:name>", "file", serve, **options)
    return page


def _ui_files() -> dict[str, tuple[bytes, str]]:
    """Content and type of every file of the page, read once: a name from a request never becomes a path."""
    folders = {"": UI, "vendor/": UI / "vendor"}
    entries = {f"{prefix}{one.name}": one for prefix, folder in folders.items() for one in folder.iterdir() if one.is_file()}
    suffixes = {name: f".{name.rpartition('.')[2]}" for name in entries}
    return {name: (one.read_bytes(), MIME_TYPES[suffixes[name]]) for name, one in entries.items() if suffixes[name] in MIME_TYPES}


def _json(document: dict[str, Any], status: int = 200, mime_type: str = "application/json") -> Response:
    # NaN is not JSON: a page that cannot read the answer would show nothing, so it is an error here.
    return Response(json.dumps(document, allow_nan=False, separators=(",", ":")), status=status, mimetype=mime_type)


def _problem(error: HTTPException) -> Response:
    status = error.code or 500
    document = {"type": "about:blank", "title": error.name, "status": status, "detail": error.description or error.name}
    response = _json(document, status, "application/problem+json")
    for name, value in error.get_headers():
        if name not in {"Content-Type", "Content-Length"}:
            response.headers[name] = value  # Allow, of 405
    return response


def _unavailable(error: StateUnavailableError) -> Response:
    return _problem(ServiceUnavailable(str(error)))


def _protect(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    if response.status_code == 503:
        response.headers["Retry-After"] = "1"
    return response

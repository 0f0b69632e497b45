"""The control API as a WSGI app: what it answers, how it refuses, and what it lets a browser do."""

import json
from importlib import resources

import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway.control_parts import FakeState, control, document, server
from trimtab.gateway.control import CONTENT_SECURITY_POLICY, StateUnavailableError, create_control

DATA = ["/healthz", "/readyz", "/metrics", "/api/state", "/api/openapi.json"]


@pytest.fixture
def state():
    return FakeState()


@pytest.fixture
def client(state):
    return control(state).test_client()


def problem(response, status):
    """The problem document of a refusal."""
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    said = response.get_json(force=True)
    assert said["status"] == status
    assert said["detail"]
    return said


def test_the_state_is_the_sources_word_for_word(client, state):
    response = client.get("/api/state")
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.get_json() == state.document


def test_a_state_that_is_no_json_is_an_error_and_not_a_page_that_cannot_read(client, state, caplog):
    state.document = document(rate_rps=float("nan"))
    problem(client.get("/api/state"), 500)
    assert "not JSON compliant" in caplog.text


def test_a_gateway_that_cannot_say_its_state_in_time_says_when_to_ask_again(client, state):
    state.error = StateUnavailableError("too busy")
    for path in ("/api/state", "/readyz"):
        response = client.get(path)
        assert "too busy" in problem(response, 503)["detail"]
        assert response.headers["Retry-After"] == "1"


def test_it_lives_whatever_the_state(client, state):
    state.error = StateUnavailableError("too busy")
    assert client.get("/healthz").get_json() == {"status": "alive"}
    assert state.asked == 0


@pytest.mark.parametrize(
    ("statuses", "draining", "code"),
    [
        (("ok", "down"), False, 200),
        (("ramping", "down"), False, 200),
        (("ejected", "down"), False, 503),
        (("ok", "ok"), True, 503),
    ],
)
def test_it_is_ready_while_it_takes_requests_and_has_a_server(client, state, statuses, draining, code):
    servers = [server(number, (1.0, 1.0, 1.0), status=status) for number, status in enumerate(statuses, 1)]
    state.document = document(servers, draining=draining)
    assert client.get("/readyz").status_code == code


def test_metrics_are_those_of_the_registry():
    registry = CollectorRegistry()
    Counter("seen", "Test.", registry=registry).inc(3)
    response = (
        create_control(FakeState(), registry).test_client().get("/metrics", headers={"Accept": "application/openmetrics-text;version=x"})
    )
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "seen_total 3.0" in response.text


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/no", "/api//state", "/api/state/more", "/ui/no.js", "/ui/../control.py", "/other"])
def test_unknown_paths_are_problem_documents(client, path):
    problem(client.get(path), 404)


@pytest.mark.parametrize("path", [*DATA, "/ui", "/ui/app.js"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_methods_that_change_or_ask_for_more_are_refused(client, path, method):
    response = client.open(path, method=method)
    problem(response, 405)
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", [*DATA, "/ui"])
def test_head_is_get_without_the_content(client, path):
    assert client.head(path).data == b""
    assert client.head(path).status_code == 200


@pytest.mark.parametrize("path", [*DATA, "/api/no"])
def test_nothing_of_the_api_is_stored(client, path):
    assert client.get(path).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", [*DATA, "/ui", "/ui/app.js", "/api/no"])
def test_a_browser_may_load_from_here_only(client, path):
    headers = client.get(path).headers
    assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    for directive in CONTENT_SECURITY_POLICY.split(";"):
        assert set(directive.split()[1:]) <= {"'self'", "'none'"}


@pytest.mark.parametrize("path", ["/ui", "/ui/"])
def test_the_page_is_served_with_or_without_a_slash(client, path):
    response = client.get(path)
    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert b"<title>Trimtab gateway</title>" in response.data


def test_files_of_the_page_are_asked_for_anew_and_sent_once(client):
    first = client.get("/ui/app.js")
    assert (first.mimetype, first.headers["Cache-Control"]) == ("text/javascript", "no-cache")
    again = client.get("/ui/app.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_the_chart_library_brings_its_licence(client):
    names = [one.name for one in (resources.files("trimtab.gateway") / "ui" / "vendor").iterdir()]
    library = next(name for name in names if name.endswith(".iife.min.js"))
    version = library.removesuffix(".iife.min.js")
    assert f"{version}.LICENSE.txt" in names
    assert b"MIT License" in client.get(f"/ui/vendor/{version}.LICENSE.txt").data
    assert f"v{version.removeprefix('uPlot-')}".encode() in client.get(f"/ui/vendor/{library}").data[:200]


def test_every_file_that_the_page_names_is_there(client):
    page = client.get("/ui").text
    named = [piece.split('"')[0] for piece in page.replace('src="', 'href="').split('href="')[1:]]
    assert "/ui/app.js" in named
    assert [path for path in named if client.get(path).status_code != 200] == []


def test_the_description_is_the_packaged_one(client):
    packaged = json.loads((resources.files("trimtab.gateway") / "openapi.json").read_text())
    assert client.get("/api/openapi.json").get_json() == packaged

"""A Flask app behind the gateway's own paths."""

import threading

import pytest
from flask import Flask, Response, request

from gateway.wire import Backend, Client, ask, gateway, live
from trimtab.gateway import wsgi
from trimtab.gateway.wsgi import WsgiServer

OWN = frozenset({"/api/seen", "/api/echo", "/api/broken", "/api/slow", "/api/nothing", "/healthz", "/ui", "/ui/"})


def app():
    made = Flask("control")

    @made.get("/api/seen")
    def seen():
        return {
            "path": request.path,
            "query": request.args.to_dict(flat=False),
            "twice": request.headers.get("X-Twice"),
            "host": request.host,
            "from": request.remote_addr,
            "thread": threading.current_thread().name,
        }

    @made.post("/api/echo")
    def echo():
        return Response(request.get_data(), status=201, content_type="x/y", headers=[("A", "1"), ("A", "2")])

    @made.get("/api/broken")
    def broken():
        raise ZeroDivisionError

    @made.get("/api/slow")
    def slow():
        release.wait(30)
        return "late"

    return made


release = threading.Event()


@pytest.fixture
def control():
    release.clear()
    server = WsgiServer(app(), OWN)
    yield server
    release.set()
    server.close()


@live
async def test_the_app_sees_the_request_and_the_client_its_answer(control):
    async with Backend() as backend, gateway(backend, reserved=control.reserved) as one, Client(one.port) as client:
        answer = await client.ask("GET /api/seen?a=1&a=%C3%A9", "X-Twice: 1", "X-Twice: 2")
        assert (answer.status, answer.one("Content-Type"), answer.one("Server")) == (200, "application/json", "trimtab")
        body = answer.body.decode("unicode_escape")
        for expected in (
            '"path":"/api/seen"',
            '"a":["1","\xe9"]',
            '"twice":"1,2"',
            '"host":"example"',
            '"from":"127.0.0.1"',
            '"control_0"',
        ):
            assert expected in body.replace(": ", ":")
        answer = await client.ask("POST /api/echo", "Content-Length: 5", body=b"hello")
        assert (answer.status, answer.body, answer.one("Content-Type"), answer.all("A")) == (201, b"hello", "x/y", ["1", "2"])
        answer = await client.ask("HEAD /api/seen", bodyless=True)
        assert (answer.status, int(answer.one("Content-Length")) > 50) == (200, True)
        assert not backend.requests
        assert one.balancer.counts.totals.requests.sum() == 0


@live
async def test_errors_of_the_app_and_large_bodies_are_answered(control):
    async with Backend() as backend, gateway(backend, reserved=control.reserved) as one, Client(one.port) as client:
        assert (await client.ask("GET /api/nothing")).status == 404
        assert (await client.ask("GET /api/broken")).status == 500
        size = wsgi.BODY_BYTES + 1
        assert (await client.ask("POST /api/echo", f"Content-Length: {size}", body=b"x" * size)).status == 413
        assert await client.is_closed()


@live
async def test_a_client_that_asks_before_it_sends_is_answered_at_once(control):
    async with Backend() as backend, gateway(backend, reserved=control.reserved) as one:
        async with Client(one.port) as client:
            await client.send(b"POST /api/echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            assert (await client.answer(bodyless=True)).first == "HTTP/1.1 100 Continue"
            await client.send(b"hello")
            assert (await client.answer()).body == b"hello"
        size = wsgi.BODY_BYTES + 1
        async with Client(one.port) as client:
            assert (await client.ask("POST /api/echo", f"Content-Length: {size}", "Expect: 100-continue")).status == 413


@live
async def test_an_app_that_hangs_holds_up_neither_its_client_nor_the_data_path(control, monkeypatch):
    monkeypatch.setattr(wsgi, "PATIENCE_S", 0.2)
    async with Backend() as backend, gateway(backend, reserved=control.reserved) as one:
        for _ in range(wsgi.THREADS + 1):
            answer = await ask(one, "GET /api/slow")
            assert (answer.status, answer.one("Retry-After")) == (503, "1")
        assert (await ask(one, "GET /x")).body == b"ok"


@pytest.mark.parametrize("path", sorted(OWN))
def test_its_own_paths_belong_to_the_app(control, path):
    assert control.reserved(path) == control.handle


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/api/orders", "/api/state/1", "/health", "/healthz/x", "//api/seen"])
def test_other_paths_do_not(control, path):
    assert control.reserved(path) is None

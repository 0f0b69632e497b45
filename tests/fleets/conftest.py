"""A server whose behaviour a test decides, and a fleet of two real ones."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from builders import scenario, server
from serving import served
from trimtab.core.scenario import RequestClass
from trimtab.fleets.local import LocalServers

CLASSES = (RequestClass("a", 1.0, 0.003, "fixed", 0.0),)


class StubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/job/"):
            self.server.asked.set()
            self.server.release.wait(10)
        self._answer(self.server.status if self.path.startswith("/job/") else 200)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append(("POST", self.path, json.loads(body)))
        self._answer(200)

    def do_DELETE(self):
        self.server.calls.append(("DELETE", self.path))
        self._answer(200)

    def _answer(self, status):
        body = json.dumps({"id": "stub"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Server-Timing", self.server.timing)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class StubServer(ThreadingHTTPServer):
    """Answers /state at once and a job when `release` is set."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), StubHandler)
        self.asked, self.release, self.calls = threading.Event(), threading.Event(), []
        self.status, self.timing = 200, "queue;dur=1.5, work;dur=2.5"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_):
        """A client that gave up is part of some tests."""


@pytest.fixture
def stub():
    with served(StubServer()) as one:
        yield one


@pytest.fixture(scope="session")
def live_scenario():
    """Two slots of 3 ms; one slot of 2 ms (speed 1.5). Queues are long: a server that halts for a moment must not refuse."""
    return scenario(server(2), server(1, 1.5), classes=CLASSES, rate_rps=100.0)


@pytest.fixture(scope="session")
def local_servers(live_scenario):
    with LocalServers(live_scenario, faults_enabled=True) as servers:
        yield servers

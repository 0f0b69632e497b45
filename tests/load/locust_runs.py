"""What the tests of load/ share: a small scenario, a start of Locust, a server that takes notes.

Locust runs in processes of its own, never inside pytest: it patches the standard library.
"""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from settings import Settings

from builders import scenario, server
from trimtab.core.scenario import RequestClass

ROOT = Path(__file__).resolve().parents[2]
CLASSES = (RequestClass("light", 0.6, 0.001), RequestClass("medium", 0.3, 0.002), RequestClass("heavy", 0.1, 0.004, "fixed", 0.0))
SPEEDS = {one.name: 1.0 for one in CLASSES}
SCENARIO = replace(scenario(server(8, SPEEDS, queue_limit=200), classes=CLASSES, rate_rps=100.0, requests=120), id="small")
RUN_TIMEOUT_S = 60.0


def settings(**changes):
    common = {"trace_rps": None, "seed": 3, "episode": 0, "loop": "open", "duration_s": None, "targets": ("http://127.0.0.1:1",)}
    limits = {"http_timeout_s": 5.0, "max_in_flight": 64, "think": "constant", "think_s": 0.0}
    return Settings(**({"scenario": SCENARIO} | common | limits | changes))


def command(*options):
    return [sys.executable, "-m", "locust", "-f", str(ROOT / "load" / "locustfile.py"), *map(str, options)]


def start(*options):
    return subprocess.Popen(command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def run(*options):
    return subprocess.run(
        command("--headless", "--only-summary", *options), capture_output=True, text=True, timeout=RUN_TIMEOUT_S, cwd=ROOT
    )


def report_of(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def requests_by_row(report):
    return {(row["class"], row["outcome"]): row["requests"] for row in report["rows"]}


class RecordingHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name = self.path.removeprefix("/job/")
        self.server.seen.append((name, self.headers["X-Work"], self.headers["X-Request-Id"]))
        behaviour = self.server.behaviour.get(name, 200)
        if behaviour == "hang":
            self.server.release.wait(10)
        if isinstance(behaviour, str):
            self.close_connection = True
            return
        self.send_response(behaviour)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class RecordingServer(ThreadingHTTPServer):
    """Notes every job it is asked for, and answers, hangs or hangs up as `behaviour` says by class."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), RecordingHandler)
        self.seen, self.behaviour, self.release = [], {}, threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_):
        """A client that gave up is part of some tests."""

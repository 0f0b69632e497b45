"""The checker itself, against a stand-in for Prometheus' query API; tests/docker runs it against the real one."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

from grafana.panels import main, series


@contextmanager
def prometheus(answer):
    """Answers every query with answer(expr) = (status, document); yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, document = answer(parse_qs(urlparse(self.path).query)["query"][0])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join(10)


def found(*values):
    return 200, {"data": {"result": [{"values": [[0, one] for one in sample]} for sample in values]}}


def test_a_series_counts_if_it_was_a_number_at_any_time():
    with prometheus(lambda _: found(["NaN", "1"], ["NaN", "NaN"], ["0"], ["+Inf"])) as url:
        assert series(url, "x") == 2


def test_a_bad_query_is_told_in_prometheus_words():
    with prometheus(lambda _: (400, {"error": "parse error"})) as url, pytest.raises(ValueError, match="x: parse error"):
        series(url, "x")


def test_the_table_names_every_panel_and_an_empty_one_is_exit_code_1(capsys):
    with prometheus(lambda expr: found(*[] if "epsilon" in expr else [["1"]])) as url:
        assert main(["--prometheus", url]) == 1
        told = capsys.readouterr()
        assert told.err == "empty: Training, Learning: Epsilon (A)\n"
        assert "| Testbed | Traffic: Requests by class | `sum by (class)" in told.out
        assert main(["--prometheus", url, "--skip-row", "Learning"]) == 0
        assert "Learning" not in capsys.readouterr().out
        assert main(["--prometheus", url, "--only-row", "Evaluation"]) == 0
        assert main(["--prometheus", url, "--only-row", "Nothing"]) == 2


def test_no_prometheus_is_one_line(capsys):
    assert main(["--prometheus", "http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1

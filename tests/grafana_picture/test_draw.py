import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import draw
import pytest
from picture_data import active_spans, events_by_value, load_dashboard
from picture_errors import PictureError
from picture_variables import Span

GRID = {"x": 0, "y": 2, "w": 12, "h": 8}


def dashboard(**panel):
    target = {"refId": "A", "expr": 'up{server=~"$server"}', "legendFormat": "{{server}}"}
    first = {"id": 1, "type": "timeseries", "title": "Up $server", "gridPos": GRID, "targets": [target]} | panel
    variables = [{"name": "server", "type": "custom", "query": "one, two", "current": {"value": "two"}}]
    annotations = [{"name": "Alerts", "enable": True, "expr": "ALERTS", "iconColor": "red"}]
    return {"title": "T", "panels": [first], "templating": {"list": variables}, "annotations": {"list": annotations}}


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "dashboard.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


class Answers(BaseHTTPRequestHandler):
    """As Prometheus answers: one series per range query; `broken` is a syntax error."""

    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)
        if query["query"][0] == "broken(":
            code, answer = 400, {"status": "error", "error": "1:8: parse error: unclosed left parenthesis"}
        else:
            series = {"metric": {"asked": query["query"][0]}, "values": [[float(query["start"][0]), "1"]]}
            code, answer = 200, {"status": "success", "data": {"resultType": "matrix", "result": [series]}}
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def prometheus_url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_data_is_saved_with_variables_filled_in(written, prometheus_url, tmp_path, capsys):
    kept = tmp_path / "kept.json"
    code = draw.main([str(written(dashboard())), "--prometheus", prometheus_url, "--from", "-15m", "--save-data", str(kept)])
    document = json.loads(kept.read_text())
    assert code == 0
    assert document["results"]["1"][0]["series"][0]["labels"] == {"asked": 'up{server=~"two"}'}
    assert document["dashboard"]["panels"][0]["title"] == "Up two"
    assert document["variables"] == [{"label": "server", "value": "two"}]
    assert document["annotations"][0]["color"] == "red"
    assert document["range"]["to_ms"] - document["range"]["from_ms"] == 900_000
    assert draw.main(["--data", str(kept)]) == 0
    assert capsys.readouterr().out.count("panels: 1\n") == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds a list"),
        ({}, "no Grafana dashboard"),
        (dashboard(type="heatmap"), "panel 'Up $server' is of type 'heatmap'"),
        (dashboard(repeat="server"), "repeats over $server"),
        (dashboard(gridPos={"x": 0}), "no complete gridPos"),
    ],
)
def test_what_cannot_be_drawn_is_said(written, content, message):
    with pytest.raises(PictureError) as caught:
        load_dashboard(written(content))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refused_query_names_its_panel(written, prometheus_url, capsys):
    path = written(dashboard(targets=[{"refId": "B", "expr": "broken("}]))
    assert draw.main([str(path), "--prometheus", prometheus_url]) == 1
    said = capsys.readouterr().err
    assert "panel 'Up $server', query B: Prometheus refuses 'broken(': 1:8: parse error" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prometheus", "http://127.0.0.1:1"], "no Prometheus answers at http://127.0.0.1:1"),
        (["--variable", "server"], "has no value"),
        (["--from", "yesterday"], "is not a time"),
        (["--width", "10"], "600 is the least"),
    ],
)
def test_bad_requests_are_one_line(written, arguments, message, capsys):
    assert draw.main([str(written(dashboard())), *arguments]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_the_window_fits_the_lowest_panel():
    assert draw.height_px(dashboard()) == 2 * 16 + 88 + 10 * 38


def test_neighbouring_samples_above_zero_are_one_event():
    points = [[0, "1"], [5, "1"], [10, "0"], [15, "2"], [30, "1"]]
    assert active_spans(points, step_s=5) == [(0, 5000), (15000, 15000), (30000, 30000)]


def test_events_that_name_their_time_lie_in_the_range():
    points = [[0, "1500000"], [5, "1500000"], [10, "99"]]
    assert events_by_value(points, Span(1000, 2000, 5, 10)) == [(1_500_000, 1_500_000)]

"""The dashboards against what Grafana expects of a file, and against the metrics that exist. No Grafana is needed."""

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from grafana.metric_names import documented, names_in
from grafana.panels import FOLDER, dashboards, filled, queries, walk

ROOT = Path(__file__).resolve().parents[2]
PROVISIONING = ROOT / "grafana" / "provisioning"
PANEL_TYPES = {"row", "timeseries", "stat", "bargauge", "table"}  # all part of Grafana; they are also drawn for the documents
UNITS = {"s", "reqps", "ops", "percentunit", "short", "bytes"}
COLUMNS = 24
BOARDS = dashboards()


@pytest.fixture(params=BOARDS, ids=lambda board: board["uid"])
def board(request):
    return request.param


def panels(board):
    return [one for one in board["panels"] if one["type"] != "row"]


def expressions(board):
    annotations = [one["expr"] for one in board["annotations"]["list"]]
    variables = [one["query"]["query"] for one in board["templating"]["list"]]
    return [target["expr"] for panel in panels(board) for target in panel["targets"]] + annotations + variables


def test_the_committed_files_are_what_the_code_makes(tmp_path):
    pytest.importorskip("grafana_foundation_sdk", reason="a development dependency; run make setup")
    subprocess.run([sys.executable, ROOT / "grafana" / "build.py", tmp_path], check=True, timeout=60)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}


def test_an_unwritable_folder_is_one_line(tmp_path):
    pytest.importorskip("grafana_foundation_sdk", reason="a development dependency; run make setup")
    (tmp_path / "file").write_text("")
    command = [sys.executable, ROOT / "grafana" / "build.py", tmp_path / "file"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)


def test_two_dashboards_with_rows_in_data_flow_order():
    rows = {board["uid"]: [one["title"] for one in board["panels"] if one["type"] == "row"] for board in BOARDS}
    assert rows == {
        "trimtab-testbed": ["Traffic", "Decisions", "Servers", "Outcomes", "Gateway", "Gateway that learns"],
        "trimtab-training": ["Progress", "Reward", "Latency", "Learning", "Choices", "Evaluation"],
    }


def test_panels_have_ids_of_their_own_titles_of_their_own_and_known_types(board):
    ids, titles = [one["id"] for one in board["panels"]], [one["title"] for one in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)
    assert {one["type"] for one in board["panels"]} <= PANEL_TYPES


def cells(panel):
    place = panel["gridPos"]
    return {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}


def test_panels_lie_inside_the_grid_fill_it_and_do_not_overlap(board):
    for one, other in combinations(board["panels"], 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])
    taken = set().union(*(cells(one) for one in board["panels"]))
    assert {x for x, _ in taken} == set(range(COLUMNS))
    assert len(taken) == COLUMNS * (1 + max(y for _, y in taken)), "a hole in the grid"


def test_a_row_holds_nothing_itself_since_grafana_drops_panels_of_an_open_row(board):
    for row in (one for one in board["panels"] if one["type"] == "row"):
        assert not row["collapsed"]
        assert row["panels"] == []


def test_every_panel_says_what_to_look_for_and_has_a_unit(board):
    for panel in panels(board):
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert 20 < len(panel["description"]) < 200, panel["title"]
        assert panel["description"][-1] in ".?", panel["title"]


def test_every_series_has_a_legend_and_every_query_a_letter(board):
    for panel in panels(board):
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == list("ABCDEFGH"[: len(letters)])
        assert letters
        assert panel["type"] == "table" or all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_all_data_come_from_the_provisioned_source(board):
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())["datasources"]
    expected = {"type": source["type"], "uid": source["uid"]}
    found = [one["datasource"] for panel in panels(board) for one in (panel, *panel["targets"])]
    found += [one["datasource"] for one in (*board["templating"]["list"], *board["annotations"]["list"])]
    assert all(one == expected for one in found)


def test_grafana_reads_the_folder_and_knows_the_scrape_interval():
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/trimtab.yml").read_text())["providers"]
    assert (provider["type"], provider["allowUiUpdates"], provider["disableDeletion"]) == ("file", False, True)
    mounts = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())["datasources"]
    scrape = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape


def test_windows_are_grafanas_variable(board):
    for expr in expressions(board):
        for function in re.finditer(r"\b(rate|irate|increase|delta|changes|\w+_over_time)\(", expr):
            assert "[$__rate_interval]" in expr[function.end() :], expr
        assert not re.search(r"\[(?!\$__rate_interval\])", expr), expr


def test_every_name_is_a_documented_metric(board):
    for expr in expressions(board):
        used = names_in(expr)
        assert used or "ALERTS" in expr, expr
        assert used - documented() == set(), expr


def test_it_shows_the_last_quarter_of_an_hour_and_keeps_itself_up_to_date(board):
    assert (board["time"], board["refresh"], board["editable"]) == ({"from": "now-15m", "to": "now"}, "5s", False)


def test_servers_and_classes_can_be_chosen(board):
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert set(variables) == {"server", "class"}
    assert all(one["multi"] and one["includeAll"] and one["allValue"] == ".*" for one in variables.values())
    used = " ".join(target["expr"] for panel in panels(board) for target in panel["targets"])
    assert all(f'{name}=~"${name}"' in used for name in variables)


def test_training_marks_phases_and_both_mark_alerts():
    marks = {board["uid"]: [one["name"] for one in board["annotations"]["list"]] for board in BOARDS}
    assert marks == {"trimtab-testbed": ["Alerts"], "trimtab-training": ["Phase", "Alerts"]}


def test_what_needs_an_evaluation_or_a_gateway_stands_in_its_row():
    for board in BOARDS:
        for query in walk(board):
            if query.expr != "testbed:response_seconds:slo":
                assert ("evaluation" in query.expr) == (query.row == "Evaluation"), query
                assert ("trimtab_gateway" in query.expr) == query.row.startswith("Gateway"), query
                assert ("trimtab_gateway_learning" in query.expr) == (query.row == "Gateway that learns"), query


def test_a_gateway_that_is_scraped_under_two_names_is_not_added_up():
    for query in (one for board in BOARDS for one in walk(board) if "trimtab_gateway" in one.expr):
        assert "max without (instance, gateway) (" in query.expr, query


def test_queries_have_their_variables_filled_in(board):
    found = queries(board)
    assert len(found) == sum(len(panel["targets"]) for panel in panels(board))
    assert not any("$" in expr for _, _, expr in found)
    with pytest.raises(ValueError, match=r"\$policy"):
        filled('x{policy="$policy"}', board)


def test_a_file_holds_no_number_of_somebodys_database(board):
    assert "id" not in board, "Grafana numbers dashboards itself"

"""Prometheus' configuration and rules, read by promtool and held against docs/metrics.md."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from grafana.metric_names import documented, names_in, table
from job_app import create_app
from server_profile import profile_from_fleet

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "prometheus"
CASES = Path(__file__).with_name("rules_test.yml")
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]]
RECORDED = {rule["record"]: rule for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def promtool(*arguments):
    if shutil.which("promtool") is None:
        why = "promtool is not installed; it comes with Prometheus (Debian: apt-get install prometheus)"
        pytest.fail(why) if os.environ.get("TRIMTAB_DOCKER") == "require" else pytest.skip(why)
    ended = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    return ended.returncode, ended.stdout + ended.stderr


def test_prometheus_accepts_its_configuration_and_the_rules():
    code, said = promtool("check", "config", FOLDER / "prometheus.yml")
    assert code == 0, said
    assert f"{len(RULES)} rules found" in said


def test_rules_and_alerts_do_what_their_cases_say():
    code, said = promtool("test", "rules", CASES)
    assert code == 0, said


def test_every_alert_has_a_case_in_which_it_fires_and_none_where_all_is_well():
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["promql_expr_test"]]
    firing = {
        re.search(r'alertname="(\w+)",alertstate="firing"', case["expr"])[1]
        for case in cases
        if "firing" in case["expr"] and case["exp_samples"]
    }
    assert firing == set(ALERTS)
    assert any(case["expr"] == "ALERTS" and case["exp_samples"] == [] for case in cases)


def test_every_alert_has_a_severity_and_says_what_to_look_at():
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert set(alert["annotations"]) == {"summary", "description"}, name
        assert re.search(r"\b([Ll]ook at|[Cc]ompare)\b", alert["annotations"]["description"]), name
        assert int(alert.get("for", "0s").removesuffix("s")) <= 30, "a testbed does not wait for minutes"


def test_the_objective_is_the_default_scenarios():
    scenario = tomllib.loads((ROOT / "agent/trimtab/problems/routing/scenarios/compose-default.toml").read_text())
    assert RECORDED["testbed:response_seconds:slo"]["expr"] == f"vector({scenario['scenario']['slo_ms'] / 1000:g})"


def test_rules_are_named_level_metric_operation_and_use_documented_metrics():
    for rule in RULES:
        assert names_in(rule["expr"]) - documented() == set(), rule
    assert all(re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", name) for name in RECORDED)


def test_the_document_lists_every_rule_and_alert_and_no_other():
    assert set(table("Recording rules")) == set(RECORDED)
    assert {name: cells[0] for name, cells in table("Alerts").items()} == {name: one["labels"]["severity"] for name, one in ALERTS.items()}


def test_jobs_are_the_servers_the_programs_of_the_host_and_prometheus_itself():
    document = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    targets = {
        one["job_name"]: [target for group in one["static_configs"] for target in group["targets"]] for one in document["scrape_configs"]
    }
    assert list(targets) == ["servers", "training", "evaluation", "gateway", "prometheus"]
    assert (targets["training"], targets["evaluation"]) == (["host.docker.internal:9101"], ["host.docker.internal:9102"])
    assert targets["gateway"] == ["host.docker.internal:8080", "gateway:8080"]
    (gateway,) = [one["static_configs"] for one in document["scrape_configs"] if one["job_name"] == "gateway"]
    assert [group["labels"] for group in gateway] == [{"gateway": "host"}, {"gateway": "compose"}]
    assert document["rule_files"] == ["rules.yml"]
    for job in ("training", "evaluation", "gateway"):
        assert job not in ALERTS["ServerDown"]["expr"], "its target is down between runs"


def test_the_servers_page_is_what_the_document_says():
    client = create_app(profile_from_fleet(ROOT / "servers/fleet.toml", "server-1")).test_client()
    page = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        labels = {label for one in family.samples for label in one.labels} - {"le"}
        page[family.name + ("_total" if family.type == "counter" else "")] = (family.type, len(family.samples), labels)
    rows = table("Servers")
    bound = {name: int(re.sub(r"\D", "", cells[4]) or 1) * (3 if "K" in cells[4] else 1) for name, cells in rows.items()}
    written = {name: (cells[0], bound[name], set(cells[1].split(", ")) - {"server"}) for name, cells in rows.items()}
    assert page == written

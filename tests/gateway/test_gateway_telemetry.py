"""The gateway's page: each request once, histograms that add up, bounded labels, and every name in docs/metrics.md."""

from dataclasses import fields

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from grafana.metric_names import documented, table
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.gateway.candidates import RESULTS
from trimtab.gateway.decider_metrics import DeciderCollector, FileGauges, LearningGauges, OnTrial, ShadowGauges
from trimtab.gateway.guard import REASONS
from trimtab.gateway.limits import Limits
from trimtab.gateway.scores import OUTCOMES, Scores
from trimtab.gateway.telemetry import (
    CODE_CLASSES,
    OVERHEAD_EDGES_S,
    REFUSAL_REASONS,
    RETRY_RESULTS,
    GatewayCollector,
    GatewayCounts,
    Gauges,
)

SERVERS, CLASSES = ("server-1", "server-2"), ("light", "heavy", "huge")
QUIET = Gauges((3, 1), (True, False), (0, 2), panic=True, draining=False, fallbacks=dict.fromkeys(REASONS, 0) | {"slow": 4})


def families(counts, gauges=QUIET):
    registry = CollectorRegistry()
    registry.register(GatewayCollector(counts, lambda: gauges))
    return list(text_string_to_metric_families(generate_latest(registry).decode()))


def samples(counts, name, gauges=QUIET):
    """Values of the series that are not 0, by their labels' values in the order of the labels' names."""
    found = [one for family in families(counts, gauges) for one in family.samples if one.name == f"trimtab_gateway_{name}"]
    return {tuple(value for _, value in sorted(one.labels.items())): one.value for one in found if one.value}


@pytest.fixture
def counts():
    return GatewayCounts(SERVERS, CLASSES, ["dqn", "sed-online", "dqn"])


@pytest.mark.parametrize(
    ("server", "kind", "status", "labels"),  # class, code class, server
    [
        (0, 0, 200, ("light", "2xx", "server-1")),
        (1, 2, 304, ("huge", "3xx", "server-2")),
        (1, 1, 404, ("heavy", "4xx", "server-2")),
        (0, 0, 503, ("light", "5xx", "server-1")),
        (None, 0, 503, ("light", "5xx", "none")),
        (None, None, 431, ("none", "4xx", "none")),
        (0, 1, None, ("heavy", "none", "server-1")),
        (0, 1, 799, ("heavy", "5xx", "server-1")),
        (0, 1, 100, ("heavy", "5xx", "server-1")),
    ],
)
def test_an_answer_is_counted_by_class_server_and_kind_of_status(counts, server, kind, status, labels):
    counts.answered(server, kind, status)
    assert samples(counts, "requests_total") == {labels: 1}


def test_decisions_are_counted_by_who_decided(counts):
    counts.decided("dqn", 0, 1)
    counts.decided("dqn", 0, 1)
    counts.decided("sed-online", 1, 2)
    assert samples(counts, "decisions_total") == {("heavy", "dqn", "server-1"): 2, ("huge", "sed-online", "server-2"): 1}


def test_a_decider_that_was_not_named_is_an_error_not_a_new_series(counts):
    with pytest.raises(KeyError):
        counts.decided("somebody", 0, 0)


def test_retries_are_counted_by_their_end_and_those_refused_were_not_sent(counts):
    for result in ("served", "served", "failed", "unmeasured", "no_budget"):
        counts.retried(result)
    assert samples(counts, "retries_total") == {("served",): 2, ("failed",): 1, ("unmeasured",): 1, ("no_budget",): 1}
    assert counts.retries_sent == 4
    with pytest.raises(ValueError, match="not in"):
        counts.retried("else")


def test_refusals_are_counted_by_the_limit_that_was_reached(counts):
    for reason in ("connections", "in_flight", "connections"):
        counts.refused(reason)
    assert samples(counts, "refusals_total") == {("connections",): 2, ("in_flight",): 1}
    with pytest.raises(ValueError, match="not in"):
        counts.refused("else")


def test_a_reason_to_refuse_is_the_name_of_the_limit():
    assert set(REFUSAL_REASONS) <= {field.name for field in fields(Limits)}


def test_an_edge_belongs_to_the_bucket_below_it_and_buckets_add_up(counts):
    for latency_s in (0.0005, 0.02, 0.0201, 99.0):
        counts.served(1, latency_s, 0.001)
    buckets = samples(counts, "latency_seconds_bucket")
    assert [buckets.get(("heavy", edge), 0) for edge in ("0.001", "0.01", "0.02", "0.03", "10", "+Inf")] == [1, 1, 2, 3, 3, 4]
    assert samples(counts, "latency_seconds_count") == {("heavy",): 4}
    assert samples(counts, "latency_seconds_sum") == {("heavy",): pytest.approx(99.0406)}


def test_overhead_has_its_own_finer_edges(counts):
    for overhead_s in (0.00005, 0.0008, 0.0012, 5.0):
        counts.served(0, 6.0, overhead_s)
    buckets = samples(counts, "overhead_seconds_bucket")
    assert [buckets.get((edge,), 0) for edge in ("0.0001", "0.00075", "0.001", "0.0015", "1", "+Inf")] == [1, 1, 2, 3, 3, 4]
    assert samples(counts, "overhead_seconds_sum") == {(): pytest.approx(5.00205)}


def test_the_present_is_read_when_the_page_is(counts):
    assert samples(counts, "in_flight_requests") == {("server-1",): 3, ("server-2",): 1}
    assert samples(counts, "server_up") == {("server-1",): 1}
    assert samples(counts, "ejections_total") == {("server-2",): 2}
    assert samples(counts, "fallbacks_total") == {("slow",): 4}
    assert samples(counts, "panic") == {(): 1}
    assert samples(counts, "draining") == {}
    assert samples(counts, "draining", QUIET._replace(draining=True)) == {(): 1}


def test_a_fleet_of_many_servers_is_one_sum():
    many = GatewayCounts([f"server-{number}" for number in range(65)], CLASSES, ["p2c"])
    for server in (0, 64):
        many.decided("p2c", server, 0)
        many.answered(server, 0, 200)
    many.answered(None, 0, 503)
    gauges = QUIET._replace(in_flight=[2] * 65, up=[True] * 65, ejections=[1] * 65)
    assert samples(many, "decisions_total", gauges) == {("light", "p2c", "all"): 2}
    assert samples(many, "requests_total", gauges) == {("light", "2xx", "all"): 2, ("light", "5xx", "none"): 1}
    assert samples(many, "in_flight_requests", gauges) == {("all",): 130}


def test_registering_asks_nothing_of_a_gateway_that_has_not_started(counts):
    def not_yet():
        raise AssertionError

    CollectorRegistry().register(GatewayCollector(counts, not_yet))


# Who decides

NO_TRIAL = OnTrial(files={}, doubts={}, shadow=None, canary_share=None, canary_stopped=False)
FULL = OnTrial(
    files={"primary": FileGauges(3, 1, 12.5), "shadow": FileGauges(1, 0, 60.0), "canary": FileGauges(1, 2, 9.0)},
    doubts={role: dict.fromkeys(REASONS, 0) | {"slow": 2} for role in ("shadow", "canary")},
    shadow=ShadowGauges({"agree": 30, "differ": 10, "none": 1}, 0.75, {"q": 0.002, "delay": -0.001}),
    canary_share=0.05,
    canary_stopped=False,
    learning=LearningGauges(2, 0.9, False, {"learned": 0.05, "control": 0.04}),
)


def decider_families(present=FULL, scores=None):
    registry = CollectorRegistry()
    registry.register(DeciderCollector(scores or Scores(["dqn", "sed-online"], 0.05, 0.0), lambda: present))
    return list(text_string_to_metric_families(generate_latest(registry).decode()))


def decider_samples(name, present=FULL, scores=None):
    found = [one for family in decider_families(present, scores) for one in family.samples if one.name == f"trimtab_gateway_{name}"]
    return {tuple(value for _, value in sorted(one.labels.items())): one.value for one in found if one.value}


def test_outcomes_latencies_and_costs_are_counted_by_who_decided():
    scores = Scores(["dqn", "canary"], 0.05, 0.0)
    for decider, status, latency_s in (("dqn", SERVED, 0.02), ("dqn", UNMEASURED, 9.0), ("canary", SERVED, 0.1), ("canary", FAILED, 0.1)):
        scores.ended(decider, status, latency_s, 1.0)
    outcomes = {("dqn", "served"): 1, ("dqn", "unmeasured"): 1, ("canary", "served"): 1, ("canary", "failed"): 1}
    assert decider_samples("decider_outcomes_total", NO_TRIAL, scores) == outcomes
    assert decider_samples("decider_cost_total", NO_TRIAL, scores) == {("dqn",): pytest.approx(0.4), ("canary",): pytest.approx(42.0)}
    assert decider_samples("decider_latency_seconds_count", NO_TRIAL, scores) == {("dqn",): 1, ("canary",): 1}
    assert decider_samples("decider_latency_seconds_sum", NO_TRIAL, scores) == {("dqn",): 0.02, ("canary",): 0.1}
    buckets = decider_samples("decider_latency_seconds_bucket", NO_TRIAL, scores)
    assert [buckets.get(("dqn", edge), 0) for edge in ("0.01", "0.02", "+Inf")] == [0, 1, 1]


def test_models_and_candidates_as_they_are():
    assert decider_samples("model_loads_total")["refused", "canary"] == 2
    assert decider_samples("model_loads_total")["loaded", "primary"] == 3
    assert decider_samples("model_age_seconds")[("primary",)] == 12.5
    assert decider_samples("candidate_doubts_total") == {("slow", "shadow"): 2, ("slow", "canary"): 2}
    assert decider_samples("shadow_decisions_total") == {("agree",): 30, ("differ",): 10, ("none",): 1}
    assert decider_samples("shadow_agreement_ratio") == {(): 0.75}
    assert decider_samples("shadow_gain_seconds") == {("q",): 0.002, ("delay",): -0.001}
    assert (decider_samples("canary_share_ratio"), decider_samples("canary_stopped")) == ({(): 0.05}, {})
    stopped = FULL._replace(canary_share=0.0, canary_stopped=True)
    assert (decider_samples("canary_share_ratio", stopped), decider_samples("canary_stopped", stopped)) == ({}, {(): 1})


def test_a_model_that_learns_and_its_control_group():
    assert decider_samples("learning_behind_total") == {(): 2}
    assert decider_samples("learning_share_ratio") == {(): 0.9}
    assert decider_samples("learning_latency_seconds") == {("learned",): 0.05, ("control",): 0.04}
    assert decider_samples("learning_stopped") == {}
    stopped = FULL._replace(learning=LearningGauges(3, 0.0, True, {}))
    assert decider_samples("learning_stopped", stopped) == {(): 1}
    assert decider_samples("learning_latency_seconds", stopped) == {}


def test_what_is_not_there_or_not_known_has_no_series():
    names = {one.name for family in decider_families(NO_TRIAL) for one in family.samples}
    assert {name.removeprefix("trimtab_gateway_").split("_")[0] for name in names} == {"decider"}
    unknown = FULL._replace(files={"primary": FileGauges(0, 0, None)}, shadow=ShadowGauges(dict.fromkeys(RESULTS, 0), None, {}))
    names = {one.name for family in decider_families(unknown) for one in family.samples}
    assert not {name for name in names if name.endswith(("model_age_seconds", "agreement_ratio", "gain_seconds"))}
    assert "trimtab_gateway_shadow_decisions_total" in names


# docs/metrics.md

SIZES = {"S": len(SERVERS), "K": len(CLASSES), "D": 2, "R": len(REASONS), "M": 3, "C": 2}


def series(formula):
    """What the document's formula comes to: 5(S+1)(K+1) is products of sums."""
    product = 1
    for factor in formula.replace("(", " ").replace(")", " ").split():
        if "+" in factor:
            product *= sum(SIZES.get(part, 0) or int(part) for part in factor.split("+"))
        else:
            digits = "".join(one for one in factor if one.isdigit())
            product *= int(digits or 1)
            for letter in factor.removeprefix(digits):
                product *= SIZES[letter]
    return product


def test_the_document_says_type_labels_and_number_of_series(counts):
    page = {}
    for family in (*families(counts), *decider_families()):
        labels = {label for one in family.samples for label in one.labels} - {"le"}
        page[family.name + ("_total" if family.type == "counter" else "")] = (family.type, labels, len(family.samples))
    rows = table("Gateway").items()
    assert page == {name: (cells[0], set(cells[1].replace(",", " ").split()), series(cells[4])) for name, cells in rows}


def test_every_name_is_documented_and_no_other(counts):
    exported = {one.name for family in (*families(counts), *decider_families()) for one in family.samples}
    assert exported == {name for name in documented() if name.startswith("trimtab_gateway_")}


def test_the_document_names_every_label_value_that_is_ours():
    rows = table("Gateway")
    for value in CODE_CLASSES:
        assert value in rows["trimtab_gateway_requests_total"][3]
    for value in REASONS:
        assert value in rows["trimtab_gateway_fallbacks_total"][3]
    for value in OUTCOMES:
        assert value in rows["trimtab_gateway_decider_outcomes_total"][3]
    for value in RESULTS:
        assert value in rows["trimtab_gateway_shadow_decisions_total"][3]
    for value in RETRY_RESULTS:
        assert value in rows["trimtab_gateway_retries_total"][3]
    for value in REFUSAL_REASONS:
        assert value in rows["trimtab_gateway_refusals_total"][3]
    assert f"{len(OVERHEAD_EDGES_S)} bounds" in rows["trimtab_gateway_overhead_seconds"][3]

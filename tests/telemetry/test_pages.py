"""What Prometheus reads of a run: the right names and units, and nothing that was not measured."""

import math

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from trimtab.core.tally import Key, Tallies
from trimtab.telemetry.counts import SERVERS_SHOWN, TallyCollector
from trimtab.telemetry.names import measured, metric
from trimtab.telemetry.pages import EvaluationPage, TrainingPage

ABOUT = {"problem": "routing", "scenario": "tiny", "backend": "twin", "seed": "3"}
ROW = {"episode": 7, "phase": 2, "average_reward": -2.0, "mean_latency_ms": 30.0, "p99_latency_ms": math.nan, "loss": None, "q_mean": -1.5}


class Learner:
    updates, epsilon, replay_fill = 12, 0.25, 0.5


def samples(collector):
    registry = CollectorRegistry()
    registry.register(collector)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def value(collector, name, **labels):
    return samples(collector)[name, tuple(sorted(labels.items()))]


@pytest.fixture
def training():
    return TrainingPage(Learner(), ("mean_latency_ms", "p99_latency_ms"), 6000, ABOUT, lambda: 1000.0)


@pytest.mark.parametrize(
    ("column", "number", "expected"),
    [
        ("mean_latency_ms", 12.0, ("mean_latency_seconds", 0.012)),
        ("decision_us", 50.0, ("decision_seconds", 5e-5)),
        ("error_rate", 0.5, ("error_ratio", 0.5)),
        ("throughput_rps", 9.0, ("throughput_requests_per_second", 9.0)),
        ("gini_coefficient", 0.1, ("gini_coefficient", 0.1)),
    ],
)
def test_columns_become_names_in_base_units(column, number, expected):
    name, converted = metric(column, number)
    assert (name, converted) == (expected[0], pytest.approx(expected[1]))


def test_what_was_not_measured_is_left_out():
    assert measured({"a": 1, "b": None, "c": math.nan, "d": "text"}, ("a", "b", "c", "d", "e")) == {"a": 1.0}


def test_a_new_training_page_knows_the_plan_alone(training):
    assert value(training, "trimtab_training_info", **ABOUT) == 1
    assert value(training, "trimtab_training_episodes_planned") == 6000
    assert value(training, "trimtab_training_last_batch_timestamp_seconds") == 1000.0
    assert ("trimtab_training_average_reward", ()) not in samples(training)


def test_gauges_are_means_of_the_batch_and_the_last_row_says_where_it_is(training):
    training.add([ROW, {**ROW, "episode": 8, "average_reward": -4.0, "mean_latency_ms": 50.0, "loss": 0.1}])
    assert value(training, "trimtab_training_average_reward") == -3.0
    assert value(training, "trimtab_training_mean_latency_seconds") == pytest.approx(0.04)
    assert value(training, "trimtab_training_episode") == 8
    assert value(training, "trimtab_training_loss") == 0.1
    assert ("trimtab_training_p99_latency_seconds", ()) not in samples(training), "a blank is not a zero"


def test_the_learner_is_asked_when_the_page_is_read(training):
    assert value(training, "trimtab_training_epsilon") == 0.25
    assert value(training, "trimtab_training_replay_fill_ratio") == 0.5
    assert value(training, "trimtab_training_gradient_steps_total") == 12


def test_a_loss_that_is_no_number_is_shown_as_such(training):
    training.add([{**ROW, "loss": math.nan}])
    assert math.isnan(value(training, "trimtab_training_loss"))
    training.add([{**ROW, "loss": 0.5}])
    training.diverged()
    assert math.isnan(value(training, "trimtab_training_loss"))


def test_yardsticks_stand_under_their_policies(training):
    training.yardstick("sed-online", 25.0)
    training.yardstick("p2c", math.nan)
    assert value(training, "trimtab_training_reference_latency_seconds", policy="sed-online") == 0.025
    assert len([name for name, _ in samples(training) if name.endswith("reference_latency_seconds")]) == 1


def test_evaluation_counts_episodes_and_keeps_the_latest_means():
    page = EvaluationPage(("mean_latency_ms",))
    row = {"scenario": "tiny", "backend": "http", "policy": "p2c", "mean_latency_ms": 10.0, "decision_us": 4.0, "total_reward": -3.0}
    page.add([row, {**row, "mean_latency_ms": 30.0}])
    page.add([{**row, "mean_latency_ms": 50.0}])
    labels = {"scenario": "tiny", "backend": "http", "policy": "p2c"}
    assert value(page, "trimtab_evaluation_episodes_total", **labels) == 3
    assert value(page, "trimtab_evaluation_mean_latency_seconds", **labels) == pytest.approx(0.05)
    assert value(page, "trimtab_evaluation_decision_seconds", **labels) == pytest.approx(4e-6)


def tallied(servers, policy="p2c", backend="http"):
    tallies = Tallies()
    tally = tallies.of(Key(backend, policy, servers, ("a", "b")))
    tally.decisions[:] = 1
    tally.outcomes[0] = (5, 2, 1)
    tally.latencies[0, 0], tally.latencies[0, 3], tally.latency_s[0] = 2, 1, 0.5
    return tallies


def test_tallies_become_counters_and_a_histogram():
    page = TallyCollector(tallied(("s1", "s2")))
    labels = {"backend": "http", "policy": "p2c"}
    assert value(page, "trimtab_agent_decisions_total", **labels, server="s2", **{"class": "b"}) == 1
    assert value(page, "trimtab_agent_outcomes_total", **labels, server="s1", outcome="failed") == 2
    assert value(page, "trimtab_agent_outcomes_total", **labels, server="s2", outcome="failed") == 0, "zero from the start"
    bucket = {**labels, "class": "a"}
    assert [value(page, "trimtab_agent_latency_seconds_bucket", **bucket, le=le) for le in ("0.001", "0.005", "0.01", "+Inf")] == [
        2,
        2,
        3,
        3,
    ]
    assert value(page, "trimtab_agent_latency_seconds_sum", **bucket) == 0.5


def test_tallies_that_differ_in_nothing_shown_are_added():
    tallies = tallied(("s1", "s2"))
    tallies.of(Key("http", "p2c", ("s1", "s3"), ("a", "c"))).decisions[:] = 10
    page = TallyCollector(tallies)
    assert value(page, "trimtab_agent_decisions_total", backend="http", policy="p2c", server="s1", **{"class": "a"}) == 11


def test_large_fleets_are_shown_as_one():
    page = TallyCollector(tallied(tuple(f"s{i}" for i in range(SERVERS_SHOWN + 1))))
    shown = {dict(labels)["server"] for name, labels in samples(page) if name == "trimtab_agent_decisions_total"}
    assert shown == {"all"}
    assert value(page, "trimtab_agent_decisions_total", backend="http", policy="p2c", server="all", **{"class": "a"}) == SERVERS_SHOWN + 1

"""docs/metrics.md against the pages themselves: every series is documented, and nothing is documented that there is not."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from grafana.metric_names import documented
from trimtab.core.tally import Key, Tallies
from trimtab.problems.routing.problem import Routing
from trimtab.telemetry.counts import TallyCollector
from trimtab.telemetry.pages import EvaluationPage, TrainingPage

FIXED = ("average_reward", "total_reward", "loss", "q_mean")


class Learner:
    updates, epsilon, replay_fill = 1, 0.1, 0.2


def names(*collectors):
    registry = CollectorRegistry()
    for one in collectors:
        registry.register(one)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {sample.name for family in families for sample in family.samples}


@pytest.fixture
def exported():
    """Every name that a full training and a full evaluation of the routing problem export."""
    problem, tallies = Routing(), Tallies()
    tallies.of(Key("http", "dqn", ("server-1",), ("light",)))
    training = TrainingPage(Learner(), problem.training_metrics, 10, {"problem": "routing"}, lambda: 0.0)
    training.add([{"episode": 1, "phase": 1, **dict.fromkeys((*FIXED, *problem.training_metrics), 1.0)}])
    training.yardstick("sed-online", 20.0)
    evaluation = EvaluationPage(problem.evaluation_metrics)
    row = dict.fromkeys((*problem.evaluation_metrics, "total_reward", "decision_us"), 1.0)
    evaluation.add([{"scenario": "tiny", "backend": "twin", "policy": "p2c", **row}])
    return names(training, evaluation, TallyCollector(tallies))


def test_every_exported_name_is_documented(exported):
    assert exported - documented() == set()


def test_every_documented_name_is_exported(exported):
    ours = {name for name in documented() if name.startswith(("trimtab_agent_", "trimtab_training_", "trimtab_evaluation_"))}
    assert ours - exported == set()

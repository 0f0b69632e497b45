"""Load reports in the gateway: a policy that listens gets them, and no other pays for them."""

import numpy as np
import pytest

from builders import scenario, server
from trimtab.cli.app import main
from trimtab.core.request_log import FAILED, SERVED
from trimtab.errors import UsageError
from trimtab.gateway.guard import PlainDecider
from trimtab.gateway.router import Router, rehearse
from trimtab.policies import catalogue

WORLD = scenario(server(1), server(1, number=2))
BOTH, FIRST = np.array([True, True]), np.array([True, False])
LOAD = "TEXT cpu_utilization=0.5,mem_utilization=0.1,named_metrics.in_flight={}"


def router(name):
    return Router(WORLD, PlainDecider(catalogue.build(name)), 8)


def test_reports_are_kept_once_a_policy_asks():
    one = router("c3")
    ticket = one.route(0, 0.0, FIRST)
    one.finish(ticket, SERVED, 0.2, 0.1, 0.0, 0.0, LOAD.format(4))
    reports = one.view(0, 0.3, BOTH).reports()
    assert reports.in_flight[0].tolist() == [4, 0]
    assert reports.queued_mean[0].tolist() == [3.0, 0.0]
    assert reports.cpu_utilization[0].tolist() == [0.5, 0.0]
    assert reports.response_mean_s[0, 0] == pytest.approx(0.2)
    assert reports.reported_s[0].tolist() == [0.2, -np.inf]


def test_c3_turns_away_from_a_server_that_reports_a_queue():
    one = router("c3")
    for mask, load in ((FIRST, LOAD.format(5)), (~FIRST, LOAD.format(0))):
        one.finish(one.route(0, 0.0, mask), SERVED, 0.1, 0.1, 0.0, 0.0, load)
    assert one.route(0, 0.3, BOTH).server == 1


@pytest.mark.parametrize("text", ["", "TEXT", "JSON {}", LOAD.format("1e300"), LOAD.format("-1"), LOAD.format("x")])
def test_a_report_that_says_nothing_changes_no_queue(text):
    one = router("c3")
    one.finish(one.route(0, 0.0, FIRST), FAILED, 0.1, 0.0, 0.0, 0.0, text)
    reports = one.view(0, 0.2, BOTH).reports()
    assert (reports.reports[0, 0], reports.failures[0, 0], reports.queued_mean[0, 0]) == (0, 1, 0.0)


def test_what_was_learnt_of_a_server_is_forgotten_with_the_rest():
    one = router("c3")
    one.finish(one.route(0, 0.0, FIRST), FAILED, 0.1)
    one.forget(0)
    assert one.view(0, 0.2, BOTH).reports().response_mean_s[0].tolist() == [0.0, 0.0]


def test_other_policies_leave_them_alone():
    one = router("least-outstanding")
    one.finish(one.route(0, 0.0, BOTH), SERVED, 0.2, 0.1, 0.0, 0.0, LOAD.format(4))
    assert one._heard is None


def test_a_policy_that_probes_is_refused(capsys):
    with pytest.raises(UsageError, match="nobody can probe"):
        rehearse(WORLD, PlainDecider(catalogue.build("prequal")))
    assert main(["--policy", "prequal", "--port", "65000"]) == 2
    assert "sends probes, which the gateway does not; allowed:" in capsys.readouterr().err

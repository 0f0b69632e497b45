"""Which policy when, the cost of one fixed choice, how it was measured, and the glossary: against values worked out by hand."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from report.test_html import Page
from trimtab.policies import catalogue
from trimtab.report.advice import advice
from trimtab.report.advice_tables import advice_grid, warnings
from trimtab.report.csv_files import Results
from trimtab.report.glossary import descriptions, glossary, needs
from trimtab.report.guide import guide_html, guide_of, make_guide
from trimtab.report.html import page
from trimtab.report.method import method
from trimtab.report.regret import fixed_choices, fixed_sentence, matrix, regret, shade
from trimtab.report.scoreboard import Naming, scoreboard
from trimtab.report.writing import report_contents

LUCK = np.linspace(10, 40, 12)  # mean 25
NAMING = Naming({"s": ("speeds", "first")}, {"speeds": "servers of unequal speed"}, {"s": "A line.", "family:grey": "slow spells"})


def rows(policy, factor, scenario="s", tail=5.0, failed=0.0, backend="twin", episodes=12):
    means = factor * LUCK[:episodes]
    frame = pd.DataFrame(
        {"scenario": scenario, "backend": backend, "policy": policy, "episode": range(episodes), "seed": 7, "requests": 2000}
    )
    return frame.assign(
        mean_latency_ms=means, p99_latency_ms=tail * LUCK[:episodes], error_rate=failed, total_reward=-means, decision_us=1.0
    )


def frame_of(*parts):
    return pd.concat(parts, ignore_index=True)


def advised(frame, naming=NAMING):
    return advice(frame, scoreboard(frame, naming))


SMALL = frame_of(rows("p2c", 4.0), rows("sed-online", 2.0), rows("dqn", 1.5), rows("oracle-greedy", 1.0))


def test_the_best_is_deployable_and_the_runner_up_follows():
    (one,) = advised(SMALL)
    assert (one.best.policy, one.runner_up.policy, one.row.contenders["best classical"].policy) == ("dqn", "sed-online", "sed-online")
    assert one.best.cost_ms.estimate == pytest.approx(37.5)
    assert one.lead.word == "better"
    assert one.row.best.policy == "dqn"
    assert warnings(one) == []


def test_of_equal_policies_a_rule_is_named_and_nothing_is_shown():
    (one,) = advised(frame_of(rows("dqn", 1.0), rows("thompson", 1.0), rows("sed-online", 1.0)))
    assert (one.best.policy, one.runner_up.policy, one.lead.word) == ("sed-online", "thompson", "no difference")
    assert one.row.best.policy == "sed-online"
    assert warnings(one) == ["not shown to be faster than thompson"]


def test_one_policy_has_no_runner_up_and_no_warning():
    (one,) = advised(rows("p2c", 1.0))
    assert (one.best.policy, one.runner_up, one.lead, one.quicker_tail, one.careful) == ("p2c", None, None, None, None)
    assert warnings(one) == []


def test_a_better_tail_elsewhere_and_more_failures_are_warned_of():
    (one,) = advised(frame_of(rows("p2c", 1.0, failed=0.002), rows("sed-online", 3.0, tail=4.0)))
    assert warnings(one) == ["lowest p99: sed-online, 100 ms", "fails 0.2 % of requests, sed-online 0.0 %"]


def test_a_tail_that_was_not_measured_everywhere_decides_nothing():
    short = rows("sed-online", 3.0, tail=1.0)
    short.loc[0, "p99_latency_ms"] = math.nan
    (one,) = advised(frame_of(rows("p2c", 1.0), short))
    assert one.quicker_tail is None
    (none,) = advised(frame_of(rows("p2c", 1.0), rows("sed-online", 3.0)).drop(columns="p99_latency_ms"))
    assert none.quicker_tail is None


def test_the_table_names_situation_verdict_and_needs():
    grid = advice_grid(advised(SMALL), NAMING)
    line = dict(zip(grid.head, grid.body[0], strict=True))
    assert line["situation"] == "first (s)"
    assert line["best by mean"] == "dqn\n37.5 ms\np99 125 ms"
    assert line["runner-up"] == "sed-online", "its figures stand further left"
    assert line["dqn against the best classical"] == "better\n0.750 [0.750, 0.750]"
    assert line["needs (the best)"] == "class labels, service times, declared slots, a trained model"
    assert grid.sections == ("speeds: servers of unequal speed",)


def test_without_the_learned_policy_the_table_has_no_column_for_it():
    naming = Naming(summaries={"s": "A line."})
    grid = advice_grid(advised(frame_of(rows("p2c", 1.0), rows("random", 2.0)), naming), naming)
    assert not [head for head in grid.head if "dqn" in head]
    assert grid.body[0][0] == "s: A line.", "a scenario of no suite goes by its own summary"
    assert grid.body[0][5] == "nothing"


def test_the_regret_of_a_fixed_choice():
    frame = frame_of(SMALL, rows("p2c", 1.0, "t"), rows("sed-online", 2.0, "t"), rows("dqn", 4.0, "t"), rows("oracle-greedy", 0.5, "t"))
    found = regret(frame, scoreboard(frame))
    by_name = {one.policy: one for one in found.choices}
    assert by_name["dqn"].geometric_mean == pytest.approx(2.0)
    assert by_name["p2c"].geometric_mean == pytest.approx(math.sqrt(4 / 1.5))
    assert (by_name["dqn"].worst, by_name["dqn"].where, by_name["dqn"].close) == (pytest.approx(4.0), "t", 1)
    assert found.choices[-1].policy == "oracle-greedy", "oracles stand apart"
    assert [one.policy for one in found.deployable] == ["p2c", "sed-online", "dqn"]
    assert fixed_sentence(found).startswith("As one policy for everything, p2c costs least: 1.63 times")
    assert fixed_choices(found).body[0] == ("p2c", "class-blind", "1.63", "2.67", "s", "1 of 2")


def test_a_policy_that_did_not_run_everywhere_has_no_mean_and_comes_last():
    frame = frame_of(rows("p2c", 2.0), rows("random", 1.0), rows("p2c", 1.0, "t"))
    found = regret(frame, scoreboard(frame))
    assert [one.policy for one in found.choices] == ["p2c", "random"]
    assert math.isnan(found.choices[1].geometric_mean)
    assert "<td>n/a</td>" in matrix(found)


def test_the_matrix_marks_the_best_and_sets_the_oracles_apart():
    found = regret(SMALL, scoreboard(SMALL, NAMING))
    text = matrix(found)
    assert "table" in Page(text).tags
    assert text.count(' best">1.00<') == 1
    assert '<td class="apart heat0">0.67</td>' in text
    assert "speeds: servers of unequal speed" in text
    alone = regret(rows("p2c", 1.0), scoreboard(rows("p2c", 1.0)))
    assert 'class="apart"' not in matrix(alone)


def test_shades_grow_with_the_ratio():
    assert [shade(value) for value in (0.5, 1.0, 1.009, 1.02, 4.0, 200.0)] == [0, 0, 0, 1, 6, 6]
    shades = [shade(value) for value in np.geomspace(1.02, 4, 30)]
    assert shades == sorted(shades)


def test_how_it_was_measured_is_read_off_the_rows():
    said = method(frame_of(SMALL, rows("p2c", 1.0, "t", episodes=10)))
    assert "in the twin" in said
    assert (
        "4 policies, 1 of them oracles, on 2 scenarios, 10 to 12 episodes of a policy on each, 2,000 requests an episode; seed 7." in said
    )
    assert "the same arrivals and the same work for every policy" in said
    assert "counted as 2,000 ms" in said
    assert "live, over HTTP" in method(rows("p2c", 1.0, backend="http"))
    assert "did not all run the same episodes" in method(frame_of(rows("p2c", 1.0), rows("random", 1.0, episodes=9)))


def test_every_policy_of_the_catalogue_is_described_and_says_what_it_needs():
    names = [*catalogue.NAMES, *catalogue.PROXY_NAMES, catalogue.LEARNED]
    assert set(names) == set(descriptions())
    assert all(needs(name) for name in names)
    assert (needs("round-robin"), needs("prequal"), needs("unheard-of")) == ("nothing", "probes", "")
    told = list(descriptions().values())
    assert len(set(told)) == len(told)


def test_the_glossary_holds_what_occurs_and_no_more():
    shown = Page(glossary(["p2c"], ["s", "family:grey:16", "unheard-of"], NAMING)).text
    assert "power of two choices" in shown
    assert "slow spells; 16 servers" in shown
    assert "thompson" not in shown
    assert "unheard-of" not in shown
    assert "it does not mean that a session sticks to a server" in shown


def test_a_report_of_one_scenario_has_a_guide_without_a_matrix():
    text = page(report_contents(Results(evaluation=SMALL), "x", naming=NAMING))
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Which policy when", "What was run", "Evaluation", "Glossary"]
    assert "dqn is better than sed-online, the best classical policy here: it takes 0.750" in text
    assert 'class="matrix"' not in text


@pytest.mark.parametrize(
    "frame",
    [None, rows("dqn", 1.0), rows("unheard-of", 1.0), SMALL.drop(columns="error_rate"), rows("oracle-greedy", 1.0)],
)
def test_rows_that_cannot_be_judged_have_no_guide(frame):
    assert guide_of(frame, Naming()) is None


def test_live_rows_and_real_proxies_are_judged_too():
    frame = frame_of(rows("haproxy-leastconn", 1.0, backend="http"), rows("sed-online", 2.0, backend="http"))
    one = guide_of(frame, NAMING)
    assert one.advice[0].best.policy == "haproxy-leastconn"
    assert "first (s) on http" in guide_html([one])


def test_without_oracles_nothing_is_said_of_gaps():
    frame = SMALL[SMALL["policy"] != "oracle-greedy"]
    text = guide_html([make_guide(frame, scoreboard(frame), Naming())])
    assert "oracle-greedy" not in text
    assert Page(text).open == []

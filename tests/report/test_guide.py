"""Which policy when, the cost of one fixed choice, how it was measured, and the glossary: against values worked out by hand."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from report.test_html import Page
from trimtab.policies import catalogue
from trimtab.report.advice import advice
from trimtab.report.advice_tables import advice_grid, use, warnings
from trimtab.report.csv_files import Results
from trimtab.report.glossary import descriptions, glossary, needs
from trimtab.report.guide import guide_html, guide_of, make_guide
from trimtab.report.html import page
from trimtab.report.method import method
from trimtab.report.regret import fixed_choices, fixed_sentence, matrix, regret, shade
from trimtab.report.scoreboard import Naming, scoreboard
from trimtab.report.tables import as_html, as_markdown
from trimtab.report.writing import report_contents

LUCK = np.linspace(10, 40, 12)  # mean 25
NAMING = Naming(
    {"s": ("speeds", "first")},
    {"speeds": "servers of unequal speed"},
    {"s": "A line.", "family:grey": "slow spells"},
    lambda scenario: "4 servers x 2 slots" if scenario == "s" else "",
)


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


def noisy(policy, factor, scenario="s", seed=5, **columns):
    """Rows whose luck differs so much from the others' that a few per cent are not shown."""
    frame = rows(policy, factor, scenario, **columns)
    return frame.assign(mean_latency_ms=frame["mean_latency_ms"] * np.random.default_rng(seed).lognormal(0, 0.3, len(frame)))


def test_the_learned_policy_is_the_answer_where_it_is_shown_to_be_better():
    (one,) = advised(SMALL)
    assert (one.use.policy, one.unshown, one.runner_up.policy, one.ahead) == ("dqn", None, "sed-online", True)
    assert one.use.cost_ms.estimate == pytest.approx(37.5)
    assert one.row.best.policy == "dqn"
    assert use(one) == "dqn"
    assert warnings(one) == []


def test_where_that_is_not_shown_the_best_classical_is_and_the_learned_one_is_named():
    frame = frame_of(rows("sed-online", 1.0), rows("p2c", 2.0), noisy("dqn", 0.9))
    (one,) = advised(frame)
    assert (one.use.policy, one.unshown.policy, one.runner_up.policy) == ("sed-online", "dqn", "p2c")
    assert re.fullmatch(r"sed-online\nor dqn \(0\.\d{3} of it, not shown\)", use(one))
    assert warnings(one) == [], "it is shown to be faster than all that need no trained model"


def test_where_it_has_the_higher_mean_the_classical_stands_alone():
    (unclear,) = advised(frame_of(rows("sed-online", 1.0), rows("p2c", 2.0), noisy("dqn", 1.1)))
    assert (use(unclear), unclear.runner_up.policy) == ("sed-online", "dqn")
    assert warnings(unclear) == ["not shown to be faster than dqn"]
    (clear,) = advised(frame_of(rows("sed-online", 1.0), rows("p2c", 2.0), rows("dqn", 1.5)))
    assert (use(clear), clear.runner_up.policy, clear.ahead) == ("sed-online", "dqn", True)


def test_of_equal_policies_a_rule_is_named_and_nothing_is_shown():
    (one,) = advised(frame_of(rows("dqn", 1.0), rows("thompson", 1.0), rows("sed-online", 1.0)))
    assert (one.use.policy, one.unshown, one.runner_up.policy, one.ahead) == ("sed-online", None, "thompson", False)
    assert one.row.best.policy == "sed-online"
    assert warnings(one) == ["not shown to be faster than thompson"]


def test_one_policy_has_no_runner_up_and_no_warning():
    (one,) = advised(rows("p2c", 1.0))
    assert (one.use.policy, one.unshown, one.runner_up, one.tail, one.careful) == ("p2c", None, None, None, None)
    assert warnings(one) == []


def test_a_tail_that_is_shown_to_be_better_is_named_beside_the_answer():
    (one,) = advised(frame_of(rows("p2c", 1.0), rows("sed-online", 3.0, tail=4.0)))
    assert use(one) == "p2c\nfor p99: sed-online (100 ms)"
    near = rows("sed-online", 3.0)
    near["p99_latency_ms"] *= np.random.default_rng(1).lognormal(-0.05, 0.3, len(near))
    (not_shown,) = advised(frame_of(rows("p2c", 1.0), near))
    assert use(not_shown) == "p2c"


def test_where_the_learned_policy_has_the_best_tail_a_classical_one_is_named_too():
    parts = [rows("p2c", 1.0), rows("dqn", 2.0, tail=3.0)]
    (alone,) = advised(frame_of(*parts))
    assert use(alone) == "p2c\nfor p99: dqn (75.0 ms); without a model p2c (125 ms)"
    (one,) = advised(frame_of(*parts, rows("sed-online", 3.0, tail=4.0)))
    assert use(one) == "p2c\nfor p99: dqn (75.0 ms); without a model sed-online (100 ms)"
    near = rows("sed-online", 3.0, tail=4.8)
    near["p99_latency_ms"] *= np.random.default_rng(1).lognormal(-0.05, 0.3, len(near))
    (unclear,) = advised(frame_of(*parts, near))
    assert use(unclear).endswith("ms, not shown)")


def test_who_fails_more_requests_is_warned_of_and_has_no_better_tail():
    frame = frame_of(rows("p2c", 1.0, failed=0.002), rows("sed-online", 3.0))
    assert warnings(advised(frame)[0]) == ["fails 0.2 % of requests, sed-online 0.0 %"]
    (one,) = advised(frame_of(rows("p2c", 1.0), rows("sed-online", 3.0, tail=1.0, failed=0.01)))
    assert one.tail is None, "its slow requests may be those that it fails"


def test_a_tail_that_was_not_measured_everywhere_decides_nothing():
    short = rows("sed-online", 3.0, tail=1.0)
    short.loc[0, "p99_latency_ms"] = math.nan
    (one,) = advised(frame_of(rows("p2c", 1.0), short))
    assert one.tail is None
    (none,) = advised(frame_of(rows("p2c", 1.0), rows("sed-online", 3.0)).drop(columns="p99_latency_ms"))
    assert none.tail is None


def test_the_table_names_situation_answer_verdict_and_needs():
    grid = advice_grid(advised(SMALL), NAMING)
    line = dict(zip(grid.head, grid.body[0], strict=True))
    assert line["situation"] == "first (s)\n4 servers x 2 slots"
    assert grid.head[1:3] == ("use", "needs")
    assert (line["use"], line["needs"]) == ("dqn", "class labels, service times, declared slots, a trained model")
    assert line["best class-blind"] == "p2c\n100 ms\np99 125 ms"
    assert line["best classical"] == line["runner-up"] == "sed-online\n50.0 ms\np99 125 ms", "figures are repeated"
    assert line["dqn / best classical"] == "37.5 ms\np99 125 ms\nbetter 0.750 [0.750, 0.750]"
    assert grid.sections == ("speeds: servers of unequal speed",)


def test_the_answer_alone_is_bold():
    grid = advice_grid(advised(frame_of(rows("p2c", 1.0), rows("sed-online", 3.0, tail=4.0))), NAMING)
    assert "| **p2c**<br>for p99: sed-online (100 ms) |" in as_markdown(grid)
    assert as_markdown(grid).count("**") == 4, "the title's and the answer's"
    assert "<td><strong>p2c</strong><br>for p99: sed-online" in as_html(grid)
    assert as_html(grid).count("<strong>") == 1


def test_without_the_learned_policy_the_table_has_no_column_for_it():
    naming = Naming(summaries={"s": "A line."})
    grid = advice_grid(advised(frame_of(rows("p2c", 1.0), rows("random", 2.0)), naming), naming)
    assert not [head for head in grid.head if "dqn" in head]
    assert grid.body[0][0] == "s: A line.", "a scenario of no suite goes by its own summary"
    assert grid.body[0][1:3] == ("p2c", "nothing")


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
    assert (
        fixed_choices(found, summed=True)
        .notes[1]
        .startswith(
            "Best by geometric mean, worst case and count within 5 %: p2c (1.63), sed-online (2.00) and p2c (1 of 2) in turn; of those"
        )
    )
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
    assert "nobody checks a server's health, ejects it or tries a request again" in said
    assert "In the twin a request fails at a server whose queue is full" in said
    assert "Live," not in said
    live = method(rows("p2c", 1.0, backend="http"))
    assert "live, over HTTP" in live
    assert "real proxies keep their own checks" in live
    assert "In the twin" not in live
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
    assert "A line. [4 servers x 2 slots]" in shown
    assert all(f"{word} " in shown for word in ("slot", "load", "service time", "load report", "probe", "drain", "the default fleet"))
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
    assert one.advice[0].use.policy == "haproxy-leastconn"
    assert "first (s) on http" in guide_html([one])


def test_without_oracles_nothing_is_said_of_gaps():
    frame = SMALL[SMALL["policy"] != "oracle-greedy"]
    text = guide_html([make_guide(frame, scoreboard(frame), Naming())])
    assert "oracle-greedy" not in text
    assert Page(text).open == []

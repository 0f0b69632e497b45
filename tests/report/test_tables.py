"""Tables against values computed by hand."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from trimtab.errors import ResultsError
from trimtab.experiments.statistics import Interval, bootstrap_interval
from trimtab.report.columns import ratio, said, signed_percent, with_bounds
from trimtab.report.comparison import evaluation_tables, twin_against_live
from trimtab.report.tables import NO_BREAK, Grid, as_html, as_markdown, as_text, evaluation_grid, fitted_grid, text_width, twin_grid

NAN = math.nan


def _rows(policy, means, backend="twin", scenario="s", **columns):
    frame = pd.DataFrame({"scenario": scenario, "backend": backend, "policy": policy, "episode": range(len(means)), "seed": 0})
    frame["mean_latency_ms"] = np.asarray(means, dtype=float)
    frame["total_reward"], frame["decision_us"] = -frame["mean_latency_ms"], 5.0
    return frame.assign(**columns)


@pytest.fixture
def small():
    """dqn has mean 10, slow 20 (in every episode double), sed-online 11."""
    return pd.concat(
        [
            _rows("slow", [16, 18, 20, 22, 24], error_rate=0.02),
            _rows("dqn", [8, 9, 10, 11, 12], error_rate=[0.0, 0.0, 0.0, 0.0, 0.05]),
            _rows("sed-online", [9, 10, 11, 12, 13], error_rate=NAN),
        ],
        ignore_index=True,
    )


def test_cells_are_means_with_bounds_in_the_shown_unit(small):
    (table,) = evaluation_tables(small)
    row = next(row for row in table.rows if row.policy == "dqn")
    expected = bootstrap_interval([8, 9, 10, 11, 12])
    assert row.cells["mean_latency_ms"] == expected
    assert row.cells["mean_latency_ms"].estimate == pytest.approx(10)
    assert row.cells["error_rate"].estimate == pytest.approx(1.0), "shares are shown in percent"
    assert row.episodes == 5


def test_rows_are_sorted_by_mean_latency_and_unmeasured_ones_last(small):
    frame = pd.concat([_rows("broken", [NAN] * 5), small], ignore_index=True)
    (table,) = evaluation_tables(frame)
    assert [row.policy for row in table.rows] == ["dqn", "sed-online", "slow", "broken"]


def test_difference_is_paired_against_dqn_by_default(small):
    (table,) = evaluation_tables(small)
    assert table.reference == "dqn"
    rows = {row.policy: row for row in table.rows}
    assert rows["dqn"].verdict == "reference"
    assert rows["slow"].difference == Interval(pytest.approx(100), pytest.approx(100), pytest.approx(100))
    assert rows["slow"].verdict == "worse"
    assert rows["sed-online"].difference.estimate == pytest.approx(10)


def test_pairing_follows_the_episode_not_the_order_of_rows(small):
    shuffled = small.sample(frac=1, random_state=2)
    (table,) = evaluation_tables(shuffled)
    slow = next(row for row in table.rows if row.policy == "slow")
    assert slow.difference == Interval(pytest.approx(100), pytest.approx(100), pytest.approx(100))


def test_reference_falls_back_to_sed_online_then_to_none(small):
    without_dqn = small[small["policy"] != "dqn"]
    assert evaluation_tables(without_dqn)[0].reference == "sed-online"
    (alone,) = evaluation_tables(small[small["policy"] == "slow"])
    assert alone.reference is None
    assert all("vs" not in head for head in evaluation_grid(alone).head)


def test_a_chosen_reference_is_used_and_an_unknown_one_refused(small):
    assert evaluation_tables(small, "slow")[0].reference == "slow"
    with pytest.raises(ResultsError, match=r"no rows of policy 'magic'.*dqn, sed-online, slow"):
        evaluation_tables(small, "magic")


def test_one_episode_gives_no_bounds_and_no_word(small):
    (table,) = evaluation_tables(small[small["episode"] == 0])
    grid = evaluation_grid(table)
    slow = dict(zip(grid.head, grid.body[-1], strict=True))
    assert slow["mean latency, ms"] == "16.0 [n/a]"
    assert slow["mean latency vs dqn"] == "+100 % [n/a]"


def test_text_markdown_and_html_hold_the_same_cells(small):
    (table,) = evaluation_tables(small)
    grid = evaluation_grid(table)
    assert grid.head == ("policy", "mean latency, ms", "mean latency vs dqn", "error rate, %")
    assert grid.body[1][3] == "n/a", "a blank column is not measured, not zero"
    for text in (as_text(grid), as_markdown(grid), as_html(grid).replace(NO_BREAK, " ")):
        for cell in (cell for row in grid.body for cell in row):
            assert cell in text
        assert "s on twin, 5 episodes per policy" in text


def test_text_columns_are_aligned(small):
    lines = as_text(evaluation_grid(evaluation_tables(small)[0])).splitlines()
    head, rule = lines[1], lines[2]
    assert len(head) == len(rule)
    assert all(len(line) <= len(rule) for line in lines[3:6])


def test_sections_lines_and_folds_of_a_table():
    grid = Grid("t", ("a", "b"), (("x", "1\n2"), ("y", "3"), ("z", "4")), sections=("one", "one", "<two>"), folded=True, worded=True)
    text = as_html(grid)
    assert text.startswith("<details><summary>t</summary>")
    assert re.findall(r"<span>(.*?)</span>", text) == ["one", "&lt;two&gt;"]
    assert "<td><strong>1</strong><br>2</td>" in text
    assert "| x | **1**<br>2 |" in as_markdown(grid)
    assert "<details" not in as_html(Grid("t", ("a",), (("x",),)))


@pytest.mark.parametrize(
    ("percent", "text"),
    [
        (Interval(-28, -222, 4), "0.720 [0.000, 1.040]"),
        (Interval(-8.1, -9, -7.2), "0.919 [0.910, 0.928]"),
        (Interval(276, 211, 356), "3.76 [3.11, 4.56]"),
        (Interval(10, NAN, NAN), "1.10 [n/a]"),
    ],
)
def test_a_ratio_s_interval_ends_at_nothing(percent, text):
    assert ratio(percent) == text


def test_a_latency_cannot_fall_by_more_than_all_of_it():
    assert signed_percent(Interval(-28, -222, 4), -100) == "-28 % [-100, +4]"
    assert signed_percent(Interval(-28, -222, 4)) == "-28 % [-222, +4]"


def test_what_was_not_shown_is_not_called_equal():
    assert [said(word) for word in ("better", "worse", "no difference", "reference", "")] == [
        "better",
        "worse",
        "not shown",
        "reference",
        "",
    ]


def test_markup_in_names_is_escaped():
    grid = Grid("<script>", ("a|b", "c"), (("<b>", "x|y"),))
    assert "<script>" not in as_html(grid)
    assert "&lt;b&gt;" in as_html(grid)
    assert "x\\|y" in as_markdown(grid)


@pytest.mark.parametrize("width", [80, 100, 130, 160])
def test_fitted_grid_gives_up_columns_and_says_so(evaluation, width):
    (table,) = evaluation_tables(evaluation)
    grid = fitted_grid(table, width)
    assert "mean latency, ms" in grid.head
    assert "error rate, %" in grid.head
    assert grid.notes[-1].startswith("Left out at this width: ")
    assert text_width(grid) <= max(width, text_width(fitted_grid(table, 0)))


def test_fitted_grid_keeps_everything_where_there_is_room(evaluation):
    (table,) = evaluation_tables(evaluation)
    assert fitted_grid(table, 400) == evaluation_grid(table)


def test_a_problem_without_latency_is_scored_by_reward_and_shows_its_own_columns():
    frame = pd.concat([_rows("dqn", [10, 12, 14, 11]), _rows("first-fit", [20, 24, 28, 22])]).drop(columns="mean_latency_ms")
    frame["pods_started"] = 3.0
    (table,) = evaluation_tables(frame)
    assert [metric.column for metric in table.metrics] == ["total_reward", "pods_started"]
    assert [row.policy for row in table.rows] == ["dqn", "first-fit"]
    assert table.rows[1].difference.estimate == pytest.approx(100), "twice the cost"
    assert evaluation_grid(table).head == ("policy", "total reward", "cost (minus reward) vs dqn", "pods started")


def test_twin_error_is_over_the_shared_episodes():
    twin = _rows("dqn", [11, 22, 1000], p99_latency_ms=[50.0, 70.0, 9.0])
    live = _rows("dqn", [10, 20], "http", p99_latency_ms=[60.0, NAN])
    (comparison,) = twin_against_live(pd.concat([twin, live]))
    (row,) = comparison.rows
    assert row.episodes == 2
    assert row.errors["mean_latency_ms"].estimate == pytest.approx(10)
    assert (row.twin["mean_latency_ms"], row.live["mean_latency_ms"]) == pytest.approx((16.5, 15))
    assert row.errors["p99_latency_ms"].estimate == pytest.approx((50 / 60 - 1) * 100), "only episodes measured in both"


def test_twin_error_without_shared_episodes_compares_all_and_has_no_bounds():
    live = _rows("dqn", [10, 20, 30], "http").assign(seed=9)
    (comparison,) = twin_against_live(pd.concat([_rows("dqn", [22, 22]), live]))
    error = comparison.rows[0].errors["mean_latency_ms"]
    assert comparison.rows[0].episodes == 0
    assert error.estimate == pytest.approx(10)
    assert not error.bounded


def test_rank_correlation_of_policies_by_mean_latency():
    twin = pd.concat([_rows("a", [1, 1]), _rows("b", [2, 2]), _rows("c", [4, 4]), _rows("d", [3, 3])])
    live = pd.concat([_rows("a", [1, 1], "http"), _rows("b", [2, 2], "http"), _rows("c", [3, 3], "http"), _rows("d", [9, 9], "http")])
    (comparison,) = twin_against_live(pd.concat([twin, live]))
    assert comparison.rank_correlation == pytest.approx(0.8)
    assert "0.80" in twin_grid(comparison).notes[0]


def test_only_policies_and_scenarios_of_both_worlds_are_compared(evaluation, make_evaluation):
    assert twin_against_live(evaluation) == []
    live = make_evaluation(backend="http", episodes=3, policies={"dqn": 1.1, "new": 1.0})
    other = make_evaluation(scenario="elsewhere", backend="http", episodes=3)
    (comparison,) = twin_against_live(pd.concat([evaluation, live, other]))
    assert (comparison.scenario, [row.policy for row in comparison.rows]) == ("affinity-100", ["dqn"])


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(12.345, 11.8, 12.9), "12.3 [11.8, 12.9]"),
        (Interval(0.0, 0.0, 0.21), "0.000 [0.000, 0.210]"),
        (Interval(0.0, 0.0, 0.0), "0 [0, 0]"),
        (Interval(1234.5, 1200.2, 1300.4), "1234 [1200, 1300]"),
        (Interval(3.0, NAN, NAN), "3.00 [n/a]"),
        (Interval(NAN, NAN, NAN), "n/a"),
    ],
)
def test_intervals_are_written_with_three_digits(interval, text):
    assert with_bounds(interval) == text


def test_differences_carry_their_sign():
    assert signed_percent(Interval(-8.06, -9.04, -7.16)) == "-8.1 % [-9.0, -7.2]"
    assert signed_percent(Interval(150.2, 140.0, 160.0)) == "+150 % [+140, +160]"
    assert signed_percent(Interval(NAN, NAN, NAN)) == "n/a"

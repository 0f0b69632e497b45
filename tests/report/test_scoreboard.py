"""The scoreboard against values computed by hand."""

import csv
import io
import math

import numpy as np
import pandas as pd
import pytest

from trimtab.errors import ResultsError
from trimtab.experiments.statistics import Interval
from trimtab.report.scoreboard import BLIND, CLASSICAL, Naming, catalogue_kinds, gap_closed, scoreboard, with_costs
from trimtab.report.scoreboard_figure import scoreboard_drawing
from trimtab.report.scoreboard_tables import scoreboard_csv, scoreboard_grids, scoreboard_markdown, summary

LUCK = np.array([10.0, 20.0, 30.0, 40.0])  # of four episodes, shared by all policies: mean 25
# As multiples of the luck, so that paired intervals have no width.
FACTORS = {"p2c": 4.0, "round-robin": 8.0, "sed-online": 2.0, "dqn": 1.5, "oracle-moods": 2.0, "oracle-greedy": 1.0}
GOLDEN = """\
**Headroom map, 4 episodes a policy**

| scenario | best class-blind, ms | best classical, ms | sed-online, ms | dqn, ms | oracle-moods, ms | oracle-greedy, ms |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| s | p2c 100 | sed-online 50.0 | 50.0 | 37.5 | 50.0 | 25.0 |
"""
VERDICTS = "| s | sed-online | 0.750 [0.750, 0.750] better | 0.750 [0.750, 0.750] better |\n"


def rows(policy, means, scenario="s", **columns):
    frame = pd.DataFrame({"scenario": scenario, "backend": "twin", "policy": policy, "episode": range(len(means)), "seed": 0})
    frame["mean_latency_ms"], frame["p99_latency_ms"], frame["error_rate"] = np.asarray(means, dtype=float), math.nan, 0.0
    return frame.assign(**columns)


def small(scenario="s", **factors):
    chosen = {**FACTORS, **{name.replace("_", "-"): factor for name, factor in factors.items()}}
    return pd.concat([rows(name, factor * LUCK, scenario) for name, factor in chosen.items()], ignore_index=True)


def only_row(frame):
    (row,) = scoreboard(frame).rows
    return row


def test_roles_go_to_the_cheapest_of_their_kind():
    row = only_row(small())
    assert {role: one.policy for role, one in row.contenders.items()} == {
        BLIND: "p2c", CLASSICAL: "sed-online", "sed-online": "sed-online", "dqn": "dqn",
        "oracle-moods": "oracle-moods", "oracle-greedy": "oracle-greedy",
    }  # fmt: skip
    assert row.contenders["dqn"].cost_ms.estimate == pytest.approx(37.5)
    assert math.isnan(row.contenders["dqn"].p99_ms), "an episode was too short"


def test_a_failed_request_counts_as_two_seconds():
    frame = with_costs(rows("p2c", [10.0, 10.0, math.nan], error_rate=[0.0, 0.5, 1.0]), catalogue_kinds())
    assert frame["cost_ms"].tolist() == pytest.approx([10.0, 0.5 * 10 + 0.5 * 2000, 2000.0])


def test_a_policy_that_fails_requests_is_not_the_best():
    quick = rows("random", 0.1 * LUCK, error_rate=0.5)
    row = only_row(pd.concat([small(), quick], ignore_index=True))
    assert row.contenders[BLIND].policy == "p2c"
    failing = only_row(pd.concat([small(), rows("thompson", LUCK, error_rate=0.001)], ignore_index=True))
    assert failing.contenders[CLASSICAL].policy == "thompson", "one failure in a thousand costs two milliseconds"
    assert failing.contenders[CLASSICAL].error_rate == pytest.approx(0.001)


def test_the_share_of_the_gap():
    row = only_row(small())
    assert row.closed["oracle-greedy"] == Interval(pytest.approx(0.5), pytest.approx(0.5), pytest.approx(0.5))
    assert math.isnan(row.closed["oracle-moods"].estimate), "no gap, no share"
    assert only_row(small(dqn=2.5)).closed["oracle-greedy"].estimate == pytest.approx(-0.5), "negative where it loses"


def test_a_gap_that_chance_explains_has_no_share():
    noise = np.random.default_rng(1).normal(0, 30, (3, 20))
    table = pd.DataFrame({name: 100 + values for name, values in zip(("p2c", "dqn", "oracle-moods"), noise, strict=True)})
    assert math.isnan(gap_closed(table, "p2c", "oracle-moods").estimate)


def test_the_share_has_the_interval_of_its_ratio():
    rng = np.random.default_rng(2)
    luck = rng.uniform(50, 100, 20)
    table = pd.DataFrame({"p2c": 3 * luck, "dqn": 2 * luck + rng.normal(0, 5, 20), "oracle-moods": luck})
    share = gap_closed(table, "p2c", "oracle-moods")
    assert share.estimate == pytest.approx((table["p2c"] - table["dqn"]).sum() / (table["p2c"] - table["oracle-moods"]).sum())
    assert 0.4 < share.low < share.estimate < share.high < 0.6


def test_words_are_corrected_for_the_number_of_scenarios():
    """One scenario of a weak difference earns its word alone, and not among forty without one."""
    rng = np.random.default_rng(3)

    def weak(name, shift):
        luck = rng.uniform(50, 100, 20)
        return pd.concat([rows("sed-online", luck, name), rows("dqn", luck * (1 - shift) + rng.normal(0, 10, 20), name)])

    first = weak("first", 0.08)
    alone = scoreboard(first).rows[0].comparisons["sed-online"]
    among = scoreboard(pd.concat([first, *(weak(f"other-{n}", 0.0) for n in range(40))])).rows[0].comparisons["sed-online"]
    assert alone.difference == among.difference
    assert (alone.word, among.word) == ("better", "no difference")


def test_labels_and_groups_come_from_the_suite():
    board = scoreboard(small(), Naming({"s": ("sizes", "small ones")}))
    assert (board.rows[0].group, board.rows[0].label) == ("sizes", "small ones")
    assert scoreboard(small()).rows[0].label == "s"


def test_without_the_learned_policy_its_cells_are_blank():
    frame = small()
    row = only_row(frame[frame["policy"] != "dqn"])
    assert "dqn" not in row.contenders
    assert row.comparisons == {}
    assert math.isnan(row.closed["oracle-greedy"].estimate)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (rows("unheard-of", LUCK), "'unheard-of' is not in the catalogue"),
        (rows("dqn", LUCK), "no classical policy"),
        (rows("p2c", LUCK).drop(columns="error_rate"), "needs error_rate"),
    ],
)
def test_what_has_no_scoreboard_is_refused(frame, message):
    with pytest.raises(ResultsError, match=message):
        scoreboard(frame)


def test_families_are_many_fleets_relative_to_the_yardstick():
    ours = np.array([0.5, 0.8, 1.0, 4.0]) * LUCK
    frame = pd.concat([rows("sed-online", LUCK, "family:speeds"), rows("dqn", ours, "family:speeds")])
    (row,) = scoreboard(frame).fleets
    policy, middle = row.middle["dqn"]
    assert (row.title, row.tasks, row.episodes, policy) == ("family:speeds", 1, 4, "dqn")
    assert middle.estimate == pytest.approx(0.9), "mean of the middle two"
    assert row.improvement.estimate == pytest.approx((1 + 1 + 0.5 + 0) / 4)


def test_all_scenarios_together_come_first():
    board = scoreboard(pd.concat([small(), small("family:affinity:2", dqn=1.0)]))
    assert [(row.title, row.tasks) for row in board.fleets] == [("all scenarios", 2), ("family:affinity:2", 1)]
    assert board.fleets[0].middle["dqn"][1].estimate == pytest.approx((0.75 + 0.5) / 2)
    assert board.fleets[0].improvement.estimate == 1.0


def test_markdown_of_a_small_board():
    board = scoreboard(small())
    assert scoreboard_markdown(board).startswith(GOLDEN)
    assert VERDICTS in scoreboard_markdown(board)
    assert [grid.title for grid in scoreboard_grids(board)] == [
        "Headroom map, 4 episodes a policy",
        "dqn against the others, ratio of mean costs",
        "Share of the gap to the oracles that dqn closes",
        "p99 latency, ms",
    ]


def test_a_board_of_classical_policies_has_neither_verdicts_nor_gaps():
    frame = small()
    board = scoreboard(frame[frame["policy"].isin(["p2c", "sed-online"])])
    headroom, tails = scoreboard_grids(board)
    assert headroom.head == ("scenario", "best class-blind, ms", "best classical, ms", "sed-online, ms")
    assert tails.title == "p99 latency, ms"
    assert scoreboard_drawing(board).png.startswith(b"\x89PNG")


def test_errors_and_tails_are_shown():
    frame = pd.concat([small(), rows("thompson", LUCK, error_rate=0.001, p99_latency_ms=123.4)], ignore_index=True)
    headroom, *_, tails = scoreboard_grids(scoreboard(frame))
    assert headroom.body[0][2] == "thompson 27.0 (0.1 % failed)"
    assert tails.body[0][2:4] == ("thompson 123", "n/a")


def test_a_loss_of_more_than_the_gap_is_not_shown_to_the_digit():
    grids, line = scoreboard_grids(scoreboard(small(dqn=3.5))), scoreboard_csv(scoreboard(small(dqn=3.5))).splitlines()[1]
    assert grids[2].body[0][-1] == "below -100 %"
    assert "-1.5" in line.split(",")


def test_csv_has_a_line_a_scenario_and_blanks_where_nothing_was_measured():
    (line,) = csv.DictReader(io.StringIO(scoreboard_csv(scoreboard(small()))))
    assert (line["best_class_blind_policy"], line["best_class_blind_cost_ms"], line["best_class_blind_p99_ms"]) == ("p2c", "100", "")
    assert (line["dqn_vs_sed_online_percent"], line["dqn_vs_sed_online_verdict"]) == ("-25", "better")
    assert (line["gap_closed_oracle_moods"], line["gap_closed_oracle_greedy"]) == ("", "0.5")


def test_the_summary_counts_words():
    said = summary(scoreboard(pd.concat([small(), small("t", dqn=10.0)])))
    assert "Against sed-online, dqn is better on 1, worse on 1 and a difference is not shown on 0 of 2 scenarios" in said
    assert "it takes 0.75 (s, better) to 5.00 (t, worse) times as long." in said
    one = summary(scoreboard(small(thompson=1.0)))
    assert one.startswith("dqn is worse than thompson, the best classical policy here: it takes 1.500 ")
    assert "dqn is better than sed-online, the yardstick" in one
    frame = small()
    assert summary(scoreboard(frame[frame["policy"] != "dqn"])).startswith("dqn was not evaluated")


def test_the_figure_is_the_same_for_the_same_rows():
    board = scoreboard(pd.concat([small(), small("t", dqn=10.0)]), Naming({"s": ("a", "first $5"), "t": ("b", "second")}))
    drawing = scoreboard_drawing(board)
    assert drawing.png.startswith(b"\x89PNG")
    assert drawing.png == scoreboard_drawing(board).png

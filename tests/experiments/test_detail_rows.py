"""Rows about single requests against values counted by hand."""

import numpy as np
import pytest

from builders import scenario, server
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.core.scenario import Fault, RequestClass
from trimtab.experiments.detail_rows import (
    QUANTILES,
    Requests,
    bin_width_s,
    capacity_share,
    latency_rows,
    overlaps,
    pooled,
    share_rows,
    timeline_rows,
)

TWO_CLASSES = (RequestClass("a", 0.5, 1.0), RequestClass("b", 0.5, 2.0))
FLEET = scenario(server(2, {"a": 1.0, "b": 1.0}), server(1, {"a": 2.0, "b": 6.0}), classes=TWO_CLASSES)


def requests(world=FLEET, episodes=1, span_s=10.0, **columns):
    """Requests of which only some columns matter; the others are zeros, served and measured."""
    count = max(len(values) for values in columns.values())
    default = {"counted": True, "scheduled_s": 0.0, "request_class": 0, "server": 0, "status": SERVED, "latency_s": 0.0}
    arrays = [np.asarray(columns.get(name, [value] * count)) for name, value in default.items()]
    return Requests(world, episodes, span_s, *arrays)


def test_quantiles_are_of_measured_served_requests_and_blank_where_ten_do_not_lie_beyond():
    latency_s = np.concatenate([np.arange(1, 101) / 1000, [9.0, 9.0]])
    one = requests(latency_s=latency_s, status=[SERVED] * 100 + [FAILED, SERVED], counted=[True] * 101 + [False])
    rows = {row["quantile"]: row for row in latency_rows(one)}
    assert {(row["requests"], row["failed"]) for row in rows.values()} == {(101, 1)}
    assert rows[0.5]["latency_ms"] == pytest.approx(50.5)
    assert [q for q, row in rows.items() if row["latency_ms"] is not None] == [q for q in QUANTILES if 0.1 <= q <= 0.9]


def test_a_policy_that_serves_nothing_has_blanks_alone():
    rows = latency_rows(requests(status=[FAILED] * 40))
    assert {(row["requests"], row["failed"], row["latency_ms"]) for row in rows} == {(40, 40, None)}


def test_capacity_is_by_class():
    """Class a: 2 slots / 1 s against 1 / 0.5 s. Class b: 2 / 2 s against 1 / (1/3) s."""
    np.testing.assert_allclose(capacity_share(FLEET), [[0.5, 0.25], [0.5, 0.75]])


def test_decisions_are_counted_by_server_and_class_without_the_warm_up():
    one = requests(server=[0, 1, 1, 1, 0], request_class=[0, 0, 1, 1, 1], counted=[True, True, True, True, False])
    found = {(row["server"], row["class"]): (row["decisions"], row["capacity_share"]) for row in share_rows(one)}
    assert found == {
        ("server-1", "a"): (1, 0.5), ("server-1", "b"): (0, 0.25), ("server-2", "a"): (1, 0.5), ("server-2", "b"): (2, 0.75),
    }  # fmt: skip


def test_what_nobody_answered_has_a_row_of_its_own():
    rows = share_rows(requests(server=[0, -1], request_class=[0, 1]))
    assert [(row["class"], row["decisions"], row["capacity_share"]) for row in rows if row["server"] == "none"] == [
        ("a", 0, None), ("b", 1, None),
    ]  # fmt: skip


@pytest.mark.parametrize(("span_s", "width_s"), [(60.0, 1.0), (60.1, 2.0), (20.0, 0.5), (6.0, 0.1), (900.0, 20.0)])
def test_bins_are_round_and_at_most_sixty(span_s, width_s):
    assert bin_width_s(span_s) == pytest.approx(width_s)


def test_a_timeline_counts_by_bin_and_server():
    world = scenario(server(), server(), faults=[Fault("server-2", "slowdown", 1.0, 3.0, factor=20.0)])
    one = requests(
        world, episodes=2, span_s=50.0,
        scheduled_s=[0.2, 0.9, 1.0, 1.5, 50.4], server=[0, 1, 0, 0, 0], latency_s=[0.1, 0.3, 0.2, 9.0, 1.0],
        status=[SERVED, SERVED, SERVED, FAILED, SERVED],
    )  # fmt: skip
    rows = {(row["start_s"], row["server"]): row for row in timeline_rows(one)}
    assert len(rows) == 50 * 3, "the fifty-first second belongs to one of the episodes only"
    whole = rows[0.0, "*"]
    assert (whole["episodes"], whole["end_s"], whole["requests"], whole["failed"], whole["fault"]) == (2, 1.0, 2, 0, "")
    assert whole["mean_latency_ms"] == pytest.approx(200.0)
    assert np.isnan(whole["p95_latency_ms"]), "two requests have no p95"
    assert [rows[0.0, name]["requests"] for name in ("server-1", "server-2")] == [1, 1]
    assert (rows[1.0, "server-1"]["requests"], rows[1.0, "server-1"]["failed"]) == (2, 1)
    assert rows[1.0, "server-1"]["mean_latency_ms"] == pytest.approx(200.0)
    assert rows[1.0, "server-2"]["mean_latency_ms"] is None
    assert (rows[1.0, "*"]["fault"], rows[1.0, "server-1"]["fault"]) == ("server-2 slowdown x20", "")
    assert [start for start in range(5) if rows[float(start), "server-2"]["fault"] == "slowdown x20"] == [1, 2]


def test_a_client_that_left_is_neither_served_nor_failed():
    world = scenario(server(), faults=[Fault("server-1", "crash", 5.0)])
    row = timeline_rows(requests(world, scheduled_s=[0.0, 0.0], status=[UNMEASURED, SERVED], latency_s=[7.0, 0.1]))[0]
    assert (row["requests"], row["failed"], row["mean_latency_ms"]) == (2, 0, pytest.approx(100.0))


def test_a_scenario_without_faults_has_no_timeline():
    assert timeline_rows(requests(scheduled_s=[0.0])) == []


def test_before_it_joins_a_server_is_missing():
    join, leave = Fault("server-1", "join", 4.0), Fault("server-1", "leave", 4.0)
    assert [overlaps(join, at, at + 1.0) for at in (0.0, 3.0, 4.0)] == [True, True, False]
    assert [overlaps(leave, at, at + 1.0) for at in (0.0, 3.0, 4.0)] == [False, False, True]


def test_fleets_that_differ_are_counted_by_rank_within_the_class():
    """In FLEET server-2 has as much capacity as server-1 for a and more for b; in the other fleet server-1 has more for both."""
    other = scenario(server(3, {"a": 1.0, "b": 1.0}), server(1, {"a": 1.0, "b": 1.0}), classes=TWO_CLASSES)
    first = requests(FLEET, server=[0, 1, 0], request_class=[0, 1, 1])
    both = pooled([first, requests(other, server=[0, 1, -1], request_class=[0, 1, 0])])
    found = {(row["server"], row["class"]): (row["decisions"], row["capacity_share"]) for row in share_rows(both)}
    assert found == {
        ("rank-1", "a"): (2, 0.625), ("rank-1", "b"): (1, 0.75), ("rank-2", "a"): (0, 0.375), ("rank-2", "b"): (2, 0.25),
        ("none", "a"): (1, None), ("none", "b"): (0, None),
    }  # fmt: skip
    assert timeline_rows(both) == []


def test_fleets_of_different_sizes_have_latencies_alone():
    faulty = scenario(server(), faults=[Fault("server-1", "crash", 1.0)])
    both = pooled([requests(faulty, span_s=5.0, latency_s=[0.1]), requests(FLEET, span_s=4.0, latency_s=[0.2, 0.3])])
    assert (both.episodes, both.span_s, both.latency_s.tolist()) == (2, 4.0, [0.1, 0.2, 0.3])
    assert share_rows(both) == timeline_rows(both) == []
    assert latency_rows(both)[0]["requests"] == 3

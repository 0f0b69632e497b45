"""The figures: rates and their warning, rows, blanks, and the file."""

import json

import load_report
import pytest
from load_report import Offered
from locust_runs import settings
from product import UsageError
from tally import SERVED, Tally


def tally(sent=2000, seconds=10.0, failed=0, lag_s=0.0):
    made = Tally()
    for n in range(sent):
        due_s = n * seconds / sent
        made.count_sent(due_s + lag_s, due_s)
        made.count_answer(n % 3, "http_503" if n < failed else SERVED, 0.02, 0.02 + lag_s)
    made.span_s = seconds
    return made


def open_document(counted, offered=Offered(2000, 10.0), workers=1, reported=1, late=0):  # noqa: B008 - a frozen record
    return load_report.document(settings(), counted, offered, workers=workers, reported=reported, late=late)


def closed_document(counted):
    return load_report.document(settings(loop="closed"), counted, None, workers=1, reported=1)


def test_a_kept_schedule():
    figures = open_document(tally())
    assert figures["offered_rps"] == figures["achieved_rps"] == 200.0
    assert figures["achieved_ratio"] == 1.0
    assert figures["warnings"] == []
    assert "WARNING" not in load_report.text(figures)


@pytest.mark.parametrize(("sent", "warned"), [(1981, False), (1979, True)])
def test_the_warning_stands_below_99_percent(sent, warned):
    figures = open_document(tally(sent))
    assert bool(figures["warnings"]) == warned
    assert ("below 99%" in load_report.text(figures)) == warned


def test_sending_all_but_late_is_not_keeping_the_schedule():
    figures = open_document(tally(lag_s=1.0))
    assert figures["achieved_ratio"] == pytest.approx(10.0 / 10.995)
    assert figures["schedule_lag_seconds"]["p99"] == 1.0
    served = figures["rows"][0]
    assert (served["corrected_seconds"]["p50"], served["uncorrected_seconds"]["p50"]) == (1.02, 0.02)


def test_rows_by_class_and_failures_by_kind():
    figures = open_document(tally(failed=300))
    counts = {(row["class"], row["outcome"]): row["requests"] for row in figures["rows"]}
    assert counts == {
        ("all", SERVED): 1700,
        ("light", SERVED): 567,
        ("medium", SERVED): 567,
        ("heavy", SERVED): 566,
        ("all", "http_503"): 300,
    }
    failures = figures["rows"][-1]
    assert failures["corrected_seconds"]["p50"] == 0.02  # a failure has its latency, never a zero


def test_blanks_where_nothing_can_be_said():
    figures = open_document(tally(sent=30), Offered(30, 10.0))
    light, text = figures["rows"][1], load_report.text(figures)
    assert light["corrected_seconds"] == {"p50": None, "p90": None, "p95": None, "p99": None, "p99.9": None, "max": 0.02}
    assert "nan" not in text.lower()
    assert "None" not in text


def test_a_closed_loop_says_that_it_is_not_corrected():
    figures = closed_document(tally())
    assert figures["offered_rps"] is figures["achieved_ratio"] is figures["schedule_lag_seconds"] is None
    assert figures["achieved_rps"] == 200.0
    text = load_report.text(figures)
    assert "not corrected" in text
    assert "from scheduled send" not in text


def test_silent_workers_and_empty_runs_are_said():
    assert "1 of 3 workers did not report" in open_document(tally(), workers=3, reported=2)["warnings"][0]
    assert "2 workers came during the run" in open_document(tally(), late=2)["warnings"][0]
    assert any("nothing was sent" in one for one in open_document(Tally(), Offered(0, 0.0))["warnings"])


def test_lines_of_the_table_align():
    lines = load_report.text(open_document(tally(sent=20000, failed=11000), Offered(20000, 10.0))).splitlines()[3:]
    assert len({len(line) for line in lines}) == 1


def test_the_file_is_whole_and_is_not_replaced_silently(tmp_path):
    path, figures = tmp_path / "report.json", open_document(tally())
    load_report.write(path, figures, overwrite=False)
    assert json.loads(path.read_text()) == figures
    with pytest.raises(UsageError, match="--report-overwrite"):
        load_report.write(path, {}, overwrite=False)
    load_report.write(path, {"new": 1}, overwrite=True)
    assert json.loads(path.read_text()) == {"new": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]
    with pytest.raises(UsageError, match="existing folder"):
        load_report.write(tmp_path / "no" / "report.json", figures, overwrite=False)

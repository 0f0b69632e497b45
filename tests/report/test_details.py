"""What the report shows of single requests: each section where its data are, from a tiny evaluation as users run it."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from report.test_figures import assert_good
from report.test_html import Page
from trimtab.cli.evaluate import main as evaluate
from trimtab.cli.visualize import main as visualize
from trimtab.experiments.details import COLUMNS, beside
from trimtab.report.csv_files import read_results, results_in
from trimtab.report.details import details_of
from trimtab.report.share_figures import _in_bands, departures, share_drawing
from trimtab.report.subjects import Subject, featured, line_styles, subjects
from trimtab.report.timeline_figures import OTHERS, fault_spans, timeline_drawing

CALM = """
[scenario]
id = "calm"
requests = 300
[traffic]
rate_rps = 300
[[classes]]
name = "a"
share = 0.5
work_ms = 2
[[classes]]
name = "b"
share = 0.5
work_ms = 3
[[servers]]
id = "server-1"
slots = 2
speed = { a = 1.0, b = 1.0 }
[[servers]]
id = "server-2"
slots = 2
speed = { a = 1.0, b = 0.5 }
"""
CRASH = '[[faults]]\nserver = "server-2"\nkind = "crash"\nstart_s = 0.2\nend_s = 0.5\n'
POLICIES = "round-robin,sed-online,p2c,oracle-greedy"
HEADINGS = re.compile("<h2>(.*?)</h2>")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with the files of two scenarios, one of them with a crash."""
    folder = tmp_path_factory.mktemp("tiny")
    for name, text in (("calm", CALM), ("crash", CALM.replace('"calm"', '"crash"') + CRASH)):
        (folder / f"{name}.toml").write_text(text)
        words = ["--scenario", str(folder / f"{name}.toml"), "--csv", str(folder / f"evaluation_{name}.csv"), "--episodes", "3"]
        assert evaluate([*words, "--policies", POLICIES, "--metrics-port", "0"]) == 0
    return folder


def drawn(tiny, out, *words):
    assert visualize([*words, "--out", str(out)]) == 0
    return (out / "report.html").read_text()


def test_each_section_is_there_where_its_data_are(tiny, tmp_path):
    crash, calm = (str(tiny / f"evaluation_{name}.csv") for name in ("crash", "calm"))
    both = ["Which policy when", "What was run", "Evaluation", "Latency of single requests", "Who gets the requests"]
    assert HEADINGS.findall(drawn(tiny, tmp_path / "calm", "--csv", calm)) == [*both, "Glossary"]
    text = drawn(tiny, tmp_path / "all", "--csv", crash, calm, "--scoreboard", crash)
    assert HEADINGS.findall(text) == [*both, "Faults over time", "Headroom map", "Glossary"]
    alone = drawn(tiny, tmp_path / "board", "--scoreboard", crash)
    assert HEADINGS.findall(alone) == ["Which policy when", "What was run", "Headroom map", "Glossary"]
    for page in (text, alone):
        for target in re.findall(r'href="#(.*?)"', page):
            assert f'id="{target}"' in page
    names = {path.name for path in (tmp_path / "all").iterdir()}
    assert {"timeline_crash_twin.png", "shares_calm_twin.png", "latency_distribution_crash_twin.png", "scoreboard.md"} <= names


def test_an_evaluation_alone_has_no_section_about_requests(tiny, tmp_path):
    (tmp_path / "evaluation.csv").write_bytes((tiny / "evaluation_crash.csv").read_bytes())
    found = HEADINGS.findall(drawn(tiny, tmp_path / "o", "--csv", str(tmp_path / "evaluation.csv")))
    assert found == ["Which policy when", "What was run", "Evaluation", "Glossary"]


def test_the_page_has_the_kind_of_every_policy_and_the_pooled_quantiles(tiny, tmp_path):
    shown = Page(drawn(tiny, tmp_path, "--csv", str(tiny / "evaluation_crash.csv"))).text
    assert "an oracle knows what only a simulator can know" in shown
    assert "crash on twin: latency of single requests, 3 episodes per policy" in shown
    latency = pd.read_csv(tiny / "evaluation_crash_latency.csv")
    median = latency[(latency["policy"] == "p2c") & (latency["quantile"] == 0.5)]["latency_ms"].item()
    assert f"{median:.2f}" in shown


def test_a_crash_is_shaded_and_its_failures_are_in_the_legend(tiny):
    results = read_results([tiny / "evaluation_crash.csv"])
    details = details_of(results)
    for drawing in (*details.latency, *details.shares, *details.timelines):
        assert_good(drawing)
        assert "crash on twin" in drawing.title
        assert "3 episodes" in drawing.title
    frame = pd.read_csv(tiny / "evaluation_crash_timeline.csv")
    (span,) = fault_spans(frame[(frame["server"] == "*") & (frame["policy"] == "p2c")])
    assert span == (pytest.approx(0.2), pytest.approx(0.5), "server-2 crash")
    assert frame.loc[frame["server"] == "*", "failed"].sum() > 0


def test_the_files_beside_an_evaluation_are_no_evaluations(tiny):
    assert [path.name for path in results_in(tiny)] == ["evaluation_calm.csv", "evaluation_crash.csv"]
    every = sorted(tiny.glob("*.csv"))
    assert set(read_results(every).rows) == set(every), "a shell's * names them all, and each is read once"


def test_two_runs_of_one_scenario_are_not_mixed(tiny, tmp_path):
    paths = []
    for number in range(2):
        path = tmp_path / f"evaluation_{number}.csv"
        pd.read_csv(tiny / "evaluation_calm.csv").assign(seed=number).to_csv(path, index=False)
        beside(path, "latency").write_bytes((tiny / "evaluation_calm_latency.csv").read_bytes())
        paths.append(path)
    names = [drawing.name for drawing in details_of(read_results(paths)).latency]
    assert names == ["latency_distribution_calm_twin", "latency_distribution_calm_twin-2"]


def test_names_kept_for_the_files_beside_are_refused(tiny, tmp_path, capsys):
    words = ["--scenario", str(tiny / "calm.toml"), "--policies", "p2c", "--csv", str(tmp_path / "evaluation_shares.csv")]
    assert evaluate(words) == 2
    assert "choose another name" in capsys.readouterr().err


def test_a_file_beside_is_not_replaced_unasked(tiny, tmp_path, capsys):
    (tmp_path / "e_timeline.csv").write_text("mine\n")
    words = ["--scenario", str(tiny / "calm.toml"), "--policies", "p2c", "--csv", str(tmp_path / "e.csv")]
    assert evaluate(words) == 1
    assert "e_timeline.csv exists; replace it with --overwrite" in capsys.readouterr().err


def test_a_reference_belongs_to_tables_of_files(capsys):
    assert visualize(["--scoreboard", "none.csv", "--reference", "p2c"]) == 2
    assert "leave --reference out" in capsys.readouterr().err


def test_room_goes_to_the_learned_policy_the_best_of_each_kind_and_what_everybody_knows():
    ranked = ["oracle-greedy", "thompson", "sed-online", "dqn", "c3", "p2c", "lsq", "round-robin", "random"]
    assert featured(ranked, 4) == ["thompson", "dqn", "c3", "round-robin"]
    assert featured(ranked, 6) == ["oracle-greedy", "thompson", "sed-online", "dqn", "c3", "round-robin"]
    assert featured(["b", "a"], 6) == ["b", "a"]
    assert featured(["x", "y", "z"], 2) == ["x", "y"]


def test_lines_differ_without_colour():
    styles = line_styles(["dqn", *"abcdef"])
    assert len({(str(style["linestyle"]), style["marker"]) for style in styles.values()}) == len(styles)


def test_policies_that_fail_requests_rank_by_what_that_costs(make_evaluation):
    frame = make_evaluation(policies={"dqn": 1.0, "p2c": 2.0})
    frame.loc[frame["policy"] == "dqn", "error_rate"] = 0.5
    (subject,) = subjects(frame).values()
    assert subject.policies == ("p2c", "dqn")
    assert subject.episodes == "20 episodes"


def test_what_is_too_short_to_measure_is_left_out_or_drawn_empty(tiny, tmp_path):
    for kind, column in (("latency", "latency_ms"), ("timeline", "mean_latency_ms")):
        frame = pd.read_csv(tiny / f"evaluation_crash_{kind}.csv")
        frame.assign(**{column: math.nan}).to_csv(tmp_path / f"evaluation_{kind}.csv", index=False)
    (tmp_path / "evaluation.csv").write_bytes((tiny / "evaluation_crash.csv").read_bytes())
    details = details_of(read_results([tmp_path / "evaluation.csv"]))
    assert (len(details.latency), len(details.latency_tables), len(details.shares)) == (0, 0, 0)
    assert_good(details.timelines[0])


def shares(servers, policy="dqn"):
    rows = [("s", "twin", policy, f"server-{n}", "a", 90 if n == 1 else 10 / (servers - 1), 1 / servers) for n in range(1, servers + 1)]
    return pd.DataFrame(rows, columns=COLUMNS["shares"])


def test_departures_from_capacity_are_said_in_words():
    assert departures(shares(2)).startswith(" Where dqn departs most from capacity: a to server-1 90 % (capacity 50 %)")
    assert departures(shares(2, "p2c")) == ""


@pytest.mark.parametrize(("servers", "is_drawn"), [(2, True), (16, True), (17, False)])
def test_a_fleet_too_large_to_read_has_no_heat_map(servers, is_drawn):
    drawing = share_drawing(shares(servers), Subject("s", "twin", ("dqn",), "1 episode"))
    assert (drawing is not None) == is_drawn


def test_a_large_fleet_s_timeline_shows_the_faulty_server_and_the_others_as_one(monkeypatch):
    rows = [
        ("s", "twin", "p2c", 1, at, at + 1.0, name, 1, 0, 5.0, math.nan, "crash" if name == "server-9" else "")
        for at in (0.0, 1.0)
        for name in ("*", *(f"server-{n}" for n in range(1, 20)))
    ]
    seen = []
    monkeypatch.setattr("trimtab.report.timeline_figures._legend", lambda _figure, _axes, servers, _faulty: seen.append(servers))
    assert_good(timeline_drawing(pd.DataFrame(rows, columns=COLUMNS["timeline"]), Subject("s", "twin", ("p2c",), "1 episode")))
    assert seen == [["server-9", OTHERS]]


def test_a_large_fleet_of_ranks_is_shown_in_ten_bands():
    frame = shares(100)
    frame["server"] = frame["server"].str.replace("server-", "rank-")
    bands = _in_bands(frame)
    assert bands["server"].tolist()[:2] == ["rank-1 to 10", "rank-11 to 20"]
    assert bands["decisions"].to_numpy() == pytest.approx([90 + 9 * 10 / 99, *[10 * 10 / 99] * 9])
    assert bands["capacity_share"].to_numpy() == pytest.approx(np.full(10, 0.1))
    assert_good(share_drawing(frame, Subject("s", "twin", ("dqn",), "1 episode")))


def test_shares_of_a_family_are_by_rank_and_the_caption_says_so(tmp_path):
    path = tmp_path / "evaluation.csv"
    words = ["--scenario", "family:affinity:2", "--csv", str(path), "--episodes", "2", "--metrics-port", "0"]
    assert evaluate([*words, "--policies", "round-robin,sed-online"]) == 0
    (drawing,) = details_of(read_results([path])).shares
    assert_good(drawing)
    assert "Every episode has a fleet of its own: rank-1" in drawing.caption
    assert "blind to classes" not in drawing.caption

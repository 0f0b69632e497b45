"""The page: well formed, complete, self-contained, everything escaped."""

import base64
import re
from html.parser import HTMLParser

import pytest

from trimtab.errors import ResultsError
from trimtab.report.csv_files import read_results, results_in
from trimtab.report.html import page
from trimtab.report.tables import evaluation_grid, twin_grid
from trimtab.report.writing import find_config, replace_file, report_contents, write_report

VOID = {"meta", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and fails on tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"unclosed {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def contents(metrics_folder):
    files = results_in(metrics_folder)
    return report_contents(read_results(files), "python agent/visualize.py", config=find_config(files))


@pytest.fixture(scope="module")
def text(contents):
    return page(contents)


def test_page_holds_every_figure_and_every_number(contents, text):
    parsed = Page(text)
    drawings = [*contents.learning, *contents.evaluation, *contents.twin]
    assert len(drawings) == 10
    for drawing in drawings:
        assert base64.b64encode(drawing.png).decode() in text
        assert drawing.caption in parsed.text
    for grid in [*map(evaluation_grid, contents.tables), *map(twin_grid, contents.comparisons)]:
        for cell in (cell for row in grid.body for cell in row):
            assert cell in parsed.text


def test_page_is_self_contained_and_needs_no_script(text):
    parsed = Page(text)
    assert not {"script", "link", "iframe", "object"} & set(parsed.tags)
    for name, value in parsed.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:image/png;base64,", "#"))
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"url\(|@import", text)
    assert ("name", "viewport") in parsed.attributes
    assert "prefers-color-scheme: dark" in text


def test_sections_follow_the_data_and_links_lead_to_them(text):
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["What was run", "Learning", "Evaluation", "Twin against live"]
    for target in re.findall(r'href="#(.*?)"', text):
        assert f'id="{target}"' in text


def test_configuration_is_flattened_and_escaped(text):
    assert "learner.gamma" in text
    assert "&lt;b&gt;1 &amp; 2&lt;/b&gt;" in text
    assert "<b>1" not in text


def test_names_from_the_files_are_escaped(tmp_path, make_evaluation):
    make_evaluation("<img src=x onerror=alert(1)>", policies={"dqn": 1.0, "<i>p": 2.0}).to_csv(tmp_path / "evaluation.csv", index=False)
    results = read_results([tmp_path / "evaluation.csv"])
    text = page(report_contents(results, "visualize.py --csv '</pre><script>'"))
    assert "script" not in Page(text).tags
    assert "<i>" not in text
    assert "onerror" not in [name for name, _ in Page(text).attributes]


def test_sections_without_data_are_left_out(tmp_path, evaluation):
    evaluation.to_csv(tmp_path / "evaluation.csv", index=False)
    text = page(report_contents(read_results([tmp_path / "evaluation.csv"]), "x"))
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["What was run", "Evaluation"]


def test_footer_names_the_commands(text):
    shown = Page(text).text
    for command in ("python agent/train_dqn.py", "python agent/evaluate_dqn.py", "python agent/visualize.py"):
        assert command in shown


def test_schedule_lag_of_live_rows_is_said(contents, text):
    lag = contents.results.evaluation.groupby("backend")["schedule_lag_ms"].max()["http"]
    assert f"largest {lag:.2f} ms" in text


def test_report_replaces_an_earlier_one_and_leaves_no_scraps(metrics_folder, tmp_path):
    out = tmp_path / "plots"
    first = write_report([metrics_folder / "evaluation.csv"], out, "x")
    assert first[-1] == out / "report.html"
    second = write_report([metrics_folder / "evaluation.csv"], out, "y")
    assert first == second
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in second)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(OSError, match=r"folder|directory"):
        replace_file(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_unwritable_folder_is_one_line(metrics_folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultsError, match=r"cannot write to .*file.*--out"):
        write_report([metrics_folder / "evaluation.csv"], tmp_path / "file", "x")


def test_broken_configuration_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ResultsError, match=r"config\.json is no readable JSON"):
        find_config([tmp_path / "metrics" / "evaluation.csv"])

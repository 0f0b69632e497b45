"""The report in headless Chromium: nothing on the console, nothing loaded, every figure decoded, no page wider than a phone."""

import asyncio

import pandas as pd
import pytest

from gateway.browser import browser_path, page_of
from trimtab.policies import catalogue
from trimtab.report.writing import read_scoreboard, write_report

pytestmark = pytest.mark.skipif(browser_path() is None, reason="chromium is not installed")
BROKEN = "[...document.images].filter((one) => !(one.complete && one.naturalWidth > 500)).length"
# Wide tables and figures scroll within their own frame; the page itself must not.
OVERHANG = "document.documentElement.scrollWidth - window.innerWidth"
# What a reader with a mouse would have to scroll sideways for.
CUT = "[...document.querySelectorAll('.wide')].filter((one) => one.scrollWidth > one.clientWidth).length"


@pytest.fixture(scope="module")
def report(metrics_folder, tmp_path_factory, make_evaluation):
    out = tmp_path_factory.mktemp("plots")
    path = out / "suite.csv"
    policies = {"dqn": 1.0, "sed-online": 1.1, "oracle-moods": 0.9} | dict.fromkeys(catalogue.of_kind("class-blind"), 2.0)
    pd.concat([make_evaluation(name, policies=policies) for name in ("affinity-100", "family:grey")]).to_csv(path, index=False)
    files = [metrics_folder / name for name in ("training_metrics.csv", "evaluation.csv", "evaluation_live.csv")]
    return write_report(files, out, "x", board=read_scoreboard(path))[-1]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_reads_well_and_says_nothing_on_the_console(report, tmp_path, width, scheme):
    async def main():
        async with page_of(tmp_path) as page:
            await page.open(report.as_uri(), width=width, scheme=scheme)
            await page.until("document.readyState === 'complete' && document.images.length > 0")
            assert await page.value(BROKEN) == 0
            assert await page.value(OVERHANG) <= 0
            assert width < 1000 or await page.value(CUT) == 0
            assert await page.value("[...document.querySelectorAll('nav a')].every((one) => document.querySelector(one.hash))")
            assert "Which policy when" in await page.text("nav")
            assert "Headroom map" in await page.text("nav")
            assert await page.value("document.querySelectorAll('.matrix .best').length") == 2
            assert page.complaints == []
            assert [url for url in page.loaded if not url.startswith("data:")] == [report.as_uri()]

    asyncio.run(main())

"""The live page in headless Chromium: it draws, follows the state, names a server that is out, says when nobody answers."""

import asyncio
import contextlib

import pytest

from gateway.browser import browser_path, page_of
from gateway.control_parts import FakeState, control, document, learns, on_trial, served, server

pytestmark = pytest.mark.skipif(browser_path() is None, reason="chromium is not installed")
DRAWN = "document.querySelectorAll('#servers .card').length > 0"


def browse(folder, steps, state=None, **options):
    """Run `steps(page, state, stop)` on the page of a control app; `stop` ends that app."""
    state = state or FakeState()

    async def main():
        with contextlib.ExitStack() as serving:
            url = serving.enter_context(served(control(state)))
            async with page_of(folder) as page:
                await page.open(f"{url}/ui", **options)
                await page.until(DRAWN)
                await steps(page, state, serving.close)

    asyncio.run(main())


def test_it_shows_the_state_and_loads_from_the_gateway_alone(tmp_path):
    async def steps(page, state, stop):
        assert (await page.text("#policy"), await page.text("#condition")) == ("dqn", "\u2713 routing")
        flow = await page.text("#flow svg")
        for name in ("light", "medium", "heavy", "server-1", "server-4", "44 % of traffic"):
            assert name in flow
        cards = await page.text("#servers")
        assert all(one["url"] in cards for one in state.document["servers"])
        assert "sed-online" in await page.text("#decider")
        assert "back: ejection over" in await page.text("#events")
        assert await page.value("document.querySelectorAll('.chart canvas').length") == 3
        assert page.complaints == []
        host = (await page.value("location.origin")) + "/"
        assert [url for url in page.loaded if not url.startswith(host)] == []

    browse(tmp_path, steps)


def test_marks_move_and_figures_follow(tmp_path):
    drawn = "document.querySelector('#flow canvas').getContext('2d').getImageData(0, 0, 1200, 400).data.some((v) => v > 0)"

    async def steps(page, state, stop):
        await page.until(drawn)
        state.document = document(latency_ms={"p50": 77.0, "p95": None, "p99": None})
        await page.until("document.querySelector('#figures').innerText.includes('77')")
        state.document["decider"]["reasons"]["far"] += 5
        await page.until("document.querySelector('#events').innerText.includes('far outside')")
        assert "5 times" in await page.text("#events")
        assert page.complaints == []

    browse(tmp_path, steps)


def test_a_server_that_is_down_is_named_at_the_next_answer(tmp_path):
    async def steps(page, state, stop):
        servers = [dict(one) for one in state.document["servers"]]
        servers[1]["status"] = "down"
        event = {"age_s": 0.1, "server": "server-2", "what": "down: 3 checks failed"}
        asked, state.document = state.asked, document(servers, events=[event])
        await page.until("document.querySelector('#condition').innerText.includes('server-2')")
        assert state.asked - asked <= 2, "the answer after the change shows it; one may have been under way"
        assert "down" in await page.text("[data-server='server-2'] .badge")
        assert "\u2715 down" in await page.text("#flow svg")
        assert "3 checks failed" in await page.text("#events")
        assert page.complaints == []

    browse(tmp_path, steps)


def test_a_gateway_that_does_not_answer_is_said_plainly_and_so_is_its_return(tmp_path):
    async def steps(page, state, stop):
        state.error = OSError("broken")
        await page.until("!document.querySelector('#alarm').hidden")
        assert "does not answer" in await page.text("#alarm")
        assert "it answered 500" in await page.text("#alarm")
        state.error = None
        await page.until("document.querySelector('#alarm').hidden")
        assert "answers again" in await page.text("#events")
        stop()
        await page.until("!document.querySelector('#alarm').hidden")
        assert await page.text("#condition") == "\u2715 no answer"

    browse(tmp_path, steps)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_screen(tmp_path, width, scheme):
    async def steps(page, state, stop):
        await page.until("document.querySelectorAll('.u-legend').length === 3")
        assert await page.value("document.documentElement.scrollWidth") <= width
        assert page.complaints == []

    long_names = [
        server(number, (9.0, 1.0, 1.0), id=f"a-server-with-a-long-name-{number}", status="ramping", ramp=0.4) for number in (1, 2)
    ]
    browse(tmp_path, steps, FakeState(document(long_names)), width=width, scheme=scheme)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_models_on_trial_are_compared(tmp_path, width, scheme):
    async def steps(page, state, stop):
        assert await page.value("document.querySelectorAll('#deciders tbody tr').length") == 3
        canary = await page.text("#deciders tbody tr:nth-child(3)")
        assert "canary" in canary
        assert "17" in canary
        assert "\u22121.20" in canary
        models = await page.text("#models")
        for said in ("dqn_final.pth", "1 min 32 s ago", "not yet", "newest file refused: candidate.pth: not a checkpoint"):
            assert said in models
        shadow = await page.text("#shadow")
        for said in ("agrees with 87 %", "2.3 ms", "\u22120.4 ms", "far 2"):
            assert said in shadow
        assert "decides 5.0 % of requests" in await page.text("#canary")
        assert await page.value("document.documentElement.scrollWidth") <= width
        state.document["canary"]["state"] = "stopped"
        await page.until("document.querySelector('#canary').innerText.includes('stopped')")
        assert page.complaints == []

    browse(tmp_path, steps, FakeState(document(**on_trial())), width=width, scheme=scheme)


def test_a_model_that_learns_is_shown_beside_its_control_group(tmp_path):
    async def steps(page, state, stop):
        said = await page.text("#learning")
        assert "decides 90 % of requests; 54 ms against 51 ms of its control group in 30 s; behind 1 times so far" in said
        assert "control" in await page.text("#deciders tbody tr:nth-child(3)")
        state.document["learning"] |= {"state": "resting", "share": 0.0, "groups": None, "behind": 2}
        await page.until("document.querySelector('#learning').innerText.includes('resting: it was slower than its control group')")
        assert page.complaints == []

    browse(tmp_path, steps, FakeState(document(**learns())))


def test_names_are_text_and_never_markup(tmp_path):
    async def steps(page, state, stop):
        assert "<img" in await page.text("#servers")
        assert await page.value("document.querySelectorAll('#main img').length") == 0

    browse(tmp_path, steps, FakeState(document([server(1, (1.0, 1.0, 1.0), id="<img src=x onerror=alert(1)>")])))


def test_a_hundred_idle_servers_and_no_requests(tmp_path):
    async def steps(page, state, stop):
        assert await page.value("document.querySelectorAll('.card').length") == 100
        assert "No requests" in await page.text("#flow-note")
        assert page.complaints == []

    idle = [server(number, (0.0, 0.0, 0.0), latency_ms=None) for number in range(1, 101)]
    decider = {"primary": "p2c", "fallback": None, "reasons": {}, "state": "deciding", "decisions": {"p2c": 0}}
    nothing = {"reward": None, "deciders": [], "models": []}
    browse(tmp_path, steps, FakeState(document(idle, latency_ms=None, decider=decider, events=[], **nothing)))

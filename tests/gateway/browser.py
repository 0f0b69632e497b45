"""A page in headless Chromium, driven over the DevTools protocol: what it shows, what it logs, what it loads."""

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import time
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 60.0
POLL_S = 0.1


def browser_path():
    """The installed browser, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Page:
    """One tab. `complaints` are console errors and uncaught exceptions, `loaded` the addresses asked for."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self.complaints = []
        self.loaded = []

    async def call(self, method, **parameters):
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=PATIENCE_S)
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message):
        method, said = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            self.loaded.append(said["request"]["url"])
        if method == "Runtime.exceptionThrown":
            self.complaints.append(said["exceptionDetails"])
        if method == "Runtime.consoleAPICalled" and said["type"] in {"error", "warning", "assert"}:
            self.complaints.append(said["args"])
        if method == "Log.entryAdded" and said["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(said["entry"])

    async def open(self, url, width=1400, height=900, scheme="light"):
        for domain in ("Runtime", "Log", "Page", "Network"):
            await self.call(f"{domain}.enable")
        await self.resize(width, height)
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        await self.call("Page.navigate", url=url)

    async def resize(self, width, height):
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    async def value(self, expression):
        """What a JavaScript expression yields in the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression):
        """Wait until the expression is true in the page."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not await self.value(expression):
            assert time.monotonic() < give_up_s, f"never came true: {expression}\n{await self.value('document.body.innerText')}"
            await asyncio.sleep(POLL_S)

    async def text(self, selector):
        return await self.value(f"document.querySelector({selector!r}).textContent")


@asynccontextmanager
async def page_of(profile):
    """A tab of a browser that lives while the block runs; `profile` is an empty folder."""
    process = subprocess.Popen(_command(profile), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = await _port(Path(profile) / "DevToolsActivePort", process)
        async with aiohttp.ClientSession() as session:
            async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
                address = (await answer.json())["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


async def _port(path, process):
    give_up_s = time.monotonic() + PATIENCE_S
    while not path.exists() or "\n" not in path.read_text():
        assert process.poll() is None, "the browser ended at once"
        assert time.monotonic() < give_up_s, "the browser did not open its port"
        await asyncio.sleep(POLL_S)
    return int(path.read_text().split()[0])


def _command(profile):
    # root may not use Chromium's sandbox; the page is our own and comes from loopback
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    own = [f"--user-data-dir={profile}", "--remote-debugging-port=0", "--disable-sync"]
    return [browser_path(), "--headless", *sandbox, *quiet, *own, "about:blank"]

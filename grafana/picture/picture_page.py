"""The page that draws a document: built once with vite, served on loopback, photographed by Chromium."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from picture_errors import PictureError

SOURCES = Path(__file__).resolve().parent
PACKAGE_FILES = ("package.json", "package-lock.json")
PAGE_FILES = ("index.html", "vite.config.js", "src")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_TIMEOUT_S = 600
BUILD_TIMEOUT_S = 300
BROWSER_TIMEOUT_S = 120
VIRTUAL_TIME_MS = 10_000
ICONS_PREFIX = "/build/img/"


def program(*names: str) -> str:
    """The path of the first of these programs that is installed; PictureError where none is."""
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise PictureError(f"{names[0]} is not installed: install it (Debian: apt-get install {names[0]})")


def built_page() -> Path:
    """The folder of the built page. The first call installs the npm packages and builds, some minutes; later calls reuse both."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trimtab-grafana-picture"
    cache.mkdir(parents=True, exist_ok=True)
    page = cache / f"page-{_digest(PACKAGE_FILES + PAGE_FILES)}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first calls at once would install into one another
        if not page.exists():
            program("node", "nodejs")
            workshop = cache / f"packages-{_digest(PACKAGE_FILES)}"
            _install(workshop)
            _build(workshop, page)
    return page


def _digest(names: tuple[str, ...]) -> str:
    roots = [SOURCES / name for name in names]
    files = sorted(file for root in roots for file in ([root] if root.is_file() else root.rglob("*.ts*")))
    joined = b"\0".join(str(file.relative_to(SOURCES)).encode() + b"\0" + file.read_bytes() for file in files)
    return hashlib.sha256(joined).hexdigest()[:16]


def _install(workshop: Path) -> None:
    done = workshop / "installed"
    if done.exists():
        return
    workshop.mkdir(exist_ok=True)
    for name in PACKAGE_FILES:
        shutil.copy(SOURCES / name, workshop / name)
    npm = program("npm")
    options = ["--omit=dev", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund"]
    _run([npm, "ci", *options], workshop, INSTALL_TIMEOUT_S, "npm ci")
    done.touch()


def _build(workshop: Path, page: Path) -> None:
    for name in PAGE_FILES:
        target = workshop / name
        if target.is_dir():
            shutil.rmtree(target)
        (shutil.copytree if (SOURCES / name).is_dir() else shutil.copy)(SOURCES / name, target)
    unfinished = workshop / "page"
    _run(
        [program("npm"), "exec", "--", "vite", "build", "--outDir", str(unfinished), "--emptyOutDir"],
        workshop,
        BUILD_TIMEOUT_S,
        "vite build",
    )
    unfinished.rename(page)


def _run(command: list[str], folder: Path, timeout_s: float, name: str) -> None:
    """Run in a process group of its own, so that a time-out ends its children too."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise PictureError(f"{name} took longer than {timeout_s:.0f} s and was stopped") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        lines = [line.strip() for line in output if "rror" in line] or ["no message"]
    if code != 0:
        raise PictureError(f"{name} failed with exit code {code}: {lines[0]}")


class _Handler(SimpleHTTPRequestHandler):
    """Files of the page, /data.json, and POST /report, by which the page says how drawing went."""

    def __init__(self, *args: Any, data: bytes, reports: list[dict[str, Any]], **kwargs: Any) -> None:
        self.data = data
        self.reports = reports
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        if self.path != "/data.json":
            # Grafana serves its icons under build/, the package holds them without
            self.path = self.path.replace(ICONS_PREFIX, "/img/")
            return super().do_GET()
        self._answer(self.data)
        return None

    def do_POST(self) -> None:
        self.reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of single requests."""


@contextmanager
def served(page: Path, document: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve the page and the document on a free loopback port; yields its URL and the list that reports arrive in."""
    reports: list[dict[str, Any]] = []
    handler = partial(_Handler, directory=str(page), data=json.dumps(document).encode(), reports=reports)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", reports
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def photograph(document: dict[str, Any], out: Path, width_px: int, height_px: int) -> None:
    """Draw the document as a PNG file; PictureError where the page or a panel of it fails."""
    browser = program(*BROWSERS)
    page = built_page()
    with served(page, document) as (url, reports), tempfile.TemporaryDirectory() as profile:
        shot = Path(profile) / "shot.png"
        _run(_browser_command(browser, url, shot, width_px, height_px), Path(profile), BROWSER_TIMEOUT_S, "chromium")
        if not reports or not shot.exists():
            raise PictureError("the page did not finish drawing: the machine may be too busy, try again")
        if reports[0]["problems"]:
            raise PictureError(f"the page reports: {reports[0]['problems'][0]}")
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = out.with_name(out.name + ".tmp")
        shutil.copy(shot, unfinished)
        unfinished.replace(out)


def _browser_command(browser: str, url: str, shot: Path, width_px: int, height_px: int) -> list[str]:
    # root may not use Chromium's sandbox; the page is our own and comes from loopback
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    return [
        browser,
        "--headless",
        *sandbox,
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
        f"--user-data-dir={shot.parent / 'profile'}",
        f"--window-size={width_px},{height_px}",
        f"--virtual-time-budget={VIRTUAL_TIME_MS}",
        f"--screenshot={shot}",
        url,
    ]

"""A real HAProxy before the same servers, with the same arrivals and seeds: for comparison, without a target.

Its own means are turned on, for a weak rival would flatter: checks as ours, retries to another server of what its documentation calls
safe for GET (configuration manual: retry-on, redispatch), and servers that answer 5xx ten times in a row taken out (observe layer7).
"""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from backends import exposed, greyed, judged_kill, killed
from client import failed, told
from results import Result
from stage import HOST, START_S, StageError, call, until

from trimtab.fleets.local import free_ports

CONFIGURATION = """\
global
    maxconn 8192
    nbthread 1
defaults
    mode http
    timeout connect 1s
    timeout client 75s
    timeout server 10s
    timeout queue 10s
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response response-timeout
listen campaign
    bind {host}:{port}
    balance leastconn
    option httpchk GET /health
    http-reuse safe
    http-request disable-l7-retry unless METH_GET
    default-server check inter 2s fall 3 rise 2 slowstart 10s observe layer7 error-limit 10 on-error mark-down
"""


@dataclass
class Proxy:
    """A running HAProxy."""

    port: int


@contextlib.asynccontextmanager
async def _haproxy(urls):
    (port,) = free_ports(1)
    servers = "".join(f"    server server-{number} {url.removeprefix('http://')}\n" for number, url in enumerate(urls, 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "haproxy.cfg"
        path.write_text(CONFIGURATION.format(host=HOST, port=port) + servers, encoding="utf-8")
        with subprocess.Popen(["haproxy", "-db", "-f", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                await until(lambda: _answers(process, port), START_S, "HAProxy was not ready")
                yield Proxy(port)
            finally:
                process.terminate()
                await asyncio.to_thread(process.wait, 20)


def _answers(process, port):
    if process.poll() is not None:
        raise StageError(f"HAProxy ended at once with exit code {process.returncode}")
    try:
        call(f"http://{HOST}:{port}/health")
    except OSError:
        return False
    return True


def _where_installed(name):
    """Makes a test that says so where there is no HAProxy."""

    def wrap(test):
        async def run(fleet, args):
            if shutil.which("haproxy") is None:
                return Result(name, 0, 0, "not installed", "", None)
            async with _haproxy(fleet.urls) as proxy:
                return await test(fleet, args, proxy, name)

        return run

    return wrap


@_where_installed("kill (HAProxy)")
async def kill(fleet, args, proxy, name):
    """As the gateway's test kill."""
    return judged_kill(*await killed(fleet, args, proxy), name)._replace(target="", kept=None)


@_where_installed("black hole (HAProxy)")
async def black_hole(fleet, args, proxy, name):
    """As the gateway's test black-hole."""
    answers, share = await exposed(name, fleet, args, proxy, kind="fail_fast", after_ms=0.5)
    return Result(
        name, len(answers), failed(answers), f"{share:.2%} of requests in 60 s{told(answers)}", "", None, {"share, %": 100 * share}
    )


@_where_installed("grey (HAProxy)")
async def grey(fleet, args, proxy, name):
    """As the gateway's test grey."""
    answers, p99_ms, over_s = await greyed(fleet, args, proxy)
    figure = f"p99 {p99_ms:.0f} ms; over 1 s: {over_s:.2%}{told(answers)}"
    return Result(name, len(answers), failed(answers), figure, "", None, {"p99, ms": p99_ms, "over 1 s, %": 100 * over_s})

"""HTTP to the servers: pooled keep-alive connections, one request out, one answer back. The only code that opens sockets."""

import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3

from trimtab.core.request_log import FAILED, SERVED
from trimtab.errors import FleetError, UsageError
from trimtab.fleets.load_header import HEADER

CONNECT_TIMEOUT_S: Final = 1.0  # loopback and a data centre answer in milliseconds; a second says nobody is there
READ_TIMEOUT_S: Final = 10.0  # longer than any sane queue: what takes longer has failed
CHECK_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as the client saw it. `finished_s` is on the monotonic clock."""

    status: int  # SERVED or FAILED
    finished_s: float
    service_s: float  # as the server reports it, 0 where it does not
    queue_s: float
    body: bytes = b""
    load: str = ""  # the server's load report as it came, in ORCA's text form


def server_timing_s(header: str) -> dict[str, float]:
    """Durations in seconds by name, from a `Server-Timing` header in milliseconds (W3C Server Timing)."""
    durations: dict[str, float] = {}
    for metric in header.split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key == "dur" and (milliseconds := _number(value)) is not None:
                durations[name] = milliseconds / 1e3
    return durations


def _number(text: str) -> float | None:
    """What a server may report as a duration; anything else is as if it had reported none."""
    try:
        value = float(text.strip('"'))
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0.0 else None


def check_url(url: str) -> str:
    """The URL without a trailing slash, or a `UsageError`."""
    if not _is_address(url):
        raise UsageError(f"server URL {url!r}: allowed are addresses such as http://localhost:8081; give --servers a comma-separated list")
    return url.rstrip("/")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        plain = not (parts.query or parts.fragment or parts.username or parts.password)  # a path is appended, and passwords would be shown
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and plain
    except ValueError:  # brackets that do not match, or a port that is no number up to 65535
        return False


class ServerClient:
    """Talks to S servers over one connection pool each; every method may be called from many threads at once."""

    def __init__(self, urls: Sequence[str], connections: int) -> None:
        self.urls = tuple(check_url(url) for url in urls)
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
        self._pools = [
            urllib3.connection_from_url(url, maxsize=connections, block=False, retries=False, timeout=timeout) for url in self.urls
        ]

    def send(self, server: int, path: str, headers: dict[str, str]) -> Answer:
        """One request to one server. Whatever goes wrong on the way is a failed answer, never an exception and never a zero."""
        try:
            response = self._pools[server].urlopen("GET", path, headers=headers)
        except urllib3.exceptions.HTTPError:
            return Answer(FAILED, time.monotonic(), 0.0, 0.0)
        finished = time.monotonic()
        load = response.headers.get(HEADER, "")
        if response.status != 200:
            return Answer(FAILED, finished, 0.0, 0.0, response.data, load)
        timing = server_timing_s(response.headers.get("Server-Timing", ""))
        return Answer(SERVED, finished, timing.get("work", 0.0), timing.get("queue", 0.0), response.data, load)

    def state(self, server: int) -> dict[str, Any]:
        """The server's own account of itself (`GET /state`), or a `FleetError`."""
        return self._ask(server, "GET", "/state")

    def set_fault(self, server: int, fault: dict[str, Any]) -> None:
        """Switch a fault on (`POST /faults`); the server must have been started with faults enabled."""
        self._ask(server, "POST", "/faults", fault)

    def clear_faults(self, server: int) -> None:
        """Switch all faults of a server off."""
        self._ask(server, "DELETE", "/faults")

    def states(self) -> list[dict[str, Any]]:
        """All servers' states, fetched side by side."""
        with ThreadPoolExecutor(len(self.urls)) as pool:
            return list(pool.map(self.state, range(len(self.urls))))

    def close(self) -> None:
        for pool in self._pools:
            pool.close()

    def _ask(self, server: int, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        url, data = self.urls[server], None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            response = self._pools[server].urlopen(method, path, body=data, headers=headers, timeout=CHECK_TIMEOUT_S)
            content = response.json() if response.data else {}
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            reason = f"{type(error).__name__}"
            raise FleetError(f"no Trimtab server answers at {url} ({reason}); start it (docker compose up -d) or name others") from error
        if response.status >= 300:
            raise FleetError(f"{method} {url}{path} was answered {response.status} {response.reason}: {str(content)[:200]}")
        return dict(content)

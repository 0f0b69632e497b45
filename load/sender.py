"""One HTTP request, without retries: what the server did with it is what is counted.

geventhttpclient's own client (and with it Locust's FastHttpUser) sends a GET again, silently, when a connection ends without an answer;
a crashed server would then be asked many times and its failures would vanish. So only its connection pool and parser are used.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

import gevent
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketPoolResponse
from tally import SERVED

_CONNECT_TIMEOUT_S = 2.0
_OK = 200


class Sender:
    """Pooled keep-alive connections to some servers. `size` is the number of requests in flight at most, to each."""

    def __init__(self, targets: Sequence[str], timeout_s: float, size: int) -> None:
        self._timeout_s = timeout_s
        self._hosts = [urlsplit(one).netloc for one in targets]
        self._pools = [self._pool(one, size) for one in targets]

    def _pool(self, target: str, size: int) -> ConnectionPool:
        parts = urlsplit(target)
        host, port = str(parts.hostname), parts.port or 80
        connect_s = min(_CONNECT_TIMEOUT_S, self._timeout_s)
        return ConnectionPool(host, port, host, port, size=size, connection_timeout=connect_s, network_timeout=self._timeout_s)

    def send(self, number: int, path: str, work: float, request_id: str) -> str:
        """GET `path` of target `number` modulo the targets; "served" or the kind of failure, at the latest after the time-out."""
        index = number % len(self._pools)
        head = (
            f"GET {path} HTTP/1.1\r\nHost: {self._hosts[index]}\r\n"
            f"X-Work: {max(work, 1e-6):.6f}\r\nX-Request-Id: {request_id}\r\nUser-Agent: trimtab-load\r\n\r\n"
        )
        limit = gevent.Timeout(self._timeout_s)  # of the whole exchange; the sockets' own time-outs begin anew with every byte
        try:
            with limit:
                status = self._exchange(self._pools[index], head.encode("latin-1"))
        except gevent.Timeout as expired:
            if expired is not limit:
                raise
            return "timeout"
        except TimeoutError:
            return "timeout"
        except ConnectionRefusedError:
            return "connection_refused"
        except (HTTPConnectionClosed, ConnectionError):
            return "connection_closed"
        except HTTPParseError:
            return "bad_answer"
        except OSError:
            return "connection_error"
        return SERVED if status == _OK else f"http_{status}"

    @staticmethod
    def _exchange(pool: ConnectionPool, request: bytes) -> int:
        connection = pool.get_socket()
        try:
            connection.sendall(request)
        except BaseException:
            pool.release_socket(connection)
            raise
        answer = HTTPSocketPoolResponse(connection, pool)  # from here on the answer gives the connection back, or closes it
        answer.read()
        return int(answer.get_code())

    def close(self) -> None:
        """Closes the idle connections."""
        for pool in self._pools:
            pool.close()

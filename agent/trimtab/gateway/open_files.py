"""How many connections the system lets this process have: beyond its limit of open files neither clients nor servers can be reached."""

import resource
from typing import Final

OTHERS: Final = 64  # files that are no connections of clients or their requests: logs, models, checks of servers, the control API


def allow_connections(wanted: int) -> int:
    """How many connections of clients there may be, at most `wanted`, each with one to a server beside it.

    Raises this process's limit of open files as far as it may (HAProxy sets its own by `maxconn`, too): the usual 1024 is kept low for
    the sake of `select`, which nothing here uses. Without room, connections of clients would take what requests to servers need, and
    servers that are well would look dead.
    """
    needed = 2 * wanted + OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, (soft - OTHERS) // 2))

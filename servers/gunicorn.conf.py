"""gunicorn's settings, the same in Docker and in local processes. Everything else comes from the profile."""

import os
import sys
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).resolve().parent)
sys.path.insert(0, HERE)

from lifeline import die_with_parent, precise_timers  # noqa: E402 -- this folder is on the path only now
from server_profile import profile_or_exit  # noqa: E402

wsgi_app = "app:from_environment()"
chdir = HERE
bind = os.environ.get("TRIMTAB_BIND", "127.0.0.1:8000")

# One process, since slots, queue and faults live in it.
workers = 1
worker_class = "gthread"
threads = profile_or_exit(os.environ).threads
# A connection more than this is answered "Connection: close"; a client that then lingers would hold up gunicorn's accept loop.
worker_connections = threads + 2048
keepalive = 75  # seconds; longer than the idle time of common client pools, so that the client closes first
timeout = 30  # a worker whose main loop is stuck is replaced; requests may take longer
graceful_timeout = 5

accesslog = None  # a log line a request would cost more than the request
errorlog = "-"
loglevel = os.environ.get("TRIMTAB_LOG_LEVEL", "warning")
control_socket_disable = True  # several servers under one user would fight for one socket file


def post_fork(server: Any, worker: Any) -> None:
    """In the worker, before its threads start: they inherit the timer setting."""
    die_with_parent(server.pid)
    precise_timers()

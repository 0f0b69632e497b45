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
if os.environ.get("TRIMTAB_FLEET"):  # made absolute, since the worker reads it again after the change of folder below
    os.environ["TRIMTAB_FLEET"] = str(Path(os.environ["TRIMTAB_FLEET"]).resolve())
chdir = HERE
bind = os.environ.get("TRIMTAB_BIND", "127.0.0.1:8000")

# One process: slots, queue, faults and every counter of /metrics live in it. A second would double the slots and lose half the counts.
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


def only_one(found: str) -> str:
    """The one line that refuses a second worker."""
    return f"{found}; allowed: 1, since slots and counters live in one process; remove it, and start more servers for more capacity"


# gunicorn itself would let `workers` above win silently; whoever set the variable should learn that it does nothing.
if os.environ.get("WEB_CONCURRENCY", "").strip() not in ("", "1"):
    sys.stderr.write(f"gunicorn: {only_one('WEB_CONCURRENCY is ' + os.environ['WEB_CONCURRENCY'])}\n")
    raise SystemExit(2)


def nworkers_changed(server: Any, new: int, old: int | None) -> None:
    """Refuses a second worker: at start with exit code 2, later (signal TTIN, a reload) by putting the number back."""
    if new <= 1:
        return
    refusal = only_one(f"{new} workers were asked for (--workers, GUNICORN_CMD_ARGS or a signal)")
    if old is None:
        sys.stderr.write(f"gunicorn: {refusal}\n")
        raise SystemExit(2)
    server.log.error(refusal)
    server.num_workers = 1


def post_fork(server: Any, worker: Any) -> None:
    """In the worker, before its threads start: they inherit the timer setting."""
    die_with_parent(server.pid)
    precise_timers()

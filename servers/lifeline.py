"""Linux only: a process that dies with its parent, and timers without slack. Elsewhere both do nothing."""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_TIMERSLACK = 29


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def die_with_parent(parent_pid: int) -> None:
    """The kernel kills this process when the thread that started it ends; at once if the parent is gone already."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(1)


def precise_timers() -> None:
    """Timers of this thread, and of threads started from it, end when asked; the default lets them end 50 microseconds late."""
    with contextlib.suppress(OSError):  # some sandboxes refuse it, and service times are right without it, only less precise
        _prctl(PR_SET_TIMERSLACK, 1)

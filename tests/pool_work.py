"""What worker processes do in tests of the pool: functions of a module, which a new process can import."""

import os
import signal
import time

from trimtab.errors import UsageError


def double(number):
    return 2 * number


def process_id(_number):
    return os.getpid()


def die(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number):
    raise UsageError(f"unit {number} makes no sense")


def take_long(number):
    """The first unit is quick, all others take longer than any test may."""
    if number:
        time.sleep(3600)
    return number


def interrupt(number):
    """What Ctrl-C sends to every process of a terminal."""
    os.kill(os.getpid(), signal.SIGINT)
    return number

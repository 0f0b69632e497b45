"""One writer a log: a lock that the system lets go of when its holder ends, however it ends."""

import fcntl
import os
from pathlib import Path
from typing import IO

from trimtab.errors import ResultsError
from trimtab.experiments.decision_log import LOCK


def hold(folder: Path) -> IO[str]:
    """Take the lock of the log in `folder` until the returned file is closed. Raises ResultsError where another process has it."""
    file = (folder / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ResultsError(f"{folder} is being written by process {_named(folder)}; end that one, or name another folder") from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def holder(folder: Path) -> int | None:
    """The process that writes the log in `folder`; None where nobody does. 0: somebody whose number cannot be read."""
    try:
        with (folder / LOCK).open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _named(folder)
    except FileNotFoundError:
        return None
    return None


def _named(folder: Path) -> int:
    text = (folder / LOCK).read_text(encoding="utf-8").strip()
    return int(text) if text.isdigit() else 0

"""Model files of a running gateway: loaded by a thread of their own, put in place on the event loop's, between two decisions."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Literal, NamedTuple

from trimtab.errors import TrimtabError
from trimtab.policies.base import Policy

Role = Literal["primary", "shadow", "canary"]
POLL_S: Final = 0.5
END_S: Final = 5.0  # for a load under way when the gateway ends; the thread dies with the process
NOTES_KEPT: Final = 50
Signature = tuple[int, int, int]  # mtime, ns; bytes; inode: another one wherever a writer replaced or touched the file
Load = Callable[[Path], Policy]
Call = Callable[[Callable[[], None]], object]  # has a function called on the event loop's thread, as `call_soon_threadsafe` does


class Note(NamedTuple):
    """Something that happened to a model."""

    now_s: float
    what: str


class Journal:
    """The last NOTES_KEPT notes, on the clock given. Belongs to the event loop's thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.notes: deque[Note] = deque(maxlen=NOTES_KEPT)
        self._clock = clock

    def note(self, what: str) -> None:
        """It happened now."""
        self.notes.append(Note(self._clock(), what))


class ModelFile:
    """One file, what became of it, and whom its policies are given to. Belongs to the event loop's thread, `seen` to the watcher."""

    def __init__(self, role: Role, path: Path, clock: Callable[[], float], journal: Journal) -> None:
        self.role, self.path = role, path
        self.put: Callable[[Policy], None] = lambda _policy: None  # in place; set once there is a place
        self.seen: Signature | None = None
        self.loaded_s: float | None = None  # on the clock; None where none was loaded yet
        self.loads = self.refusals = 0  # since the start; the model that the gateway started with is the first load
        self.refused: str | None = None  # why the newest file is not in use; None where it is, or where there never was one
        self._clock, self._journal = clock, journal

    def first(self, load: Load, *, may_be_missing: bool) -> Policy | None:
        """The policy to start with. None where none can be used yet; without `may_be_missing` it raises what `load` does instead."""
        self.seen = signature(self.path)
        if may_be_missing and self.seen is None:
            self._journal.note(f"{self.role}: {self.path.name} is not there yet")
            return None
        if not may_be_missing:
            policy = load(self.path)
            self._count_load()
            return policy
        found = loaded(load, self.path)
        if isinstance(found, str):
            self.refuse(found)
            return None
        self._count_load()
        return found

    def take(self, policy: Policy) -> None:
        """Put it in place of the one before."""
        self.put(policy)
        self._count_load()
        self._journal.note(f"{self.role}: {self.path.name} loaded")

    def refuse(self, why: str) -> None:
        """The file cannot be used, so the one before stays."""
        self.refusals += 1
        self.refused = why
        self._journal.note(
            f"{self.role}: {self.path.name} refused, {'what was there stays' if self.loaded_s is not None else 'none yet'}: {why}"
        )

    def _count_load(self) -> None:
        self.loads += 1
        self.refused = None
        self.loaded_s = self._clock()


class ModelFiles:
    """The files of one gateway under watch: each POLL_S where `polls`, and whenever `ask` is called."""

    def __init__(self, files: Sequence[ModelFile], load: Load, journal: Journal, *, polls: bool) -> None:
        self.files, self.journal = tuple(files), journal
        self._load, self._polls = load, polls
        self._wake = threading.Event()
        self._ended = False

    @contextmanager
    def watched(self, call: Call) -> Iterator[None]:
        """Watch while the block runs. No thread where there are no files."""
        if not self.files:
            yield
            return
        thread = threading.Thread(target=self._watch, args=(call,), name="models", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended = True
            self._wake.set()
            thread.join(END_S)

    def ask(self) -> None:
        """Load every file anew, whether it changed or not. Soon, and from any thread."""
        self._wake.set()

    def _watch(self, call: Call) -> None:
        while True:
            asked = self._wake.wait(POLL_S if self._polls else None)
            self._wake.clear()
            if self._ended:
                return
            for file in self.files:
                self._look(file, call, asked=asked)

    def _look(self, file: ModelFile, call: Call, *, asked: bool) -> None:
        now = signature(file.path)  # before loading: what is written meanwhile is seen at the next look
        if not asked and (now is None or now == file.seen):
            return
        file.seen = now
        found = loaded(self._load, file.path)
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to route for
            call(partial(file.refuse, found) if isinstance(found, str) else partial(file.take, found))


def signature(path: Path) -> Signature | None:
    """What tells one version of a file from another; None where there is none that can be seen."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def loaded(load: Load, path: Path) -> Policy | str:
    """The policy, or in a line why there is none: the file of a stranger may make the loader raise anything."""
    try:
        return load(path)
    except TrimtabError as error:
        return str(error).replace(str(path), path.name)
    except Exception as error:  # noqa: BLE001 -- whatever is in the file, the gateway goes on with the model that it has
        return f"{path.name}: cannot be used ({type(error).__name__}); write a checkpoint of this version"

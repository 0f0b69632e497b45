import time
from collections.abc import Callable

import pytest

from server_profile import Profile, profile_from_tables


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Waits, with a deadline, until a condition holds."""

    def wait(condition: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline_s, "the condition never held"
            time.sleep(0.001)

    return wait


@pytest.fixture
def make_profile() -> Callable[..., Profile]:
    def make(**server: object) -> Profile:
        table = {"id": "server-1", "slots": 1, "speed": {"a": 1.0, "b": 2.0}, "queue_limit": 2} | server
        classes = [
            {"name": "a", "work_ms": 1, "distribution": "fixed", "cpu": 250, "memory": 100},
            {"name": "b", "work_ms": 2, "distribution": "exponential"},
        ]
        return profile_from_tables(table, classes)

    return make

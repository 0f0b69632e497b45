"""Response times of late, by how many requests were inside when each arrived: what a probe is answered."""

import threading
from collections import deque

BUCKETS = 64  # the last holds all above
RECENT = 16  # response times kept in each


class RecentTimes:
    """Many threads add, a probe asks."""

    def __init__(self) -> None:
        self._buckets: list[deque[float]] = [deque(maxlen=RECENT) for _ in range(BUCKETS)]
        self._mutex = threading.Lock()

    def add(self, found: int, response_s: float) -> None:
        """A request that found so many inside was served after `response_s`."""
        with self._mutex:
            self._buckets[min(found, BUCKETS - 1)].append(response_s)

    def typical_s(self, inside: int) -> float:
        """Upper median at that number inside, else at the nearest one known, the lower of two; 0 where none is."""
        here = min(inside, BUCKETS - 1)
        with self._mutex:
            for distance in range(BUCKETS):
                for place in (here - distance, here + distance):
                    if 0 <= place < BUCKETS and (bucket := self._buckets[place]):
                        return sorted(bucket)[len(bucket) // 2]
        return 0.0

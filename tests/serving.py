"""HTTP servers that tests run in a thread of their own process."""

import threading
from contextlib import contextmanager


@contextmanager
def served(server):
    """Answers while the block runs. `release`, which its handlers wait for, is set at the end, so that none of them holds it up."""
    with server as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield one
        one.release.set()
        one.shutdown()
        thread.join()

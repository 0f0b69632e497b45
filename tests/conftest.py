"""What all tests rely on."""

import signal


def pytest_configure() -> None:
    """Ctrl-C reaches child processes: a shell starts background jobs with SIGINT ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

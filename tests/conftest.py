"""What all tests rely on."""

import signal

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, not whether the product is right.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure() -> None:
    """Ctrl-C reaches child processes: a shell starts background jobs with SIGINT ignored, and children inherit that."""
    settings.load_profile("any-machine")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

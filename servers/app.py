"""What gunicorn loads: `app:from_environment()`."""

import os

from flask import Flask

from job_app import create_app
from server_profile import profile_or_exit

__all__ = ["create_app", "from_environment"]


def from_environment() -> Flask:
    """The app of TRIMTAB_PROFILE, or of TRIMTAB_FLEET and SERVER_ID; TRIMTAB_FAULTS=1 allows faults. Exit code 2 on a bad profile."""
    return create_app(profile_or_exit(os.environ), faults_enabled=os.environ.get("TRIMTAB_FAULTS") == "1")

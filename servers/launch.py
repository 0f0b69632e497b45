"""`python launch.py PARENT_PID`: gunicorn with this folder's configuration, dying with PARENT_PID. Started by LocalServers."""

import sys
from pathlib import Path

from gunicorn.app import wsgiapp  # type: ignore[import-untyped]

from lifeline import die_with_parent


def main() -> None:
    """Never returns: gunicorn ends the process."""
    die_with_parent(int(sys.argv[1]))
    sys.argv = ["gunicorn", "--config", str(Path(__file__).with_name("gunicorn.conf.py"))]
    wsgiapp.run()


if __name__ == "__main__":
    main()

"""Locust traffic from the scenarios: an open loop that keeps its schedule, or closed-loop users.

    locust -f load/locustfile.py --headless -t 60s --rate 50 -H http://localhost:8081

Locust patches the standard library, so this runs in a process of its own: nothing else imports it.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

import gevent
import load_report
from conductor import Conductor
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from performer import Performer
from product import TrimtabError, list_scenarios
from settings import Settings, add_options, read_settings, read_shape, user_rate_rps
from shapes import OpenLoopShape, TrafficShape
from users import OpenLoopUser, user_classes

__all__ = ["OpenLoopUser"]  # Locust wants a user class here; what a run needs is made when it begins


@events.init_command_line_parser.add_listener
def _add_options(parser: argparse.ArgumentParser, **_: Any) -> None:
    add_options(parser)


@events.init.add_listener
def _set_up(environment: Environment, **_: Any) -> None:
    """Ends the program in one line where the options make no sense. Workers take theirs from the master."""
    # Python itself would raise it in whichever greenlet is running, and the request of that one would be lost from the counts.
    gevent.signal_handler(signal.SIGINT, _interrupt)
    runner = environment.runner
    performer = None if isinstance(runner, MasterRunner) else Performer(environment)
    if isinstance(runner, WorkerRunner):
        return
    try:
        _conduct(environment, performer)
    except TrimtabError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


def _interrupt() -> None:
    raise KeyboardInterrupt  # which gevent hands to the main greenlet, where Locust waits for it


def _conduct(environment: Environment, performer: Performer | None) -> None:
    options = environment.parsed_options
    if options.scenario == "list":
        sys.stdout.write("".join(f"{name:<16} {meaning}\n" for name, meaning in list_scenarios()))
        sys.exit(0)
    settings, shape = read_settings(options), read_shape(options)
    if options.report:
        load_report.check_path(Path(options.report), overwrite=options.report_overwrite)
    environment.host = environment.host or settings.targets[0]
    environment.user_classes = user_classes(settings, performer)
    _set_shape(environment, settings, shape, Conductor(environment))


def _set_shape(environment: Environment, settings: Settings, shape: str, conductor: Conductor) -> None:
    if settings.loop == "open":
        environment.shape_class = OpenLoopShape(conductor)
    elif shape == "traffic":
        environment.shape_class = TrafficShape(settings, user_rate_rps(environment.parsed_options, settings))
    if environment.shape_class is not None:
        environment.shape_class.runner = environment.runner
        # Locust listens to SIGTERM only once a shape has ended; without this, `kill` would lose the report.
        gevent.signal_handler(signal.SIGTERM, environment.runner.quit)

"""The options of a run, checked, and as a message: the master sends them, so that workers need no options and no scenario files."""

import argparse
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from product import F64, Scenario, UsageError, intensity_rps, load_scenario, load_trace, parse_scenario, scenario_table

DEFAULT_TARGET = "http://localhost:8080"  # the gateway, `python agent/app.py`
LOOPS = ("open", "closed")
SHAPES = ("none", "traffic")
THINKING = ("constant", "exponential")

EXAMPLES = """
trimtab examples:

  the default scenario's traffic through the gateway (python agent/app.py), on schedule, for a minute:
    locust -f load/locustfile.py --headless -t 60s
  the same over its four servers in turn, without a gateway:
    locust -f load/locustfile.py --headless -t 60s \\
        --targets http://localhost:8081,http://localhost:8082,http://localhost:8083,http://localhost:8084
  50 requests/s to one server, report as JSON:
    locust -f load/locustfile.py --headless -t 60s --rate 50 -H http://localhost:8081 --report /tmp/load.json
  four closed-loop users that think for 0.1 s on average:
    locust -f load/locustfile.py --headless -t 60s --loop closed -u 4 --think-time 0.1 --think exponential
  as many closed-loop users as a flash crowd needs:
    locust -f load/locustfile.py --headless -t 60s --loop closed --shape traffic --scenario flash
  several processes: one master, and as many workers as you like:
    locust -f load/locustfile.py --master --headless --expect-workers 2 -t 60s
    locust -f load/locustfile.py --worker --master-host localhost
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """One run. `trace_rps` are the rates of a trace, one per `interval_s`  # [T]; None for other traffic."""

    scenario: Scenario
    trace_rps: F64 | None
    seed: int
    episode: int
    loop: str
    duration_s: float | None
    targets: tuple[str, ...]
    http_timeout_s: float
    max_in_flight: int
    think: str
    think_s: float

    def to_message(self) -> dict[str, Any]:
        """Plain values only, for the wire between master and workers."""
        plain = {key: value for key, value in _shallow(self).items() if key not in ("scenario", "trace_rps")}
        trace = None if self.trace_rps is None else self.trace_rps.tolist()
        return plain | {"scenario": scenario_table(self.scenario), "trace_rps": trace, "targets": list(self.targets)}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Settings":
        """The inverse of `to_message`."""
        trace = message["trace_rps"]
        return cls(
            **{
                **message,
                "scenario": parse_scenario(message["scenario"], source="the master's message"),
                "trace_rps": None if trace is None else np.array(trace),
                "targets": tuple(message["targets"]),
            }
        )


def _shallow(record: Settings) -> dict[str, Any]:
    return {name: getattr(record, name) for name in Settings.__slots__}


# Name, default, metavar, help; those with a star may be changed in the web UI between two runs.
_OPTIONS = (
    ("--scenario", "compose-default", "ID|PATH", "whose traffic and classes"),
    ("--loop", "open", "open|closed", "open: keep the schedule whatever the latency; closed: users that wait for answers"),
    ("--rate*", "", "RPS", "mean requests/s instead of the scenario's"),
    ("--load*", "", "X", "the same as a multiple of the scenario's capacity; not with --rate"),
    ("--seed*", "0", "N", "of arrivals, classes and work"),
    ("--episode*", "0", "N", "which episode of that seed"),
    ("--targets", "", "URL,...", f"servers, in turn; without it --host, else {DEFAULT_TARGET}"),
    ("--http-timeout", "10", "S", "a request without a full answer by then has failed"),
    ("--max-in-flight", "512", "N", "open loop, of each process; requests beyond it go out late"),
    ("--think-time", "0", "S", "closed loop: pause between two requests of a user"),
    ("--think", "constant", "constant|exponential", "closed loop: how the pause is drawn"),
    ("--shape", "none", "none|traffic", "closed loop: -u users, or as many as the traffic needs"),
    ("--user-rate", "", "RPS", "for --shape traffic: of one user; without it 1 / (think time + mean work)"),
    ("--report", "", "PATH", "write the figures as JSON"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options to Locust's parser. They stay text until `read_settings`: the web UI hands in text, too."""
    parser.epilog = f"{parser.epilog or ''}\n{EXAMPLES}"
    group = parser.add_argument_group("Trimtab traffic")
    for name, default, metavar, meaning in _OPTIONS:
        text = f"{meaning} (default {default})" if default else meaning
        made = group.add_argument(name.rstrip("*"), default=default, metavar=metavar, help=text)
        vars(made)["include_in_web_ui"] = name.endswith("*")  # where Locust keeps it; a group's method has no argument for it
    group.add_argument("--report-overwrite", action="store_true", help="replace an existing report")
    # Locust answers --help before it has read its locustfile, so that one cannot know these options.
    group.add_argument("--traffic-help", action="help", help="show all options, these included, and examples; --help has Locust's own only")


def read_settings(options: argparse.Namespace) -> Settings:
    """The options as a run. Raises UsageError in one line, also for what the scenario files say wrong."""
    scenario = _with_rate(load_scenario(options.scenario), options)
    trace_rps = load_trace(scenario)
    intensity_rps(scenario.traffic, scenario.rate_rps(), 0.0, trace_rps)  # raises where a trace is slower than the rate
    return Settings(
        scenario=scenario,
        trace_rps=trace_rps,
        seed=_whole(options.seed, "--seed", least=0),
        episode=_whole(options.episode, "--episode", least=0),
        loop=_choice(options.loop, "--loop", LOOPS),
        duration_s=float(options.run_time) if options.run_time else None,
        targets=_targets(options),
        http_timeout_s=_number(options.http_timeout, "--http-timeout", above=0.0),
        max_in_flight=_whole(options.max_in_flight, "--max-in-flight", least=1),
        think=_choice(options.think, "--think", THINKING),
        think_s=_number(options.think_time, "--think-time"),
    )


def read_shape(options: argparse.Namespace) -> str:
    """`--shape`. Raises UsageError, also where it stands beside an open loop, which needs no users."""
    shape = _choice(options.shape, "--shape", SHAPES)
    if shape != "none" and options.loop == "open":
        raise UsageError(f"--shape {shape} is for closed loops; the open loop follows the traffic by itself; add --loop closed or drop it")
    return shape


def user_rate_rps(options: argparse.Namespace, settings: Settings) -> float:
    """Requests a second that one closed-loop user makes: `--user-rate`, or what follows from think time and work at speed 1."""
    if options.user_rate:
        return _number(options.user_rate, "--user-rate", above=0.0)
    return 1.0 / (settings.think_s + sum(one.share * one.work_s for one in settings.scenario.classes))


def _with_rate(scenario: Scenario, options: argparse.Namespace) -> Scenario:
    """The rate of the options in the place of the scenario's."""
    if options.rate and options.load:
        raise UsageError(f"--rate {options.rate} stands beside --load {options.load}; allowed: one of the two; drop one")
    if options.rate:
        return replace(scenario, traffic=replace(scenario.traffic, rate_rps=_number(options.rate, "--rate", above=0.0), load=None))
    if options.load:
        return replace(scenario, traffic=replace(scenario.traffic, load=_number(options.load, "--load", above=0.0), rate_rps=None))
    return scenario


def _targets(options: argparse.Namespace) -> tuple[str, ...]:
    urls = options.targets.split(",") if options.targets else [options.host or DEFAULT_TARGET]
    return tuple(_target(one.strip().rstrip("/")) for one in urls)


def _target(url: str) -> str:
    if not re.fullmatch(r"http://[^/:@?#\s]+(:[1-9]\d{0,4})?", url):
        raise UsageError(f"target {url!r} is no server; allowed: http://HOST:PORT, several with commas; correct --targets or --host")
    return url


def _choice(text: str, name: str, allowed: tuple[str, ...]) -> str:
    if text not in allowed:
        raise UsageError(f"{name} is {text!r}; allowed: {' or '.join(allowed)}; choose one of them")
    return text


def _number(text: str, name: str, *, above: float | None = None) -> float:
    """A finite number above `above`, or 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and (value >= 0 if above is None else value > above)):
        raise UsageError(f"{name} is {text!r}; allowed: a number, {'0 or more' if above is None else f'above {above:g}'}; correct it")
    return value


def _whole(text: str, name: str, *, least: int) -> int:
    if not re.fullmatch(r"\d{1,18}", str(text)) or int(text) < least:
        raise UsageError(f"{name} is {text!r}; allowed: a whole number, {least} or more; correct it")
    return int(text)

"""`app.py`: the HTTP gateway. Puts a classical or a trained policy in front of live servers."""

import argparse
import ipaddress
import math
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trimtab.cli import command, options
from trimtab.errors import UsageError
from trimtab.policies import catalogue

if TYPE_CHECKING:
    from trimtab.core.scenario import Scenario
    from trimtab.gateway.deciders import Deciding
    from trimtab.gateway.limits import Network
    from trimtab.gateway.recorder import Recorder
    from trimtab.gateway.router import Observer
    from trimtab.policies.exploring import Exploration

EXAMPLES = """\
  python agent/app.py --policy sed-online
  python agent/app.py --model Models/checkpoints/dqn_final.pth --servers http://localhost:8081,http://localhost:8082,...
  python agent/app.py --model Models/checkpoints/dqn_final.pth --reload
  python agent/app.py --policy sed-online --shadow Models/reference.pth --canary Models/reference.pth --canary-share 0.05
  python agent/app.py --policy least-outstanding --record Models/decisions
  python agent/app.py --policy list"""
HIGHEST_PORT: Final = 65535
CANARY_SHARE: Final = 0.05
FAMILY: Final = "family:"
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- compared with, not listened on


def main(argv: Sequence[str] | None = None) -> int:
    """0: ended by SIGTERM, after draining; 1: failed; 2: bad usage; 130: ended by Ctrl-C, after draining."""
    return command.run(_body, build_parser(), argv)


def build_parser() -> argparse.ArgumentParser:
    """The options, apart so that documentation and tests can read them."""
    parser = command.parser("app.py", "Route HTTP requests over live servers with a policy, until Ctrl-C or SIGTERM.", EXAMPLES)
    policy = parser.add_mutually_exclusive_group()  # not required: lists need neither
    policy.add_argument("--policy", metavar="NAME", help="a classical policy, or 'list'")
    policy.add_argument("--model", type=Path, metavar="PATH", help="a checkpoint; sed-online decides where it cannot")
    parser.add_argument("--reload", action="store_true", help="watch the model files: a new one is taken up at once, a bad one refused")
    parser.add_argument("--shadow", type=Path, metavar="PATH", help="a checkpoint that decides beside, and is only compared")
    parser.add_argument("--canary", type=Path, metavar="PATH", help="a checkpoint that decides about some of the requests")
    parser.add_argument("--record", type=Path, metavar="DIR", help="append every decision and its outcome to a log in this folder")
    limit = "of that log; beyond it the oldest decisions are deleted (default 2048)"
    parser.add_argument("--record-limit", type=options.positive, default=None, metavar="MIB", help=limit)
    parser.add_argument("--explore", action="store_true", help="the model learns: it tries things out, within bounds; needs --record")
    control = "of its requests that sed-online decides, to compare: at most 0.5 (default 0.1; 0: it is not compared)"
    parser.add_argument("--control-share", type=options.control_share, metavar="SHARE", help=control)
    parser.add_argument("--canary-share", type=_share, metavar="SHARE", help=f"how many of them: at most 0.5 (default {CANARY_SHARE})")
    parser.add_argument("--scenario", default="compose-default", metavar="ID", help="id, file or 'list' (default compose-default)")
    parser.add_argument("--servers", type=options.url_list, default=(), metavar="URL,URL,...", help="live servers, in the scenario's order")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default 127.0.0.1: this machine only)")
    parser.add_argument("--port", type=options.positive, default=8080, metavar="N", help="where to listen (default 8080)")
    _add_surroundings(parser)
    parser.add_argument("--default-class", default=None, metavar="NAME", help="of requests that fit no class (default the first)")
    parser.add_argument("--seed", type=options.count, default=0, metavar="N", help="of everything random (default 0)")
    return parser


def _add_surroundings(parser: argparse.ArgumentParser) -> None:
    """What stands before the gateway and behind it."""
    add = parser.add_argument
    add("--trusted-proxies", type=_networks, default=(), metavar="CIDR,...", help="whose X-Forwarded-* headers are believed (default none)")
    add("--health-path", default="/health", metavar="PATH", help="what servers are asked for their health (default /health)")
    add("--lame-duck", type=_seconds, default=0.0, metavar="SECONDS", help="to go on for once /readyz says 503, at the end (default 0)")


def _body(args: argparse.Namespace) -> int:
    if args.policy == "list":
        return options.print_listing([(one.name, f"{one.kind}: {one.summary}") for one in _offered()])
    if args.scenario == "list":
        return options.print_listing(_scenarios())
    if args.policy is None and args.model is None:
        raise UsageError("nobody decides: give --policy NAME, such as sed-online, or --model PATH; list policies with --policy list")
    if args.port > HIGHEST_PORT:
        raise UsageError(f"--port {args.port}: allowed are 1 to {HIGHEST_PORT}")
    if args.policy is not None:
        _check_policy(args.policy)
    _check_models(args)
    return _serve(args, _scenario(args.scenario))


def _share(text: str) -> float:
    """Above 0, at most a half."""
    share = options.number(text)
    if not 0.0 < share <= options.HIGHEST_SHARE:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: above 0, at most {options.HIGHEST_SHARE}")
    return share


def _seconds(text: str) -> float:
    """From 0 up."""
    seconds = options.number(text)
    if not 0.0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: seconds from 0 up")
    return seconds


def _networks(text: str) -> tuple["Network", ...]:
    """Addresses or networks separated by commas."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; give addresses or networks such as 10.0.0.0/8,192.0.2.7") from error


def _check_models(args: argparse.Namespace) -> None:
    if args.canary_share is not None and args.canary is None:
        raise UsageError("--canary-share is the share of a canary; name its file with --canary PATH")
    if args.record_limit is not None and args.record is None:
        raise UsageError("--record-limit is the size of a log; name its folder with --record DIR")
    if args.control_share is not None and not args.explore:
        raise UsageError("--control-share is the share of a model's control group while it learns; give --explore")
    if args.explore and (args.model is None or args.record is None or args.shadow or args.canary):
        raise UsageError("--explore is for one --model PATH whose decisions are recorded; give --record DIR, and no --shadow or --canary")
    if args.reload and args.model is None and args.shadow is None and args.canary is None:
        raise UsageError("--reload watches model files, and none is named; give --model, --shadow or --canary PATH")


def _offered() -> list[catalogue.Entry]:
    """Policies that can decide about live traffic: all but the oracles and those that probe."""
    return [one for one in catalogue.CATALOGUE if one.kind != "oracle" and not one.probes]


def _scenarios() -> list[tuple[str, str]]:
    from trimtab.problems.routing.scenario_files import list_scenarios

    return list_scenarios()


def _check_policy(name: str) -> None:
    if name == catalogue.LEARNED:
        raise UsageError(f"--policy {name} stands for a model; name its file with --model PATH")
    entry = catalogue.entry(name)
    if entry not in _offered():
        why = "knows what only a simulator knows" if entry.kind == "oracle" else "sends probes, which the gateway does not"
        allowed = ", ".join(one.name for one in _offered())
        raise UsageError(f"--policy {name} {why}; allowed: {allowed}; try it with evaluate_dqn.py")


def _scenario(name: str) -> "Scenario":
    # Imported here and below: kernels, torch and the HTTP stack take seconds that --help and --policy list need not pay.
    from trimtab.problems.routing.scenario_files import load_scenario

    if name.startswith(FAMILY):
        raise UsageError(f"--scenario {name} draws a fleet an episode, which live servers cannot; name one scenario or a file")
    return load_scenario(name)


def _deciding(args: argparse.Namespace, scenario: "Scenario", exploration: "Exploration | None") -> "Deciding":
    from trimtab.gateway.deciders import Wanted, build_deciding
    from trimtab.gateway.learning import CONTROL_SHARE

    share = CANARY_SHARE if args.canary_share is None else args.canary_share
    control = CONTROL_SHARE if args.control_share is None else args.control_share
    reload = args.reload or args.explore
    wanted = Wanted(args.policy, args.model, args.shadow, args.canary, share, reload, args.seed, exploration, control)
    return build_deciding(wanted, scenario)


def _exploration(args: argparse.Namespace) -> "Exploration | None":
    if not args.explore:
        return None
    from trimtab.policies.exploring import Exploration

    return Exploration(args.seed)


def _recorder(
    args: argparse.Namespace, scenario: "Scenario", capacity: int, exploration: "Exploration | None"
) -> "AbstractContextManager[Recorder | None]":
    if args.record is None:
        return nullcontext()
    from trimtab.gateway.recorder import LIMIT_BYTES, Recorder

    limit_bytes = LIMIT_BYTES if args.record_limit is None else args.record_limit * 1024 * 1024
    if exploration is None:
        return closing(Recorder(args.record, scenario, capacity, limit_bytes))
    return closing(Recorder(args.record, scenario, capacity, limit_bytes, catalogue.LEARNED, exploration.explored))


def _observer(recorder: "Recorder | None", deciding: "Deciding") -> "Observer | None":
    """Who is told of every attempt. Nobody new where nothing learns: the data path stays as it is."""
    from trimtab.gateway.learning import Observers

    if deciding.learning is None or recorder is None:
        return recorder
    return Observers((recorder, deciding.learning))


def _serve(args: argparse.Namespace, scenario: "Scenario") -> int:
    import asyncio

    from trimtab.gateway import running
    from trimtab.gateway.classes import ClassMatcher
    from trimtab.gateway.health import HealthConfig
    from trimtab.gateway.limits import Limits, Timeouts
    from trimtab.gateway.open_files import allow_connections
    from trimtab.gateway.router import rehearse
    from trimtab.gateway.servers import found_servers

    exploration = _exploration(args)
    matcher, deciding = ClassMatcher(scenario, args.default_class), _deciding(args, scenario, exploration)
    limits = Limits(trusted_proxies=args.trusted_proxies, connections=allow_connections(Limits.connections))
    timeouts, health = Timeouts(lame_duck_s=args.lame_duck), HealthConfig(check_path=args.health_path)
    with _recorder(args, scenario, limits.in_flight, exploration) as recorder:
        rehearse(scenario, deciding.decider, recorder)
        if exploration is not None and recorder is not None:
            exploration.resume(recorder.decisions_before)  # after the rehearsal, which explored as well
        with found_servers(scenario, args.servers) as servers:
            balancer = running.build_balancer(
                scenario, deciding.decider, matcher, args.seed, limits, deciding.canary, _observer(recorder, deciding), health=health
            )

            def tell(port: int) -> None:
                _tell(args.host, port, f"{_name(args)} routes to {servers.note}")

            ended_by = asyncio.run(running.run(scenario, servers.urls, balancer, deciding, args.host, args.port, limits, timeouts, tell))
    counts = balancer.router.counts
    print(f"ended: {counts.served} served, {counts.failed} failed, {counts.in_flight} cut off", file=sys.stderr)
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt
    return 0


def _name(args: argparse.Namespace) -> str:
    return str(args.policy or args.model)


def _tell(host: str, port: int, what: str) -> None:
    print(f"gateway: http://{_bracketed(host)}:{port}  {what}", flush=True)
    print(f"page:    http://{_bracketed(EVERYWHERE.get(host, host))}:{port}/ui", flush=True)
    if not _is_loopback(host):
        print(f"note: whoever reaches {host} can use the gateway and see its page; there is no login", file=sys.stderr, flush=True)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

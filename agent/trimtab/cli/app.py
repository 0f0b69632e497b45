"""`app.py`: the HTTP gateway. Puts a classical or a trained policy in front of live servers."""

import argparse
import ipaddress
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trimtab.cli import command, options
from trimtab.errors import UsageError
from trimtab.policies import catalogue

if TYPE_CHECKING:
    from trimtab.core.scenario import Scenario
    from trimtab.gateway.guard import Decider

EXAMPLES = """\
  python agent/app.py --policy sed-online
  python agent/app.py --model Models/checkpoints/dqn_final.pth --servers http://localhost:8081,http://localhost:8082,...
  python agent/app.py --policy list"""
HIGHEST_PORT: Final = 65535
FALLBACK: Final = "sed-online"  # decides where a model cannot be trusted
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
    policy.add_argument("--model", type=Path, metavar="PATH", help=f"a checkpoint; {FALLBACK} decides where it cannot")
    parser.add_argument("--scenario", default="compose-default", metavar="ID", help="id, file or 'list' (default compose-default)")
    parser.add_argument("--servers", type=options.url_list, default=(), metavar="URL,URL,...", help="live servers, in the scenario's order")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default 127.0.0.1: this machine only)")
    parser.add_argument("--port", type=options.positive, default=8080, metavar="N", help="where to listen (default 8080)")
    parser.add_argument("--default-class", default=None, metavar="NAME", help="of requests that fit no class (default the first)")
    parser.add_argument("--seed", type=options.count, default=0, metavar="N", help="of everything random (default 0)")
    return parser


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
    return _serve(args, _scenario(args.scenario))


def _offered() -> list[catalogue.Entry]:
    """Policies that can decide about live traffic: all but the oracles."""
    return [one for one in catalogue.CATALOGUE if one.kind != "oracle"]


def _scenarios() -> list[tuple[str, str]]:
    from trimtab.problems.routing.scenario_files import list_scenarios

    return list_scenarios()


def _check_policy(name: str) -> None:
    if name == catalogue.LEARNED:
        raise UsageError(f"--policy {name} stands for a model; name its file with --model PATH")
    if catalogue.entry(name).kind == "oracle":
        allowed = ", ".join(one.name for one in _offered())
        raise UsageError(f"--policy {name} knows what only a simulator knows; allowed: {allowed}; try it with evaluate_dqn.py")


def _scenario(name: str) -> "Scenario":
    # Imported here and below: kernels, torch and the HTTP stack take seconds that --help and --policy list need not pay.
    from trimtab.problems.routing.scenario_files import load_scenario

    if name.startswith(FAMILY):
        raise UsageError(f"--scenario {name} draws a fleet an episode, which live servers cannot; name one scenario or a file")
    return load_scenario(name)


def _decider(args: argparse.Namespace, scenario: "Scenario") -> "Decider":
    import time

    from trimtab.gateway.guard import GuardedDecider, PlainDecider
    from trimtab.problems.routing.problem import Routing

    if args.model is None:
        return PlainDecider(catalogue.build(args.policy), args.seed)
    model = Routing().load_policy(args.model, len(scenario.servers))
    return GuardedDecider(model, catalogue.build(FALLBACK), time.monotonic, seed=args.seed)


def _serve(args: argparse.Namespace, scenario: "Scenario") -> int:
    import asyncio

    from trimtab.gateway import running
    from trimtab.gateway.classes import ClassMatcher
    from trimtab.gateway.limits import Limits
    from trimtab.gateway.router import rehearse
    from trimtab.gateway.servers import found_servers

    matcher, decider, limits = ClassMatcher(scenario, args.default_class), _decider(args, scenario), Limits()
    rehearse(scenario, decider)
    with found_servers(scenario, args.servers) as servers:
        balancer = running.build_balancer(scenario, decider, matcher, args.seed, limits)

        def tell(port: int) -> None:
            _tell(args.host, port, f"{_name(args)} routes to {servers.note}")

        ended_by = asyncio.run(running.run(scenario, servers.urls, balancer, args.host, args.port, limits, tell))
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

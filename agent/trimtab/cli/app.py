"""`app.py`: the HTTP gateway. Its options are final; the gateway behind them is not built yet, and the command says so."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from trimtab.cli import command, options
from trimtab.errors import TrimtabError, UsageError

EXAMPLES = """\
  python agent/app.py --policy sed-online
  python agent/app.py --model Models/checkpoints/dqn_final.pth --servers http://localhost:8081,http://localhost:8082,..."""
HIGHEST_PORT = 65535


def main(argv: Sequence[str] | None = None) -> int:
    """1: the gateway is not built yet; 2: bad usage."""
    return command.run(_body, build_parser(), argv)


def build_parser() -> argparse.ArgumentParser:
    """The options, apart so that documentation and tests can read them."""
    parser = command.parser("app.py", "Route HTTP requests over live servers with a policy (not built yet).", EXAMPLES)
    parser.add_argument("--scenario", default="compose-default", metavar="ID", help="id or file (default compose-default)")
    parser.add_argument(
        "--servers", type=options.url_list, default=None, metavar="URL,URL,...", help="live servers, in the scenario's order"
    )
    policy = parser.add_mutually_exclusive_group(required=True)
    policy.add_argument("--policy", metavar="NAME", help="a classical policy")
    policy.add_argument("--model", type=Path, metavar="PATH", help="a checkpoint")
    parser.add_argument("--port", type=options.positive, default=8080, metavar="N", help="where to listen (default 8080)")
    return parser


def _body(args: argparse.Namespace) -> int:
    if args.port > HIGHEST_PORT:
        raise UsageError(f"--port {args.port}: allowed are 1 to {HIGHEST_PORT}")
    raise TrimtabError("the gateway is not built yet; the commands that exist are train_dqn.py, evaluate_dqn.py and visualize.py")

"""What every command shares: one-line errors on stderr and exit codes (0 done, 1 failed, 2 bad usage, 130 interrupted)."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from trimtab.errors import TrimtabError, UsageError

INTERRUPTED = 130


def run(main_body: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse `argv` (None: the process's arguments), run `main_body` and return its exit code. `--help` exits as argparse does."""
    try:
        return main_body(parser.parse_args(argv))
    except TrimtabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with `examples` under its help, whose usage errors are one line."""
    return _OneLineParser(
        prog=prog, description=description, epilog=f"examples:\n{examples}", formatter_class=argparse.RawDescriptionHelpFormatter
    )


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")

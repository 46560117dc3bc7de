"""The command line: finds the command, runs it, turns errors into one line and an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

from numpy_norms import __version__

# One line per command: its name and the module in numpy_norms.commands that has
# HELP, add_arguments(parser) and run(args).
COMMANDS = {
    "check": "check.command",
    "grade": "grade.command",
    "golden": "golden",
    "info": "info",
    "show": "show",
    "sweep": "sweep",
    "trace": "trace",
}

OK, DISAGREEMENT, USAGE, INTERRUPTED = 0, 1, 2, 130


class UsageError(Exception):
    """Say in one line what the user passed, what was expected and the cure; exit status 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 agree, 1 disagreement, 2 usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Only the chosen command is imported; the overview imports them all for their HELP.
    names = words[:1] if words and words[0] in COMMANDS else COMMANDS
    args = _parser(names).parse_args(words)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except UsageError as error:
        print(f"{_program()} {args.command}: error: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        # The reader (`| head`) left; what Python flushes at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DISAGREEMENT
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _parser(names: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_program(),
        description="Normalization layers in NumPy alone: checked, shown and taught.",
        epilog="Exit status: 0 all agree, 1 a disagreement, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        module = import_module(f"numpy_norms.commands.{COMMANDS[name]}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _program() -> str:
    started_as_module = os.path.basename(sys.argv[0]) != "numpy-norms"
    return "python -m numpy_norms" if started_as_module else "numpy-norms"

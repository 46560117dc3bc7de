"""The command line: finds the command, runs it, turns errors into one line and an exit status."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import takewhile

from numpy_norms import __version__

# One line per command: its name and the module in numpy_norms.commands that has
# HELP, add_arguments(parser) and run(args).
COMMANDS = {
    "check": "check.command",
    "explore": "explore",
    "grade": "grade.command",
    "golden": "golden",
    "info": "info",
    "judge": "judge.command",
    "show": "show",
    "sweep": "sweep",
    "trace": "trace",
}

OK, DISAGREEMENT, USAGE, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 130, 141


class UsageError(Exception):
    """Say in one line what the user passed, what was expected and the cure; exit status 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 agree, 1 disagreement, 2 usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us
            setattr(sys, name, io.StringIO())
    try:
        try:
            return _run(words)
        finally:
            sys.stdout.flush()  # here and not at the exit, so that what fails is told
    except BrokenPipeError:  # the reader (`| head`) left
        _leave_streams()
        return CLOSED_PIPE
    except OSError as error:  # a full disk, for example
        where = f"{error.filename}: " if error.filename else ""
        with suppress(OSError):
            print(f"{_program()}: error: {where}{error.strerror or error}", file=sys.stderr)
        _leave_streams()
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(words: list[str]) -> int:
    # Only the chosen command is imported; the overview imports them all for their HELP.
    names = words[:1] if words and words[0] in COMMANDS else COMMANDS
    parser = _parser(names)
    if not words:
        parser.error(f"no command was given; pass one of {', '.join(COMMANDS)}")
    args, unknown = parser.parse_known_args(list(_joined(words)))
    if unknown:  # told with the command's usage, not with that of the whole
        args.refuse(f"unrecognized arguments: {' '.join(unknown)}{_with_commas(words, args)}")
    try:
        status: int = args.run(args)
    except UsageError as error:
        print(f"{_program()} {args.command}: error: {error}", file=sys.stderr)
        return USAGE
    return status


def _joined(words: Iterable[str]) -> Iterator[str]:
    """``--axis -2,-1`` as ``--axis=-2,-1``: argparse takes the list for an option by itself."""
    option = ""
    for word in words:
        if option and re.fullmatch(r"-[\d.][-\d.,x e]*", word):
            option, word = "", f"{option}={word}"
        elif option:
            yield option
            option = ""
        if re.fullmatch("--[a-z-]+", word):
            option = word
        else:
            yield word
    if option:
        yield option


def _with_commas(words: list[str], args: argparse.Namespace) -> str:
    """The cure for a list that was written in several words, ``--shape 2 6``."""
    for start, word in enumerate(words):
        option, _, first = word.partition("=")
        after = takewhile(re.compile(r"-?\d[\d,]*").fullmatch, words[start + 1 :])
        numbers = [*filter(None, [first]), *after]
        is_list = isinstance(vars(args).get(option[2:].replace("-", "_")), tuple)
        if is_list and len(numbers) > 1:
            return f"; write {option} {','.join(n.strip(',') for n in numbers)}"
    return ""


def _leave_streams() -> None:
    """Let what is still to be written go nowhere, so that it does not fail again at the exit."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
            continue
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
        command.set_defaults(run=module.run, refuse=command.error)
    return parser


def _program() -> str:
    started_as_module = os.path.basename(sys.argv[0]) != "numpy-norms"
    return "python -m numpy_norms" if started_as_module else "numpy-norms"

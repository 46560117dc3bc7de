"""What the programs here have in common: their options, and the file of their results."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def program(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of a program, which shows its description as it stands."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def measuring(
    name: str, description: str | None, results: Path, *, smoke: str
) -> argparse.ArgumentParser:
    """Return the parser of a program that measures, with the options `--smoke` and `--json`."""
    parser = program(name, description)
    parser.add_argument("--smoke", action="store_true", help=smoke)
    parser.add_argument("--json", type=Path, default=results, help="default: %(default)s")
    return parser


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; a smoke run must say where its results go."""
    options = parser.parse_args(arguments)
    if options.smoke and options.json == parser.get_default("json"):
        parser.error("a smoke run does not replace the measured results; pass --json FILE")
    return options


def keep(options: argparse.Namespace, where: dict[str, Any], **found: Any) -> dict[str, Any]:
    """Write what was found, and where, as JSON; return it."""
    report = {"setting": where, "smoke": options.smoke, **found}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nwritten: {options.json}")
    return report

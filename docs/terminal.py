"""Runs a command of the package on a page, as a terminal in docs/ would show it."""

from __future__ import annotations

import shlex
import sys
from contextlib import chdir, redirect_stderr
from pathlib import Path

from numpy_norms.cli import main


def terminal(command: str) -> int:
    """Print the command line and what the command prints; return its exit status."""
    print(f"$ python -m numpy_norms {command}")
    with chdir(Path(__file__).parent), redirect_stderr(sys.stdout):
        try:
            return main(shlex.split(command))
        except SystemExit as end:  # argparse prints what is wrong, and exits
            return int(end.code or 0)

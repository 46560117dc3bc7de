"""Arguments and notices that several commands share."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches


def norm_among(norms: Sequence[str]) -> Callable[[str], str]:
    """Return an argparse type that takes the name of one of `norms`."""

    def norm(text: str) -> str:
        name = text.replace("-", "_").lower()
        if name in norms:
            return name
        close = get_close_matches(name, norms, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        if text.strip("-,").isdecimal():  # what was left of a list
            meant = "; write a list of numbers as one word, 2,6,4,4 say"
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(norms)}{meant}")

    return norm


def integers(text: str) -> tuple[int, ...]:
    """Take sizes or axes: whole numbers with commas between them."""
    try:
        return tuple(int(word) for word in text.replace("x", ",").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of integers such as 2,6,4,4"
        ) from None


def seed(text: str) -> int:
    """Take a seed: a whole number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def filename(text: str) -> str:
    """Take the name of a file or folder, which an unset variable of a shell is not."""
    if not text:
        raise argparse.ArgumentTypeError("'' is no name; pass that of a file or folder")
    return text


def seconds(text: str) -> float:
    """Take a limit of time: a number of seconds above 0, a day at most."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; expected seconds, more than 0 and at most 86400"
        )
    return value


class Progress:
    """Says on stderr what a run is at, once it has taken longer than `patience` seconds."""

    def __init__(self, patience: float = 2.0) -> None:
        self.start = time.monotonic()
        self.patience = patience
        self.shown = ""

    def __call__(self, line: str) -> None:
        """Replace the line shown before by this one; the empty line ends the notice."""
        if line and time.monotonic() - self.start < self.patience:
            return
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif line and line != self.shown:
            print(line, file=sys.stderr, flush=True)
        self.shown = line

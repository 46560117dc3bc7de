"""Tables on a terminal, in a pipe, in colour or without: standard library only."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "bold": "1", "dim": "2"}
VERDICTS = {"ok": "green", "DIFFERS": "red", "not installed": "dim"}
ASCII = str.maketrans({"─": "-", "×": "x", "→": "->", "²": "^2", "≥": ">=", "≤": "<=", "·": "*"})
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def paint(text: str, style: str, file: TextIO | None = None) -> str:
    """Return `text` in a style of ``CODES``, or unchanged where colour is not wanted."""
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if _wants_colour(file or sys.stdout) else text


def print_text(text: str, file: TextIO | None = None, *, flush: bool = False) -> None:
    """Print `text`, in ASCII where the stream is not UTF-8."""
    stream = file or sys.stdout
    encoding = (stream.encoding or "utf-8").lower().replace("-", "")
    if encoding != "utf8":
        text = text.translate(ASCII).encode("ascii", "replace").decode("ascii")
    print(text, file=stream, flush=flush)


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    align: str = "",
    file: TextIO | None = None,
) -> None:
    """Print `rows` under `header`; one record below the other where a line would be too long.

    `align` has one letter per column, ``l`` or ``r``; missing letters mean ``l`` for the first
    column and ``r`` for the others. Cells may carry colour from `paint`; a cell that is a verdict
    ("ok", "DIFFERS", "not installed") is coloured here.
    """
    stream = file or sys.stdout
    align = (align or "l").ljust(len(header), "r")
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    if sum(widths) + 2 * len(widths) - 2 > _columns(stream):
        _print_records(header, rows, stream)
        return
    for number, line in enumerate(lines):
        cells = [_cell(*each, stream) for each in zip(line, widths, align, strict=True)]
        print_text("  ".join(cells).rstrip(), stream)
        if number == 0:
            print_text("─" * (sum(widths) + 2 * len(widths) - 2), stream)


def _print_records(header: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    names = max(map(_width, header))
    for number, row in enumerate(rows):
        if number:
            print_text("", stream)
        for name, text in zip(header, row, strict=True):
            for line in _wrapped(text, _columns(stream) - names - 2):
                print_text(f"{name:<{names}}  {_cell(line, 0, 'l', stream)}", stream)
                name = ""


def _wrapped(text: str, width: int) -> list[str]:
    """Break a cell into lines where it is longer than they are; colours stay as they are."""
    if _width(text) <= width or ESCAPE.search(text):
        return [text] if text else []
    return textwrap.wrap(text, max(width, 12))


def _cell(text: str, width: int, align: str, stream: TextIO) -> str:
    shown = paint(text, VERDICTS[text], stream) if text in VERDICTS else text
    padding = " " * (width - _width(text))
    return shown + padding if align == "l" else padding + shown


def _width(text: str) -> int:
    return len(ESCAPE.sub("", text))


def _columns(stream: TextIO) -> int:
    """The width of a terminal, or that which COLUMNS asks for; a pipe has room for everything."""
    if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns
    return sys.maxsize


def _wants_colour(stream: TextIO) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"

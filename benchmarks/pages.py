"""What a benchmark says as a page: on the screen, or in a file."""

from collections.abc import Iterable
from pathlib import Path


def deliver(lines: Iterable[str], out: Path | None) -> None:
    """Print the lines of a page, or write them to a file."""
    text = "\n".join(lines)
    if out is None:
        print(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")

"""Write what the pages show and do not compute: pictures, tables, what commands print.

`python docs/make_pages.py [PAGE ...]`, all pages without a name. The tests hold that tables and
output are current, and the build of the pages that pictures are.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from contextlib import (
    ExitStack,
    chdir,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from io import StringIO
from pathlib import Path
from unittest.mock import patch

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT)]

from numpy_norms.cli import main as command_line  # noqa: E402

import pictures  # noqa: E402
import tables  # noqa: E402

TABLE = re.compile(
    r"<!-- begin table (\w+)(?: (\w+))? -->\n.*?<!-- end table -->", re.DOTALL
)
CONSOLE = re.compile(
    r"^```console\n\$ python -m numpy_norms (.*)\n((?:(?!```|\$ ).*\n)+)```$",
    re.MULTILINE,
)

PROGRESS = re.compile(r"^\d+ of \d+: .*\n", re.MULTILINE)  # after 2 seconds


def printed(command: str) -> str:
    """Return what a command prints, run in the root of the clone on a wide page."""
    stream = StringIO()
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, COLUMNS="100"))
        stack.enter_context(chdir(ROOT))
        stack.enter_context(redirect_stdout(stream))
        stack.enter_context(redirect_stderr(stream))
        # argparse exits when it has printed what is wrong.
        stack.enter_context(suppress(SystemExit))
        command_line(shlex.split(command))
    return PROGRESS.sub("", stream.getvalue())


def renewed(text: str) -> str:
    """Return the page with its tables and its commands' output made anew."""
    text = TABLE.sub(
        lambda found: (
            f"{found[0].splitlines()[0]}\n\n"
            f"{getattr(tables, found[1])(*filter(None, [found[2]]))}\n\n"
            "<!-- end table -->"
        ),
        text,
    )
    return CONSOLE.sub(
        lambda found: (
            f"```console\n$ python -m numpy_norms {found[1]}\n"
            f"{printed(found[1]).rstrip()}\n```"
        ),
        text,
    )


def main(names: list[str]) -> None:
    """Renew the pages that are named."""
    for path in map(Path, names or sorted(map(str, DOCS.glob("*.md")))):
        text = path.read_text("utf-8")
        path.write_text(renewed(text), "utf-8")
        with chdir(ROOT):
            for name, picture in pictures.drawn(text):
                for kind, ink in pictures.INKS.items():
                    file = pictures.file_of(name, kind)
                    file.write_text(f"{picture.file_text(ink)}\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Every page with Python in it as a notebook: `python docs/notebooks.py FOLDER`."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
FENCE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
PICTURE = re.compile(
    r'^<picture>\n.*?<img alt="([^"]*)" src="(pictures/[^"]+)">\n</picture>$',
    re.M | re.S,
)
LINK = re.compile(r"\]\(([\w/-]+)\.md(?:#[\w-]*)?\)")


@cache
def pages() -> tuple[Path, ...]:
    """Return the pages that have something to run."""
    found = sorted(DOCS.glob("*.md"))
    return tuple(p for p in found if FENCE.search(p.read_text("utf-8")))


def notebook(page: Path) -> dict[str, Any]:
    """Return a page as a notebook: its text, its Python, its pictures inside."""
    cells = [
        {"id": f"cell-{k}", "metadata": {}} | cell
        for k, cell in enumerate(_cells(page.read_text("utf-8")))
    ]
    kernel = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": kernel,
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def write(folder: Path) -> None:
    """Write every page as a notebook."""
    folder.mkdir(parents=True, exist_ok=True)
    for page in pages():
        text = json.dumps(notebook(page), indent=1, ensure_ascii=False)
        (folder / f"{page.stem}.ipynb").write_text(f"{text}\n", "utf-8")


def _cells(text: str) -> Iterator[dict[str, Any]]:
    last = 0
    for fence in FENCE.finditer(text):
        yield from _prose(text[last : fence.start()])
        yield {
            "cell_type": "code",
            "execution_count": None,
            "outputs": [],
            "source": fence[1].rstrip("\n"),
        }
        last = fence.end()
    yield from _prose(text[last:])


def _prose(text: str) -> Iterator[dict[str, Any]]:
    text = re.sub(r"^:::.*?^:::$", "", text, flags=re.M | re.S)
    text = LINK.sub(
        lambda link: (
            f"]({link[1]}.ipynb)"
            if DOCS / f"{link[1]}.md" in pages()
            else f"](../{link[1]}.html)"
        ),
        text,
    )
    text = PICTURE.sub(_embedded, text).strip()
    if text:
        yield {"cell_type": "markdown", "source": text}


def _embedded(picture: re.Match[str]) -> str:
    """Return an image that needs no file beside the notebook, on white as its ink demands."""
    data = base64.b64encode((DOCS / picture[2]).read_bytes()).decode()
    return (
        f'<img alt="{picture[1]}" style="background: white" '
        f'src="data:image/svg+xml;base64,{data}">'
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]))

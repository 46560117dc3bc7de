"""Find what a built page would fetch from another host; a reader's plain links do not count."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
FETCHED_LINKS = {
    "stylesheet",
    "icon",
    "preload",
    "modulepreload",
    "prefetch",
    "preconnect",
}
FOREIGN = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
STYLE_FETCH = re.compile(
    r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE
)


class PageReader(HTMLParser):
    """Collects the addresses on other hosts that a browser would ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []
        self.in_style = False

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        values = {name: value or "" for name, value in attrs}
        self.in_style = tag == "style"
        names = FETCHED.get(tag, ())
        if tag == "link" and FETCHED_LINKS & set(
            values.get("rel", "").lower().split()
        ):
            names = ("href",)
        self.foreign += [
            values[n] for n in names if FOREIGN.match(values.get(n, ""))
        ]
        self.foreign += STYLE_FETCH.findall(values.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.foreign += STYLE_FETCH.findall(data)


def foreign_requests(page: str) -> list[str]:
    """Return the addresses on other hosts that this HTML page makes a browser fetch."""
    reader = PageReader()
    reader.feed(page)
    reader.close()
    return reader.foreign


def foreign_requests_of_site(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield (file, address) for every page and style sheet under `root`."""
    for path in sorted(root.rglob("*.html")):
        for address in foreign_requests(path.read_text(encoding="utf-8")):
            yield path.relative_to(root), address
    for path in sorted(root.rglob("*.css")):
        for address in STYLE_FETCH.findall(path.read_text(encoding="utf-8")):
            yield path.relative_to(root), address


def setup(app: Any) -> dict[str, Any]:
    """Make the build warn, and so fail, when a page asks another host for anything."""
    from sphinx.util import logging

    logger = logging.getLogger(__name__)

    def check(app: Any, exception: Exception | None) -> None:
        if exception is None and app.builder.format == "html":
            for path, address in foreign_requests_of_site(Path(app.outdir)):
                logger.warning(
                    "%s asks another host: %s", path, address, type="offline"
                )

    app.connect("build-finished", check)
    return {
        "version": "1",
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }

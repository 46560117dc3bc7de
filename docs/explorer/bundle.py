"""Write numpy_norms/explorer.html: the page with its style and one classic script inside.

Browsers load no modules from file://, so the page that is read is this one; the package has it, and
the site. A test keeps it current: `python docs/explorer/bundle.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
BUNDLE = HERE.parents[1] / "numpy_norms" / "explorer.html"
# Each after those that it imports.
MODULES = (
    "core.mjs",
    "state.mjs",
    "example.mjs",
    "draw.mjs",
    "controls.mjs",
    "view.mjs",
)


def explorer_page() -> str:
    """Return index.html with its style sheet and its modules inside."""
    page = (HERE / "index.html").read_text("utf-8")
    style = f"<style>\n{(HERE / 'explorer.css').read_text('utf-8')}</style>"
    code = "".join(map(_without_imports, MODULES))
    script = f'<script>\n"use strict";\n(() => {{\n{code}}})();\n</script>'
    page = _replace(page, '<link rel="stylesheet" href="explorer.css">', style)
    page = re.sub(
        r"<!-- source -->.*<!-- /source -->\n", "", page, flags=re.DOTALL
    )
    return _replace(
        page, '<script type="module" src="view.mjs"></script>', script
    )


def _without_imports(name: str) -> str:
    code = (HERE / name).read_text("utf-8")
    code = re.sub(
        r'^import \{[^}]*\} from "[^"]*";\n', "", code, flags=re.MULTILINE
    )
    return re.sub(r"^export ", "", code, flags=re.MULTILINE)


def _replace(page: str, old: str, new: str) -> str:
    if page.count(old) != 1:
        raise ValueError(
            f"index.html has {page.count(old)} times {old!r}; expected it once"
        )
    return page.replace(old, new)


if __name__ == "__main__":
    BUNDLE.write_text(explorer_page(), "utf-8")

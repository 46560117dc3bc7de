"""Make the explorer one page that needs nothing beside it: browsers load no modules from file://."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
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
    script = f'<script type="module">\n{"".join(map(_without_imports, MODULES))}</script>'
    page = _replace(page, '<link rel="stylesheet" href="explorer.css">', style)
    return _replace(
        page, '<script type="module" src="view.mjs"></script>', script
    )


def write_explorer(folder: Path) -> Path:
    """Write the page as index.html into `folder` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(explorer_page(), "utf-8")
    return path


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
    print(write_explorer(Path(sys.argv[1])))

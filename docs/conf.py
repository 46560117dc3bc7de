"""Sphinx configuration: `sphinx-build -W -n --keep-going -E -b html docs build/docs`."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.util import logging

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT)]
# The kernels that run the pages import the package from this checkout, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), str(DOCS), *filter(None, [os.environ.get("PYTHONPATH")])]
)

project = "numpy_norms"
author = "the numpy_norms authors"
copyright = "the numpy_norms authors, MIT licence"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]["version"]
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "katex_math",
    "offline",
]
exclude_patterns = ["node_modules", "_build", "explorer", "**/.*"]
nitpicky = True

# Pages: plain Markdown, every ```python fence executed (see pages.py).
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}
nb_custom_formats = {".md": ["pages.read_page", {}, False]}
nb_execution_mode = "force"
nb_execution_show_tb = True  # in a warning, which -W makes an error
nb_execution_timeout = 300
nb_merge_streams = True
myst_enable_extensions = [
    "dollarmath",
    "amsmath",
    "colon_fence",
    "deflist",
    "attrs_inline",
]
myst_heading_anchors = 4
myst_dmath_double_inline = True
html_math_renderer = "katex_build"

# Reference: one page per function, from the docstrings.
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
# Not asked for: an example or a cross-reference where there is nothing to add, an
# extended summary, a sentence about what its name and its type already say, results
# told twice where the first line tells of them, one entry for each of several arrays.
numpydoc_validation_checks = {
    "all", "EX01", "SA01", "ES01", "GL08",
    "PR03", "PR07", "RT01", "RT02", "RT03", "RT04",
}  # fmt: skip
# Tuples, whose docstrings tell of their fields in prose.
numpydoc_validation_exclude = {
    r"\.(Cache|Convention|FoundNorm|Fused|State|Tolerances)$"
}

html_theme = "pydata_sphinx_theme"
html_title = "numpy_norms"
html_static_path = ["_static"]
html_sidebars = {"**": ["all-pages"]}
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_copy_source = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "navbar_center": [],
    # The page that shows the files needs room for lines of 100 characters.
    "secondary_sidebar_items": {"**": ["page-toc"], "code": []},
    "footer_start": ["copyright"],
    "footer_end": [],
}


class AxisCubes(Directive):
    """Draw the cubes of the norms that are named; the reference pages use it."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        from cubes import axis_cubes

        html = axis_cubes(*self.arguments[0].split())._repr_html_()
        return [nodes.raw("", html, format="html")]


def check_reference(app: Any, env: Any) -> None:
    """Warn, and so stop the build, if a public name has no page."""
    import numpy_norms
    from numpy_norms import conventions, verify

    pages = {name.rpartition("/")[2] for name in env.found_docs}
    public = {
        f"{module.__name__}.{name}"
        for module in (numpy_norms, conventions, verify)
        for name in module.__all__
        if not name.isupper()
    }
    for name in sorted(public - pages):
        logging.getLogger(__name__).warning("docs/api/index.md lacks %s", name)


def escape_stars(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Take the star of a shape such as (N, C, *S) for a star, and not for emphasis."""
    for k, line in enumerate(lines):
        prose_and_code = line.split("``")
        prose_and_code[::2] = [
            re.sub(r"(?<=[(, ])\*(?=[A-Za-z])", r"\\*", prose)
            for prose in prose_and_code[::2]
        ]
        lines[k] = "``".join(prose_and_code)


def write_explorer(app: Any) -> None:
    """Put the interactive page, one file that needs no other, beside the built pages."""
    from explorer import inline

    inline.write_explorer(Path(app.outdir) / "explorer")


def setup(app: Any) -> None:
    """Register what only this site needs."""
    app.add_directive("axis-cubes", AxisCubes)
    app.connect("env-updated", check_reference)
    app.connect("autodoc-process-docstring", escape_stars, priority=400)
    app.connect("builder-inited", write_explorer)

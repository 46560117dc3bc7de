"""Pages are plain Markdown; the build and the tests run the same ```python fences in them."""

from __future__ import annotations

from typing import Any

from myst_nb.core.read import read_myst_markdown_notebook


def read_page(text: str) -> Any:
    """Read one Markdown page as a notebook whose cells are its ```python fences."""
    notebook = read_myst_markdown_notebook(
        text, code_directive="python", add_source_map=True
    )
    notebook.metadata.setdefault(
        "kernelspec", {"name": "python3", "display_name": "Python 3"}
    )
    notebook.metadata["language_info"] = {"name": "python"}
    if not any(cell.cell_type == "code" for cell in notebook.cells):
        # A kernel costs a second to start, even for a page with nothing to run.
        notebook.metadata["mystnb"] = {"execution_mode": "off"}
    return notebook

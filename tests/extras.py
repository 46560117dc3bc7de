"""What the extra `test-all` adds to `test`: tests that need it say so where it is missing."""

from importlib.util import find_spec

import pytest


def need(*packages):
    """Skip this test, or the rest of this file, unless all ``packages`` can be imported."""
    __tracebackhide__ = True  # the report is to name the test
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        pytest.skip(f"needs {names}: pip install '.[test-all]'", allow_module_level=True)

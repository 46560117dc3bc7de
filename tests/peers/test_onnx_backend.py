"""ONNX' backend tests of norms, alone and written out in many nodes, by its own runner."""

import importlib
import pkgutil
import re
import unittest
import warnings

import onnx
import pytest
from each import each
from onnx.backend.base import Backend, BackendRep

from numpy_norms.onnx import evaluator

NORMS = r"(?i)(batch|instance|group|layer|rms|l\d|lp)_?norm|_mvn|_lrn"
WAYS = {"fused": True, "as it is": False}
LEAST = 115  # version 1.23 has 121


class _Rep(BackendRep):
    def __init__(self, model, fuse):
        self.evaluator = evaluator(model, fuse=fuse)

    def run(self, inputs, **options):
        names = self.evaluator.input_names
        return tuple(self.evaluator.run(None, dict(zip(names, inputs, strict=False))))


def backend(fuse):
    """Return the backend that ONNX' runner asks for."""

    class NumpyNorms(Backend):
        @classmethod
        def is_compatible(cls, model, device="CPU", **options):
            return True

        @classmethod
        def prepare(cls, model, device="CPU", **options):
            return _Rep(model, fuse)

        @classmethod
        def supports_device(cls, device):
            return device == "CPU"

    return NumpyNorms


def import_norms(package):
    """Import the modules that make the runner's tests of norms."""
    for module in pkgutil.iter_modules(package.__path__):
        if re.search("norm|lrn", module.name):
            importlib.import_module(f"{package.__name__}.{module.name}")


def collect(fuse):
    """Collect the runner's tests of norms: name -> test."""
    from onnx.backend.test import BackendTest, loader

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(loader, "import_recursive", import_norms)  # all would take ten seconds
        runner = BackendTest(backend(fuse), __name__)
    return {
        name: case(name)
        for case in runner.test_cases.values()
        for name in dir(case)
        if name.startswith("test_") and name.endswith("_cpu") and re.search(NORMS, name)
        and not getattr(getattr(case, name), "__unittest_skip__", False)
    }  # fmt: skip


@each("way", WAYS)
def test_no_value_is_wrong_in_the_tests_of_onnx(way):
    tests = collect(WAYS[way])
    result = unittest.TestResult()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for test in tests.values():
            test.run(result)
    assert result.errors + result.failures == []
    ran = result.testsRun - len(result.skipped)
    print(f"ONNX {onnx.__version__}, {way}: {ran} tests, no value wrong")
    assert ran >= LEAST

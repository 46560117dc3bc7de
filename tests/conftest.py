"""Settings of the whole suite: threads, Hypothesis profiles and the state of the processor."""

import io
import os
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module

import numpy as np
import pytest
from _pytest.doctest import DoctestModule
from hypothesis import HealthCheck, settings

from numpy_norms.commands import isolated
from numpy_norms.engine import programs

# The workers have a core each; threads of PyTorch's that wait for one cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """Look for no doctests here: there are none, and it would take seconds."""
    return [found for found in (yield) if not isinstance(found, DoctestModule)]


quiet = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=30, derandomize=True, database=None, **quiet)
settings.register_profile("ci", settings.get_profile("dev"), max_examples=60, print_blob=True)
settings.register_profile("nightly", max_examples=10_000, **quiet)
settings.load_profile("dev")


@pytest.fixture(scope="session", autouse=True)
def _subnormal_numbers_survive():
    """Fail if a library in the process flushes them to zero (built with -ffast-math)."""
    yield
    for dtype in (np.float32, np.float64):
        tiny = np.full(1000, np.finfo(dtype).smallest_subnormal)
        assert (tiny * dtype(1) > 0).all(), "subnormal numbers are flushed to zero"


@pytest.fixture
def rng():
    """Draw the same random numbers in every test, whatever ran before."""
    return np.random.default_rng(20150211)


@pytest.fixture
def _without_programs():
    """Have no program of another test run in this one, nor the other way round."""
    programs.kind.cache_clear()
    yield
    programs.kind.cache_clear()


@pytest.fixture
def _in_this_process(monkeypatch):
    """Run here what runs in a process of its own, where a test asks only for what is said."""

    def run(task, request, **limits):
        module, _, function = task.partition(":")
        sent, printed = [], io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(import_module(module), function)(request, sent.append)
        return isolated.Outcome(tuple(sent), "", printed.getvalue())

    monkeypatch.setattr(isolated, "run", run)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

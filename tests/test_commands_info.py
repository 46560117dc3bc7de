"""`info`: it says what is true of this machine."""

import json
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

import numpy_norms
from numpy_norms.cli import main
from numpy_norms.commands import info
from numpy_norms.engine import threads


@pytest.fixture
def facts(capsys):
    """What `info --json` prints."""
    assert main(["info", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_versions_are_those_in_use(facts):
    assert facts["versions"]["numpy_norms"] == numpy_norms.__version__
    assert facts["versions"]["NumPy"] == np.__version__
    assert facts["versions"]["Python"] == sys.version.split()[0]
    assert facts["versions"]["threads"] == numpy_norms.get_num_threads()


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_the_numbers_of_a_dtype_are_those_of_numpy(facts, name):
    row = next(row for row in facts["dtypes"] if row["dtype"] == name)
    expected = np.finfo(name)
    assert float(row["roundoff"]) == float(expected.eps) / 2
    assert float(row["largest"]) == float(expected.max)
    assert float(row["smallest_normal"]) == float(expected.smallest_normal)
    assert float(row["smallest"]) == float(expected.smallest_subnormal)


def test_an_extra_that_is_not_there_is_not_installed(capsys, monkeypatch):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(info, "version", version)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert out.count("not installed") == len(info.EXTRAS)
    assert "bfloat16 " not in out.split("extra")[0]


def test_every_package_of_an_extra_is_listed():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    first = list(extras)[: list(extras).index("test")]  # the others are for work on it
    packages = {re.match(r"\w+", need)[0] for name in first for need in extras[name]}
    assert set(info.EXTRAS) == packages - {"numpy_norms", "mpich"}


def test_a_wrong_number_of_threads_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv(threads.VARIABLE, "many")
    monkeypatch.setattr(threads, "_chosen", None)
    assert main(["info"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert threads.VARIABLE in err

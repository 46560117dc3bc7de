"""What would be released is one thing: its version, what is in it, and what it says of itself."""

import re
import tomllib
from pathlib import Path

import pytest

import numpy_norms

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def text_of(name):
    return (ROOT / name).read_text("utf-8")


def test_the_version_is_said_once_and_repeated_rightly():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"] == {
        "version": {"attr": "numpy_norms.__version__"}
    }
    assert re.search(r"^version: (.*)$", text_of("CITATION.cff"), re.M)[1] == (
        numpy_norms.__version__
    )
    assert re.search(r"^## (\S+?),? ", text_of("CHANGELOG.md"), re.M)[1] == numpy_norms.__version__


def test_every_file_that_is_no_module_is_in_the_wheel():
    package = ROOT / "numpy_norms"
    others = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert others == set(PROJECT["tool"]["setuptools"]["package-data"]["numpy_norms"])


def test_every_folder_of_modules_is_a_package():
    package = ROOT / "numpy_norms"
    folders = {path.parent for path in package.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_citation_has_what_the_format_demands():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["project"]["license"]


def test_nothing_that_is_read_is_unpickled():
    code = [path.read_text("utf-8") for path in (ROOT / "numpy_norms").rglob("*.py")]
    assert not any(re.search(r"^\s*(import|from) pickle|allow_pickle=True", c, re.M) for c in code)


def test_the_python_versions_are_those_that_are_required():
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert named == ["3.11", "3.12", "3.13", "3.14", "3.15"]
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"

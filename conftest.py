"""The tests run the Python blocks of the README, in order, in one namespace."""

from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md"],
    excludes=["*/README.md"],
).pytest()

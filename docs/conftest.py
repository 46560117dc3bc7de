"""The tests run the Python blocks of every page, in order, one namespace per page."""

from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

# The build's own modules need Sphinx, which the tests do not.
collect_ignore_glob = ["*.py"]

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["*.md"]
).pytest()

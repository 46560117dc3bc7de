r"""The numbers in the code's comments and the equations of the pages are the same numbers.

(12) belongs to the derivation page; (L1) would belong to a series of its own, on its own page.
A letter alone, `\tag{c}`, is a step that exists on paper only.
"""

import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"\(([A-Z]*\d+)\)")
TAG = re.compile(r"\\tag\{([A-Z]*\d+)\}")


def cited() -> dict[str, list[str]]:
    """Equation number -> the places of the comments in the package that cite it."""
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "numpy_norms").rglob("*.py")):
        with tokenize.open(path) as file:
            comments = [
                t for t in tokenize.generate_tokens(file.readline) if t.type == tokenize.COMMENT
            ]
        for comment in comments:
            for number in NUMBER.findall(comment.string):
                places.setdefault(number, []).append(f"{path.name}:{comment.start[0]}")
    return places


def derived() -> Counter[str]:
    """Equation number -> how often a page has it as a tag."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    return Counter(tag for page in pages for tag in TAG.findall(page.read_text("utf-8")))


CITED, DERIVED = cited(), derived()


@pytest.mark.parametrize("number", sorted(CITED))
def test_every_number_in_the_code_has_its_equation_on_a_page(number: str) -> None:
    assert number in DERIVED, f"({number}) is cited at {CITED[number]}, but no page derives it"


@pytest.mark.parametrize("number", sorted(DERIVED))
def test_every_numbered_equation_is_cited_in_the_code(number: str) -> None:
    assert number in CITED, f"a page derives ({number}), but no comment in the package cites it"


@pytest.mark.parametrize("number", sorted(DERIVED))
def test_every_equation_is_numbered_once(number: str) -> None:
    assert DERIVED[number] == 1


def test_the_derivation_page_has_the_equations_1_to_17() -> None:
    page = (ROOT / "docs" / "derivation.md").read_text("utf-8")
    assert TAG.findall(page) == [str(n) for n in range(1, 18)]

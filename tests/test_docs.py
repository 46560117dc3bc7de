"""What must hold of the pages and can be seen without building the site."""

import re
import sys
from pathlib import Path

import pytest

import numpy_norms
from numpy_norms.cli import main

DOCS = Path(__file__).parents[1] / "docs"
sys.path.append(str(DOCS))

from offline import foreign_requests  # noqa: E402

OWN = '<a href="https://example.org"></a><img src="_static/a.svg"><script src="b.js"></script>'
FOREIGN = [
    '<script src="https://example.org/a.js"></script>',
    '<script src="//example.org/a.js"></script>',
    '<link rel="stylesheet" href="http://example.org/a.css">',
    '<link rel="preload" as="font" href="https://example.org/a.woff2">',
    '<img src="HTTPS://example.org/a.png">',
    '<img srcset="https://example.org/a.png 2x">',
    '<p style="background: url(https://example.org/a.png)"></p>',
    '<style>@import "https://example.org/a.css";</style>',
    '<svg><image xlink:href="https://example.org/a.png"/></svg>',
]


@pytest.mark.parametrize("page", FOREIGN)
def test_a_request_to_another_host_is_found(page: str) -> None:
    assert len(foreign_requests(OWN + page + OWN)) == 1


def test_links_for_the_reader_and_own_files_are_no_requests() -> None:
    assert foreign_requests(OWN) == []


def test_every_public_name_has_a_page_in_the_reference() -> None:
    listed = set(re.findall(r"^   (\w+)$", (DOCS / "api" / "index.md").read_text("utf-8"), re.M))
    assert set(numpy_norms.__all__) - listed == set()


def test_the_twenty_questions_are_headings() -> None:
    page = (DOCS / "faq.md").read_text("utf-8")
    assert len(re.findall(r"^### ", page, re.M)) == 20


def test_every_page_is_plain_markdown_with_one_title() -> None:
    for page in DOCS.glob("*.md"):
        text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
        assert len(re.findall(r"^# ", text, re.M)) == 1, page.name
        assert text.startswith("# "), page.name


def test_the_lab_sheet_is_its_solution_with_blanks() -> None:
    sheet, solution = (
        (DOCS / "lab" / name).read_text("utf-8").split("def E(a)")[1].splitlines()
        for name in ("sheet.py", "solution.py")
    )
    assert sum("= ..." in line for line in sheet) == 21
    for blank, filled in zip(sheet, solution, strict=True):
        name, dots, number = blank.partition("= ...")
        assert filled.startswith(name + "= " if dots else blank)
        assert filled.endswith(number if dots else blank)


CONSOLE = re.compile(
    r"^```console\n\$ python -m numpy_norms (show .*)\n((?:(?!```).*\n)+)```$", re.M
)


def test_what_show_prints_on_a_page_is_what_it_prints(capsys) -> None:
    found = [m for page in DOCS.glob("*.md") for m in CONSOLE.finditer(page.read_text("utf-8"))]
    assert found
    for command, printed in (m.groups() for m in found):
        main(command.split())
        assert capsys.readouterr().out == printed

"""The numbers of equations in `further/` are those of their page, and the other way round."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERIES = "[WSBGLPV]"


def test_each_number_in_a_comment_is_an_equation_of_the_page_and_all_series_are_counted():
    page = (ROOT / "docs" / "further_norms.md").read_text("utf-8")
    code = "".join(p.read_text("utf-8") for p in (ROOT / "numpy_norms" / "further").glob("*.py"))
    tags = re.findall(rf"\\tag\{{({SERIES}\d+)\}}", page)
    comments = [line.partition("# ")[2] for line in code.splitlines()]
    cited = set(re.findall(rf"\(({SERIES}\d+)\)", " ".join(comments)))
    assert cited <= set(tags)
    # The first of a series may be the definition alone; a gradient may be an equation of the core.
    assert set(tags) - cited <= {"W1"}
    for letter in SERIES[1:-1]:
        numbers = [int(t[1:]) for t in tags if t[0] == letter]
        assert numbers == list(range(1, len(numbers) + 1))

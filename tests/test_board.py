"""One board: the lesson, its pages and the command `trace` have the same six numbers and names."""

import re
from pathlib import Path

import numpy as np
from each import each

from numpy_norms.commands import trace, trace_steps

ROOT = Path(__file__).parents[1]
BOARD = trace_steps.example("layer_norm")
ARRAYS = ("x", "gamma", "beta", "dy")
ARRAY = re.compile(r"\b(x|gamma|beta|dy|board_x) = (np\.array\(\[[-\d\s.,\[\]]*\]\))")
PAIR = re.compile(r"^gamma, beta = (np\.array\(.*?\)), (np\.array\(.*?\))$", re.M)


def blocks(name):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text("utf-8"), re.M | re.S)


def literals(name):
    """The arrays that a page writes out, the last of a name where it comes twice."""
    text = "\n".join(blocks(name))
    found = {name: eval(code, {"np": np}) for name, code in ARRAY.findall(text)}
    for gamma, beta in PAIR.findall(text):
        found |= {"gamma": eval(gamma, {"np": np}), "beta": eval(beta, {"np": np})}
    return found


@each("page", ["README.md", "docs/start.md"])
def test_a_page_that_begins_has_the_board(page):
    found = literals(page)
    assert {name: found[name].tolist() for name in ARRAYS} == {
        name: getattr(BOARD, name).reshape(found[name].shape).tolist() for name in ARRAYS
    }


def test_the_derivation_has_the_board_at_every_step():
    text = "\n".join(blocks("docs/derivation.md"))
    for name, code in ARRAY.findall(text):
        assert eval(code, {"np": np}).tolist() == getattr(BOARD, name).tolist(), name
    assert {name for name, _ in ARRAY.findall(text)} == set(ARRAYS)


def test_batch_norm_has_the_same_numbers_down_its_columns():
    found = literals("docs/batch-norm-by-hand.md")
    e = trace_steps.example("batch_norm")
    assert found["x"].tolist() == BOARD.x.T.tolist() == e.x.tolist()
    assert found["dy"].tolist() == BOARD.dy.T.tolist() == e.dy.tolist()
    for name in ("gamma", "beta"):
        assert found[name].tolist() == getattr(BOARD, name)[:2].tolist()


def test_the_drawing_in_space_is_of_the_second_row():
    assert literals("docs/geometry.md")["board_x"].tolist() == BOARD.x[1].tolist()


def test_the_lesson_prints_the_board():
    page = (ROOT / "docs" / "teach.md").read_text("utf-8")
    printed = page.partition("$ python -m numpy_norms trace layer_norm\n")[2].partition("```")[0]
    for row in [*BOARD.x, *BOARD.dy]:
        assert "".join(f"{value:8.3f}" for value in row).strip() in printed


NUMBERED = re.compile(r"^(?:    )?(\w+) = .*# \((\d+)\)", re.M)


@each("place", ["README.md", "docs/start.md", "docs/derivation.md", "docs/lab.md"])
def test_a_number_stands_at_the_same_name_as_in_trace(place):
    names = {}
    for step, (ahead, _, back, formula) in trace.FORMULAS.items():
        names |= {ahead.strip("()"): step, back.strip("()"): formula.partition(" = ")[0]}
    names |= {"13": "dx", "14": "dx", "18": "var"}
    lines = NUMBERED.findall("\n".join(blocks(place)))
    assert len(lines) >= 3
    for name, number in lines:
        assert re.sub(r"^(d?)running_", r"\1", name) == names[number], number

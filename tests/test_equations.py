r"""The equations in the code are those of the pages: same numbers, same names, and they are right.

(12) belongs to the derivation page; (L1) belongs to a series of its own, on its own page.
A letter alone, `\tag{c}`, is a step on the way to a number.
"""

import inspect
import re
import tokenize
from collections import Counter
from pathlib import Path

import longhand
import numpy as np
from cases import FIVE, INFERENCE, parametrize
from each import each
from measure import assert_close

from numpy_norms import equations as eq

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


def test_every_number_in_the_code_has_its_one_equation_on_a_page_and_the_other_way_round() -> None:
    in_code, on_pages = cited(), derived()
    assert not {n: places for n, places in in_code.items() if n not in on_pages}
    assert not on_pages.keys() - in_code.keys()
    assert not {n: times for n, times in on_pages.items() if times > 1}


def test_the_derivation_page_and_that_of_moments_have_the_equations_1_to_18() -> None:
    derived, merged = (
        TAG.findall((ROOT / "docs" / f"{page}.md").read_text("utf-8"))
        for page in ("derivation", "merging-moments")
    )
    assert merged == ["15", "16", "17"]
    assert derived == [*(str(n) for n in range(1, 15)), "18"]


# What the line of each number computes. RMS norm, inference and (18) compute again what others do.
COMPUTED = {1: "mean", 2: "var", 3: "rstd", 4: "x_hat", 5: "y", 6: "dbeta", 7: "dgamma"}
COMPUTED |= {8: "dx_hat", 9: "drstd", 10: "dvar", 11: "dmean", 12: "dx", 13: "dx", 14: "dx"}
COMPUTED |= {18: "var"}
LINE = re.compile(r"""^\s*"?(\w+)"?(?: [-+*]?=|:) .*# \((\d+)\)""", re.M)
PLACES = [
    "numpy_norms/equations.py",
    "numpy_norms/commands/trace_steps.py",
    "numpy_norms/verify/plain.py",
    "docs/derivation.md",
    "docs/batch-norm-by-hand.md",
    "docs/lab/solution.py",
]


@each("place", PLACES)
def test_a_number_means_the_same_line_everywhere(place: str) -> None:
    lines = LINE.findall((ROOT / place).read_text("utf-8"))
    assert len(lines) >= 8
    for name, number in lines:
        if int(number) in COMPUTED:
            assert name.replace("running_", "") == COMPUTED[int(number)], number


def test_the_equations_are_short_and_know_nothing_of_memory() -> None:
    functions = [f for _, f in inspect.getmembers(eq, inspect.isfunction)]
    assert len(functions) >= 10
    assert not {"out", "own"} & {p for f in functions for p in inspect.signature(f).parameters}
    assert len(inspect.getsource(eq).splitlines()) <= 110


# Of x in a view: its shape, the axes of a set, and the shape of gamma.
VIEWS = {
    "batch_norm": ((5, 3, 4), (0, 2), (1, 3, 1)),
    "layer_norm": ((5, 3, 4), (1, 2), (1, 3, 4)),
    "group_norm": ((5, 2, 3, 4), (2, 3), (1, 2, 3, 1)),
    "instance_norm": ((3, 4, 6), (2,), (1, 4, 1)),
    "rms_norm": ((5, 7), (1,), (1, 7)),
    "batch_norm_inference": ((5, 3, 4), (), (1, 3, 1)),
}


class Plain:
    """A norm's arguments as plain arrays, copied for each use, with NumPy's own means and sums."""

    def __init__(self, norm):
        self.view, self.over, self.parameter = VIEWS[norm.name]
        self.arrays, self.dy = norm.draw()
        self.M = self.E if norm.centered else lambda *_: 0.0

    def __call__(self, name):
        a = self.dy if name == "dy" else self.arrays.get(name, np.zeros(self.parameter))
        return a.reshape(self.view if name in ("x", "dy") else self.parameter).copy()

    def E(self, a, b=1.0):
        return np.mean(a * b, axis=self.over, keepdims=True)

    def S(self, a, b=1.0):
        broadcast = tuple(axis for axis, n in enumerate(self.parameter) if n == 1)
        return np.sum(a * b, axis=broadcast, keepdims=True)


@parametrize(FIVE)
def test_each_line_on_plain_arrays_is_the_definition(norm) -> None:
    plain, eps = Plain(norm), 0.3
    x, dy = plain.arrays["x"], plain.dy
    rules = {**longhand.rules(norm), "eps": eps}
    sets = {k: rules[k] for k in ("set_of", "eps", "centered")}
    parameters = {name: plain.arrays[name] for name in norm.parameters}

    mean, mean_square = eq.moments(plain("x"), plain.E, plain.M)
    var = eq.variance(mean, mean_square)
    rstd = eq.reciprocal_std(var, eps)
    members = [longhand.members(i, x.shape, rules["set_of"]) for i in np.ndindex(x.shape)]
    expected = [longhand.statistics(x, m, eps, norm.centered) for m in members]
    for got, of_each in zip((mean, var, rstd), zip(*expected, strict=True), strict=True):
        assert_close(np.broadcast_to(got, plain.view).ravel(), of_each, 1e-13)

    x_hat = eq.standardized(plain("x"), mean, rstd)
    assert_close(x_hat.reshape(x.shape), longhand.standardize(x, **sets), 1e-13)
    y = eq.output(x_hat.copy(), plain("gamma"), plain("beta"))
    assert_close(y.reshape(x.shape), longhand.forward(x, **rules, **parameters), 1e-13)

    dgamma, dbeta = eq.parameter_gradients(plain("dy"), x_hat, plain.S, plain.S)
    dx_hat = eq.scaled(plain("dy"), plain("gamma"))
    averages = eq.averages(dx_hat, x_hat, plain.E, plain.M)
    dx = eq.input_gradient(dx_hat, x_hat, rstd, *averages)
    expected = longhand.backward(dy, x, **rules, **parameters)
    for got, of_norm in zip((dx, dgamma, dbeta), expected, strict=True):
        if of_norm is not None:
            assert_close(got.reshape(of_norm.shape), of_norm, 1e-13)


@parametrize([norm for norm in FIVE if norm.centered])
def test_the_variance_is_the_same_about_any_pivot(norm, rng) -> None:
    plain = Plain(norm)
    x, pivot = plain("x"), 3 * rng.standard_normal(plain.E(plain("x")).shape)
    var = eq.variance(*eq.moments(x - pivot, plain.E, plain.E))
    assert_close(var, np.var(x, axis=plain.over, keepdims=True), 1e-13)


def test_without_a_mean_the_variance_is_the_mean_square(rng) -> None:
    mean_square = rng.random((5, 1))
    assert eq.variance(None, mean_square) is mean_square


def test_each_line_of_inference_on_plain_arrays_is_exact() -> None:
    plain, eps = Plain(INFERENCE), 0.3
    y_exact, exact = INFERENCE.exact(plain.arrays, plain.dy, eps=eps)

    mean, var = plain("running_mean"), plain("running_var")
    rstd = eq.reciprocal_std(var, eps)
    x_hat = eq.standardized(plain("x"), mean, rstd)
    y = eq.output(x_hat.copy(), plain("gamma"), plain("beta"))
    dgamma, dbeta = eq.parameter_gradients(plain("dy"), x_hat, plain.S, plain.S)
    dx_hat = eq.scaled(plain("dy"), plain("gamma"))
    sums = plain.S(dx_hat), plain.S(dx_hat, plain("x") - mean)
    dmean, dvar = eq.statistics_gradients(*sums, rstd)
    dx = eq.input_gradient_of_constants(dx_hat, rstd)

    gradients = dict(zip(exact, (dx, dmean, dvar, dgamma, dbeta), strict=True))
    for name, got in {"y": y, **gradients}.items():
        expected = (exact | {"y": y_exact})[name].value.hi
        assert_close(got.reshape(expected.shape), expected, 1e-13)

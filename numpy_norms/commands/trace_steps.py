"""A small example of every norm, one step at a time, each gradient beside a finite difference.

The steps are written out here once more, in the order of the derivation page and on a graph with a
name for every intermediate; `against_library` compares them with the public functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import numpy_norms

Array = NDArray[np.float64]
STENCIL = {1: 8 / 12, -1: -8 / 12, 2: -1 / 12, -2: 1 / 12}  # fourth order in the step


class Layout(NamedTuple):
    """How the six numbers lie: their shape, the axes of a set, and those of gamma and beta."""

    shape: tuple[int, ...]
    over: tuple[int, ...]
    along: tuple[int, ...]
    words: str


LAYOUTS = {
    "batch_norm": Layout((3, 2), (0,), (2,), "3 samples of 2 channels; each column is a set"),
    "batch_norm_inference": Layout((3, 2), (0,), (2,), "3 samples of 2 channels; no sets"),
    "layer_norm": Layout((2, 3), (1,), (3,), "2 samples of 3 features; each row is a set"),
    "group_norm": Layout((1, 2, 3), (1, 2), (2, 1), "2 channels of 3 positions; 1 group, 1 set"),
    "instance_norm": Layout((1, 2, 3), (2,), (2, 1), "2 channels of 3 positions; a row is a set"),
    "rms_norm": Layout((2, 3), (1,), (3,), "2 samples of 3 features; each row is a set"),
}


@dataclass(frozen=True)
class Example:
    """The arrays of an example; `mean` and `var` are the stored statistics of inference."""

    norm: str
    x: Array
    gamma: Array
    beta: Array
    dy: Array
    mean: Array
    var: Array
    eps: float

    @property
    def constants(self) -> bool:
        """Whether the statistics are given rather than computed from `x`."""
        return self.norm == "batch_norm_inference"

    def average(self, a: Array) -> Array:
        """E_A[a], at length one along the axes of a set."""
        return self.total(a) / self.total(np.ones_like(a))

    def total(self, a: Array) -> Array:
        """The sum over A, at length one along the axes of a set."""
        over = LAYOUTS[self.norm].over
        return np.add.reduce(a, axis=over, keepdims=True)


def example(norm: str, eps: float = 1e-5, seed: int | None = None) -> Example:
    """Return the six fixed numbers, or six random ones, in the layout that suits the norm."""
    x, dy = np.array([[1.0, 2, 6], [4, -1, 0]]), np.array([[1.0, 0, 0], [0.5, -1, 2]])
    gamma, beta = np.array([1.0, 2, -1]), np.array([0.5, 0, 1])
    mean, var = np.array([2.0, -1]), np.array([4.0, 2])
    if seed is not None:
        rng = np.random.default_rng(seed)
        x, dy = 2 + rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
        gamma, beta, mean = rng.normal(size=3), rng.normal(size=3), rng.normal(size=2)
        var = rng.uniform(0.5, 4, size=2)
    shape, _, along, _ = LAYOUTS[norm]
    if shape == (3, 2):
        x, dy = x.T, dy.T
    gamma, beta = (a[: max(along)].reshape(along) for a in (gamma, beta))
    return Example(norm, x.reshape(shape), gamma, beta, dy.reshape(shape), mean, var, eps)


def forward(e: Example, **replaced: Array) -> dict[str, Array]:
    """Every intermediate by name; one in `replaced` takes that value instead of its own."""
    v: dict[str, Array] = {}

    def step(name: str, value: Array) -> Array:
        v[name] = replaced.get(name, value)
        return v[name]

    x = step("x", e.x)
    mean: Any = 0.0
    if e.norm != "rms_norm":
        mean = step("mean", e.mean if e.constants else e.average(x))  # (1)
    var = step("var", e.var if e.constants else e.average((x - mean) ** 2))  # (2)
    rstd = step("rstd", (var + e.eps) ** -0.5)  # (3)
    x_hat = step("x_hat", rstd * (x - mean))  # (4)
    y = step("gamma", e.gamma) * x_hat
    if e.norm != "rms_norm":
        y = y + step("beta", e.beta)  # (5)
    step("y", y)
    return v


def backward(e: Example, v: dict[str, Array]) -> dict[str, Array]:
    """The gradient of sum(dy * y) by every intermediate."""
    rstd, x_hat = v["rstd"], v["x_hat"]
    dbeta = _sum_to(e.beta, e.dy)  # (6)
    dgamma = _sum_to(e.gamma, e.dy * x_hat)  # (7)
    dx_hat = v["gamma"] * e.dy  # (8)
    drstd = e.total(dx_hat * (v["x"] - v.get("mean", 0.0)))  # (9)
    dvar = -0.5 * rstd**3 * drstd  # (10)
    dmean = -rstd * e.total(dx_hat)  # (11)
    if e.constants:
        dx = rstd * dx_hat  # (14)
    elif e.norm == "rms_norm":
        dx = rstd * (dx_hat - x_hat * e.average(dx_hat * x_hat))  # (13)
    else:
        dx = rstd * (dx_hat - e.average(dx_hat) - x_hat * e.average(dx_hat * x_hat))  # (12)
    d = {"x": dx, "mean": dmean, "var": dvar, "rstd": drstd, "x_hat": dx_hat}
    d |= {"gamma": dgamma, "beta": dbeta, "y": e.dy}
    return {name: d[name].reshape(value.shape) for name, value in v.items()}


def arrows(e: Example, v: dict[str, Array], d: dict[str, Array]) -> dict[str, Array]:
    """The terms of step (c), by formula: one for each arrow into x; dx is their sum."""
    terms = {"rstd * dx_hat": v["rstd"] * d["x_hat"]}
    if not e.constants:
        m = v["x"].size // v["rstd"].size
        if "mean" in v:
            xc = v["x"] - v["mean"]
            terms["+ 2 / m * (x - mean) * dvar"] = 2 / m * xc * d["var"]
            terms["+ dmean / m"] = np.broadcast_to(d["mean"] / m, v["x"].shape)
        else:
            terms["+ 2 / m * x * dvar"] = 2 / m * v["x"] * d["var"]
    return terms


def _sum_to(parameter: Array, a: Array) -> Array:
    """Sum over the axes along which `parameter` was broadcast: the adjoint of broadcasting."""
    padded = (1,) * (a.ndim - parameter.ndim) + parameter.shape
    stretched = tuple(axis for axis, n in enumerate(padded) if n == 1)
    summed: Array = np.add.reduce(a, axis=stretched)
    return summed


def difference(e: Example, name: str, v: dict[str, Array]) -> Array:
    """The gradient of sum(dy * y) by one intermediate, from the forward steps alone."""
    value = v[name]
    step = 1e-3 * min(1.0, float(np.min(v["rstd"] ** -2)))
    slopes = np.zeros(value.shape)
    for i in np.ndindex(value.shape):
        move = np.zeros(value.shape)
        move[i] = step
        change = {k: forward(e, **{name: value + k * move})["y"] - v["y"] for k in STENCIL}
        slopes[i] = sum(w * np.sum(e.dy * change[k]) for k, w in STENCIL.items()) / step
    return slopes


@dataclass(frozen=True)
class Step:
    """An intermediate, its gradient, and how far a finite difference is from that."""

    name: str
    value: Array
    gradient: Array
    error: float


def trace(e: Example) -> list[Step]:
    """Every intermediate of the example, in the order in which it is computed."""
    v = forward(e)
    d = backward(e, v)
    return [Step(name, v[name], d[name], _error(difference(e, name, v), d[name])) for name in v]


def against_library(e: Example, steps: list[Step]) -> dict[str, float]:
    """How far y and the gradients of the arguments are from those of the public functions."""
    before: dict[str, list[Any]] = {"group_norm": [1], "batch_norm_inference": [e.mean, e.var]}
    between = before.get(e.norm, [])
    parameters = [a.ravel() for a in ((e.gamma,) if e.norm == "rms_norm" else (e.gamma, e.beta))]
    forward_pass = getattr(numpy_norms, f"{e.norm}_forward")
    y, cache = forward_pass(e.x, *between, *parameters, eps=e.eps)
    gradients = getattr(numpy_norms, f"{e.norm}_backward")(e.dy, cache)
    names = ["x", *(("mean", "var") if e.constants else ()), "gamma", "beta"]
    of = {step.name: step for step in steps}
    pairs = zip(names, gradients, strict=False)
    errors = {f"d{name}": _error(of[name].gradient.ravel(), d.ravel()) for name, d in pairs}
    return {"y": _error(of["y"].value, y)} | errors


def _error(a: Array, b: Array) -> float:
    """The largest difference, in units of the largest element of `b` where that exceeds one."""
    return float(np.max(np.abs(a - b)) / max(1.0, np.max(np.abs(b))))

"""What a value may have been multiplied by, with its name: sizes, and quantities of the norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy_norms.verify.plain import View, Work

__all__ = ["QUANTITIES", "SIZES", "Factor", "scalars"]

MEANS = {
    "m": "{} is summed where the average over m is meant",
    "1/m": "{} is divided by m, the size of a set, once more",
    "m/(m - 1)": "{} is divided by m - 1 instead of m",
    "m/(m - 2)": "{} is divided by m - 2 instead of m",
    "m/(m + 1)": "{} is divided by m + 1 instead of m",
    "m/sets": "{} is divided by the number of sets instead of their size m",
    "m/N": "{} is divided by the batch size N instead of m",
    "1/n": "{} is averaged over its n terms, which are added in the definition",
    "1/N": "{} is divided by the batch size N",
    "0": "{} is never computed: it is 0",
    "-1": "{} has the wrong sign",
    "2": "{} is counted twice",
    "1/2": "{} is halved",
}


@dataclass(frozen=True)
class Factor:
    """A factor with a name; `value` is taken on the four-axis view."""

    name: str
    value: Callable[[Work], Any]
    kind: str = "factor"

    def phrase(self, step: str, words: str) -> str:
        """Return what it means that a step is multiplied by it."""
        return MEANS.get(self.name, f"{{}} is multiplied by {self.name}").format(words)


def scalars(view: View, shape: tuple[int, ...], eps: float) -> dict[str, float]:
    """Return the sizes of a case by name: those that wrong factors are made of."""
    m, n, sizes = view.set_size, view.sum_size, view.shape
    count = math.prod(sizes) // max(m, 1)
    found = {
        "0": 0.0,
        "-1": -1.0,
        "2": 2.0,
        "1/2": 0.5,
        "m": float(m),
        "1/m": 1 / m,
        "m/(m - 1)": m / (m - 1) if m > 1 else math.nan,
        "m/(m - 2)": m / (m - 2) if m > 2 else math.inf,
        "(m - 1)/m": (m - 1) / m,
        "m/(m + 1)": m / (m + 1),
        "1/n": 1 / n,
        "n": float(n),
        "N": float(shape[0]),
        "1/N": 1 / shape[0],
        "m/sets": m / count,
        "m/N": m / shape[0],
        "m/n": m / n,
        "n/m": n / m,
        "1/sets": 1 / count,
        "sqrt(m)": math.sqrt(m),
        "1/sqrt(m)": 1 / math.sqrt(m),
        "eps": eps,
        "1 + eps": 1 + eps,
    }
    for size in (4, 8, 16, 32, 64, 128):
        found[f"m/m rounded up to {size}"] = m / (-(-m // size) * size)
    power = 2 ** math.ceil(math.log2(max(m, 1)))
    found["m/m rounded up to a power of two"] = m / power
    if sizes[1] > 1:
        found |= {"C" if sizes[2] == 1 else "G": float(sizes[1])}
        found |= {"1/C" if sizes[2] == 1 else "1/G": 1 / sizes[1]}
    if sizes[2] > 1:
        found |= {"C/G": float(sizes[2]), "G/C": 1 / sizes[2]}
    if sizes[3] > 1 and sizes[3] not in (m, n):
        found |= {"S": float(sizes[3]), "1/S": 1 / sizes[3]}
    return found


def _size(name: str) -> Factor:
    counts = ("m/(m", "(m - 1)/m", "m/sets", "m/N", "m/n", "m/m", "m/S")
    kind = {"0": "term left out", "-1": "sign"}.get(name, "factor")
    kind = "count wrong" if name.startswith(counts) else kind
    return Factor(
        name, lambda w: w.x.dtype.type(scalars(w.view, w.shape, float(w.eps))[name]), kind
    )


_WIDEST = View((2, 2, 2, 2), (1, 2, 2, 1), (2,))
SIZES = {name: _size(name) for name in (*scalars(_WIDEST, (2, 2, 2, 2), 1.0), "C", "1/C")}
QUANTITIES = {
    "gamma": Factor("gamma", lambda w: w.scale),
    "gamma^2": Factor("gamma^2", lambda w: w.scale**2),
    "1/gamma": Factor("1/gamma", lambda w: 1 / w.scale),
    "r": Factor("r", lambda w: w.rstd),
    "r^2": Factor("r^2", lambda w: w.rstd**2),
    "1/r": Factor("1/r", lambda w: 1 / w.rstd),
    "1/r^2": Factor("1/r^2", lambda w: 1 / w.rstd**2),
    "var": Factor("var", lambda w: w.var),
    "x_hat": Factor("x_hat", lambda w: w.x_hat),
}

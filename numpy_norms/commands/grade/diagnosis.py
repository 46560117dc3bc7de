"""Naming what is wrong with a kernel from what it returned on one case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np

from numpy_norms.oracle.sets import Sharing, sharing
from numpy_norms.verify import Case, Mutant, mutants
from numpy_norms.verify.plain import Array
from numpy_norms.verify.runs import run

# The terms of (12), as they are, and with gamma outside of the means.
INSIDE = ("dx_hat", "E[dx_hat]", "x_hat E[dx_hat x_hat]")
OUTSIDE = ("gamma dy", "gamma E[dy]", "gamma x_hat E[dy x_hat]")
MEANINGS = {
    "r (dx_hat)": "the mean and the variance are held constant",
    "r (gamma dy - gamma E[dy] - gamma x_hat E[dy x_hat])": "gamma is outside of the averages",
}
SAME = 1e-9  # of the largest element: two results of the same formula


class Finding(NamedTuple):
    """One sentence about one output; `mutant` is the catalogue's name of the mistake, or empty."""

    output: str
    says: str
    mutant: str = ""
    difference: float = 0.0


def diagnose(
    case: Case, got: Mapping[str, Array], expected: Mapping[str, Array], wrong: list[str]
) -> list[Finding]:
    """Say of each wrong output what it equals, the likeliest explanation first.

    The catalogue of known mistakes is asked first. An output that is in none of them is compared
    with multiples of the right one, and dx with other multiples of its three terms.
    """
    if not wrong:
        return []
    known = {m: run(case, m.forward, m.backward).results for m in mutants(case.norm)}
    findings = []
    for name in wrong:
        found = _matches(name, got, expected, known) or _multiple(
            case, name, got[name], expected[name]
        )
        if name == "dx" and not found:
            found = _terms(case, got["dx"]) or _other_axes(case, got["dx"])
        findings += found
    return findings


def distance(a: Array, b: Array) -> float:
    """Return the largest difference, relative to the largest element of `b`; NaN is infinity."""
    if a.shape != b.shape:
        return np.inf
    largest = float(np.max(np.abs(b), initial=0.0)) or 1.0
    return float(np.nan_to_num(np.max(np.abs(a - b), initial=0.0) / largest, nan=np.inf))


def _matches(
    name: str,
    got: Mapping[str, Array],
    expected: Mapping[str, Array],
    known: Mapping[Mutant, Mapping[str, Array]],
) -> list[Finding]:
    found = []
    for mutant, results in known.items():
        theirs = results.get(name)
        if theirs is None or distance(theirs, expected[name]) <= SAME:
            continue
        apart = distance(got[name], theirs)
        if apart <= SAME:
            # A mistake that explains the other outputs too is likelier.
            others = sum(distance(got[n], results[n]) > SAME for n in got)
            found.append((others, Finding(name, _sentence(mutant), mutant.name, apart)))
    fewest = min((others for others, _ in found), default=0)
    return [finding for others, finding in found if others == fewest]


def _sentence(mutant: Mutant) -> str:
    return f"equals ours, but {mutant.what}: {mutant.formula}"


def _multiple(case: Case, name: str, got: Array, expected: Array) -> list[Finding]:
    if not np.all(np.isfinite(got)) or not np.any(got):
        return []
    factor = float(np.vdot(expected, got) / np.vdot(expected, expected))
    apart = distance(got, factor * expected)
    if apart > SAME:
        return []
    count = _sharing(case).set_size if name == "dx" else case.x.size // expected.size
    means = {
        f"{1 / count:.6g}": f" = 1/{count}: an average over {count} elements, where a sum belongs",
        f"{count:.6g}": f": the sum of {count} elements, where an average belongs",
    }
    if name == "dx":
        means[f"{1 / count:.6g}"] = f" = 1/{count}: divided by m = {count} once more than ours"
    says = f"is ours times {factor:.6g}"
    return [Finding(name, says + means.get(f"{factor:.6g}", ""), "", apart)]


def _terms(case: Case, dx: Array) -> list[Finding]:
    """Fit dx by the terms of (12), with gamma where it belongs and then outside of the means."""
    if not np.all(np.isfinite(dx)):
        return []
    share = _sharing(case)
    count = np.bincount(share.sets)

    def average(values: Array) -> Array:
        return (np.bincount(share.sets, weights=values) / count)[share.sets]

    dy = case.dy.astype(np.float64).ravel()
    gamma = case.gamma.astype(np.float64).ravel()[share.parameters]
    dx_hat = gamma * dy
    h, r = _normalized(case, average)
    inside = (dx_hat, average(dx_hat), h * average(dx_hat * h))
    outside = (dx_hat, gamma * average(dy), gamma * h * average(dy * h))
    for terms, names in ((inside, INSIDE), (outside, OUTSIDE)):
        basis = np.stack([r * term for term in terms], axis=1)
        factors = np.linalg.lstsq(basis, dx.ravel(), rcond=None)[0]
        apart = distance(basis @ factors, dx.ravel())
        if apart <= SAME:
            formula = f"r ({_sum(factors, names)})"
            meaning = MEANINGS.get(formula)
            says = f"equals ours, but {meaning}: dx = {formula}" if meaning else f"equals {formula}"
            says += _of_m(factors, share.set_size)
            return [Finding("dx", says, "", apart)]
    return []


def _of_m(factors: Array, m: int) -> str:
    """Say what a factor is where it is m, or its reciprocal."""
    sizes = np.abs(factors)
    if np.any(np.abs(sizes / m - 1) <= SAME) and m > 1:
        return f"; {m} is m: a sum, where an average belongs"
    if np.any(np.abs(sizes * m - 1) <= SAME) and m > 1:
        return f"; {1 / m:.6g} is 1/m: divided by m = {m} once more than ours"
    return ""


def _other_axes(case: Case, dx: Array) -> list[Finding]:
    """Compare dx with that of statistics over other axes: of a batch norm in a layer norm, say."""
    x_shape = case.x.shape
    for count in range(1, len(x_shape) + 1):
        for axes in combinations(range(len(x_shape)), count):

            def average(values: Array, axes: tuple[int, ...] = axes) -> Array:
                means = values.reshape(x_shape).mean(axis=axes, keepdims=True)
                return np.broadcast_to(means, x_shape).ravel()

            gamma = case.gamma.astype(np.float64).ravel()[_sharing(case).parameters]
            dx_hat = gamma * case.dy.astype(np.float64).ravel()
            h, r = _normalized(case, average)
            mean = 0.0 if case.norm == "rms_norm" else average(dx_hat)
            theirs = r * (dx_hat - mean - h * average(dx_hat * h))
            apart = distance(theirs.reshape(x_shape), dx)
            if apart <= SAME:
                says = f"equals ours, but the statistics are over the axes {axes} of {x_shape}"
                return [Finding("dx", says, "", apart)]
    return []


def _normalized(case: Case, average: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Return x_hat and rstd, flat, with an average of somebody's choice."""
    x = case.x.astype(np.float64).ravel()
    deviation = x if case.norm == "rms_norm" else x - average(x)
    rstd = 1 / np.sqrt(average(deviation**2) + case.eps)
    return rstd * deviation, rstd


def _sharing(case: Case) -> Sharing:
    return sharing(case.norm, case.x.shape, num_groups=case.num_groups or 1)


def _sum(factors: Array, names: tuple[str, ...]) -> str:
    text = ""
    for factor, name in zip(factors, names, strict=True):
        if abs(factor) > SAME:
            size = "" if abs(abs(factor) - 1) <= SAME else f"{abs(factor):.6g} "
            sign = "-" if factor < 0 else "+"
            text += f" {sign} {size}{name}" if text else f"{'-' if factor < 0 else ''}{size}{name}"
    return text or "0"

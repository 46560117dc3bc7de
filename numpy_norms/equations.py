"""The equations of normalization, (1) to (17), each in one place.

``docs/derivation.md`` derives them under the same numbers. A is a set of m positions of `x` that
share statistics. ``E(a)`` is the average of `a` over A and ``E(a, b)`` that of ``a * b``;
``S(a)`` and ``S(a, b)`` are sums over the axes along which `gamma` and `beta` were broadcast. Both
keep the axes they reduce, at length one, so that everything here broadcasts.

Arrays come in the working dtype; a function that takes `out` writes its result there. Each line is
holomorphic in its arrays (no abs, no conj), so that complex numbers pass through and the complex
step differentiates exactly what is computed here.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FAR = 2  # standard deviations; to round a mean farther from 0 costs x_hat digits


class Reduce(Protocol):
    """An average or a sum over some axes, of an array or of the product of two."""

    def __call__(self, a: Array, b: Array | None = None, /) -> Array: ...

    def first(self, a: Array, /) -> Array:
        """The first element of every set."""
        ...


class Moments(NamedTuple):
    """Mean and variance of n values.

    The mean is `pivot` + `rest`, a number near it and what is left, because an error of the mean
    over a small standard deviation is the largest error that `x_hat` can have. None stands for 0.
    """

    n: int
    pivot: Array | None
    rest: Array | None
    var: Array


def moments(x: Array, n: int, E: Reduce, *, pivot: Array, out: Array) -> tuple[Array, Moments]:
    """Mean and variance of the sets in `x`, of n elements each, and x - mu in `out`.

    `pivot` is a number for each set from which the subtraction loses nothing.
    """
    xc = np.subtract(x, pivot, out=out, dtype=out.dtype)
    rest = E(xc)  # (1)
    xc = np.subtract(xc, rest, out=out)
    return xc, Moments(n, pivot, rest, E(xc, xc))  # (2)


def rounded_moments(x: Array, n: int, E: Reduce, *, out: Array) -> tuple[Array, Moments]:
    """The same where no such number is known: the pivot is the mean, rounded.

    What rounding took is `rest`, kept where the mean lies more than `FAR` deviations from 0.
    """
    pivot = E(x)  # (1)
    xc = np.subtract(x, pivot, out=out)
    var = E(xc, xc)  # (2)
    far = (pivot * pivot).real > FAR * FAR * var.real
    if not np.count_nonzero(far):
        return xc, Moments(n, pivot, None, var)
    rest = np.where(far, _exact_if_constant(E(xc), E.first(xc)), 0)
    xc = np.subtract(xc, rest, out=out)
    return xc, Moments(n, pivot, rest, E(xc, xc))


def _exact_if_constant(rest: Array, first: Array) -> Array:
    # The average of many copies of a number need not be that number, and in a constant set only
    # the number itself makes x - mu exactly zero.
    near = np.abs((rest - first).real) <= 1024 * np.finfo(rest.dtype).eps * np.abs(first.real)
    return np.where(near, rest - (rest - first).real, rest)


def moments_about_zero(x: Array, n: int, E: Reduce) -> Moments:
    """Mean square of the sets in `x`: mu = 0 by definition (RMS norm)."""
    return Moments(n, None, None, E(x, x))  # (2)


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two sets (Chan, Golub and LeVeque 1983)."""
    n = a.n + b.n
    m2 = a.n * a.var + b.n * b.var
    if a.pivot is None or b.pivot is None:
        return Moments(n, None, None, m2 / n)
    rest_a, rest_b = (0.0 if s.rest is None else s.rest for s in (a, b))
    d = (b.pivot - a.pivot) + (rest_b - rest_a)  # (15)
    rest = rest_a + d * (b.n / n)  # (16)
    m2 = m2 + d * d * (a.n * (b.n / n))  # (17)
    return Moments(n, a.pivot, rest, m2 / n)


def rstd(var: Array, eps: float | Array) -> Array:
    """Reciprocal standard deviation, eps inside the root."""
    return np.reciprocal(np.sqrt(var + eps))  # (3)


def center(x: Array, pivot: Array | None, rest: Array | None, *, out: Array) -> Array:
    """x - mu for known statistics."""
    xc = x if pivot is None else np.subtract(x, pivot, out=out, dtype=out.dtype)
    return xc if rest is None else np.subtract(xc, rest, out=out)


def standardize(xc: Array, rstd: Array, *, out: Array) -> Array:
    """x_hat from x - mu."""
    return np.multiply(xc, rstd, out=out)  # (4)


def affine(
    x_hat: Array, gamma: Array | None, beta: Array | None, *, own: Array, out: Array
) -> Array:
    """y from x_hat; an absent gamma is 1, an absent beta is 0. May overwrite `own`."""
    if beta is None:
        return x_hat if gamma is None else np.multiply(gamma, x_hat, out=out)
    scaled = x_hat if gamma is None else np.multiply(gamma, x_hat, out=own)
    return np.add(scaled, beta, out=out)  # (5)


def dbeta(dy: Array, S: Reduce) -> Array:
    """The gradient of beta: the adjoint of broadcasting is a sum."""
    return S(dy)  # (6)


def dgamma(dy: Array, x_hat: Array | None, S: Reduce) -> Array:
    """The gradient of gamma; without x_hat, `dy` holds the products dy * x_hat already."""
    return S(dy, x_hat)  # (7)


def dx_hat(dy: Array, gamma: Array | None, *, out: Array) -> Array:
    """The gradient of x_hat."""
    return dy if gamma is None else np.multiply(gamma, dy, out=out)  # (8)


def statistics_gradients(
    dx_hat_sum: Array, dx_hat_xc_sum: Array, rstd: Array
) -> tuple[Array, Array]:
    """dmean and dvar, of statistics that are given rather than computed from x.

    `dx_hat_sum` is the sum of dx_hat, `dx_hat_xc_sum` that of dx_hat (x - mu), over the set.
    """
    drstd = dx_hat_xc_sum  # (9)
    dvar = -0.5 * rstd**3 * drstd  # (10)
    dmean = -rstd * dx_hat_sum  # (11)
    return dmean, dvar


def dx(
    dx_hat: Array,
    x_hat: Array,
    rstd: Array,
    mean_dx_hat: Array | None,
    mean_dx_hat_x_hat: Array,
    gamma: Array | None = None,
    *,
    own: tuple[Array, Array],
    out: Array,
) -> Array:
    """The gradient of x through x_hat and both statistics; uses the arrays `own` on the way.

    The averages are E[dx_hat], None where mu = 0 by definition, and E[dx_hat x_hat]. A `gamma` of
    few numbers may be kept apart: then dx_hat is ``gamma * dx_hat``.
    """
    direct = np.multiply(dx_hat, rstd if gamma is None else rstd * gamma, out=own[1])
    through_var = np.multiply(x_hat, rstd * mean_dx_hat_x_hat, out=own[0])
    if mean_dx_hat is not None:
        direct = np.subtract(direct, rstd * mean_dx_hat, out=own[1])  # (12)
    return np.asarray(np.subtract(direct, through_var, out=out))  # (13), where mu = 0


def dx_of_constants(dx_hat: Array, rstd: Array, *, out: Array) -> Array:
    """The gradient of x where mean and variance are constants (inference)."""
    return np.multiply(dx_hat, rstd, out=out)  # (14)

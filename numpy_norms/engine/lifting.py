"""How sets are lifted, so that averages of x and of x squared lose no digits.

A set is lifted less a pivot, near its mean, and times a power of two. Either is exact: a pivot is a
number of the dtype of x, and multiplying by a power of two loses nothing. Most sets need neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .rounding import is_foreign

if TYPE_CHECKING:
    from .plans import Plan

Array = NDArray[Any]
Lifted = tuple[Any, Any]  # pivot and exponent of each set; None is 0 for all

NEAR = 0.25  # how far the square of a mean may lie from zero, in variances
NEAR_WIDER = 256.0  # the same where float64 has digits to spare
CHANCE = {"f": 24.0}  # the same times the elements of a set: means of few are not zero by chance


class Limits(NamedTuple):
    """Within what averages keep their digits, and the powers of two that bring them there."""

    given: float  # how far a mean that is given may be, in variances
    near: Array  # the same for a mean of so many
    low: Any  # the variances whose squares vanish, or
    high: Any  # overflow; infinite where no number of the dtype of x can
    up: int
    down: int


def limits(work: np.dtype[Any], x: np.dtype[Any], m: int) -> Limits:
    """The limits for m elements of dtype x in a working dtype."""
    info, wider = np.finfo(work), work == np.float64 and x.itemsize <= 4
    given = NEAR_WIDER if wider else NEAR
    near = np.array(given + CHANCE.get(work.char, 4.0) / max(m, 1), info.dtype)
    high = np.inf if squares_fit(x, work) else np.ldexp(info.max, -(info.maxexp // 8))
    # The smallest number comes to less than the root of the range, so that rstd squared is in it.
    up = info.nmant - info.minexp + info.minexp * 7 // 16
    return Limits(given, near, info.tiny / info.eps, high, up, -5 * info.maxexp // 8)


def squares_fit(x: np.dtype[Any], work: np.dtype[Any]) -> bool:
    """Whether the square of any number of dtype x is well within the range of `work`."""
    exponents = 128 if is_foreign(x) else np.finfo(x).maxexp
    return bool(np.finfo(work).maxexp > 3 * exponents)


def nearer(plan: Plan, eps: float, lifted: Lifted, mean: Any, var: Any) -> Lifted | None:
    """How to lift sets better, whose mean and variance came out so; None where all is well.

    A mean far from zero costs the variance digits, so that the pivot moves there. Squares that
    overflow, or vanish where no eps hides it, call for a power of two.
    """
    _, near, low, high, _, _ = plan.limits
    size = var.real
    if mean is None or np.count_nonzero((mean * mean).real < near * size) == size.size:
        if high == np.inf:
            return None
        flat = size.reshape(-1)
        # A sum of squares that is finite costs less than to compare each with a bound.
        within = flat.dot(flat) < np.inf and lifted[1] is None
        if within and (eps >= low or not np.count_nonzero(size < low)):
            return None
    return _moved(plan, eps, lifted, np.zeros_like(var) if mean is None else mean, var)


def _moved(plan: Plan, eps: float, lifted: Lifted, mean: Array, var: Array) -> Lifted | None:
    _, near, low, high, up, down = plan.limits
    pivot = np.zeros_like(var) if lifted[0] is None else lifted[0]
    exponent = np.zeros(var.shape, np.int64) if lifted[1] is None else lifted[1]
    finite, bounded = np.isfinite(mean) & np.isfinite(var), high < np.inf
    square, size = (mean * mean).real, var.real
    overflown = ~(size < high) & (exponent == 0) & bounded
    vanished = finite & (size < low) & (square < low) & (exponent == 0) & (eps < low) & bounded
    moved = plan.representable(pivot + mean * plan.power(-np.maximum(exponent, 0)))
    far = ~(square < near * size) & finite & ~vanished & (moved != pivot)
    # Where a set is constant, no square overflows any more.
    constant = finite & ~far & (exponent < 0) & (var == 0)
    if not np.count_nonzero(overflown | far | constant | vanished):
        return None
    pivot = np.where(far, moved, np.where(overflown, 0, pivot))
    pivot = np.where(constant, pivot * plan.power(np.where(constant, -exponent, 0)), pivot)
    exponent = np.where(overflown, down, np.where(vanished, up, np.where(constant, 0, exponent)))
    return pivot, exponent if np.count_nonzero(exponent) else None


def of_given(plan: Plan, mean: Array, var: Array, eps: float) -> tuple[Any, Array]:
    """Pivots for means that are given, not averaged, and what is left of the means."""
    far = (mean * mean).real > plan.limits.given * (var + eps).real
    if not np.count_nonzero(far):
        return None, mean
    pivot = np.where(far, plan.representable(mean), 0)
    return pivot, mean - pivot


def eps_of(plan: Plan, eps: float, exponent: Any, var: Any) -> Any:
    """eps beside a variance that was lifted; infinite where both are 0, so that x_hat is 0."""
    if exponent is None and eps >= plan.limits.low:
        return plan.number(eps)
    lifted = plan.number(eps if exponent is None else np.ldexp(eps, 2 * exponent))
    return np.where(var + lifted == 0, np.inf, lifted)


def mean_of(plan: Plan, pivot: Any, exponent: Any, mean: Array) -> Array:
    """The mean of x itself, from that of x as it was lifted."""
    if exponent is not None:
        mean = mean * plan.power(-np.maximum(exponent, 0))
    if pivot is not None:
        mean = mean + pivot
    return mean if exponent is None else mean * plan.power(-np.minimum(exponent, 0))


def factors_fit(plan: Plan, gamma: Array | None, eps: float) -> bool:
    """Whether gamma times any reciprocal standard deviation is a normal number."""
    if gamma is None:
        return True
    if squares_fit(gamma.dtype, plan.work):
        return bool(np.count_nonzero(np.isfinite(gamma)) == gamma.size)
    size = np.abs(gamma.astype(plan.work) if is_foreign(gamma.dtype) else gamma)
    fit = (size > 2.0**-60) & (size < 2.0**60)
    well = np.count_nonzero(fit) == size.size or (fit | (size == 0)).all()
    return bool(well) and eps >= 2.0**-100

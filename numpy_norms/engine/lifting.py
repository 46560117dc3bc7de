"""How sets are lifted, so that averages of x and of x squared lose no digits.

A set is lifted less a pivot, near its mean, and times a power of two. Either is exact: a pivot is a
number of the dtype of x, and multiplying by a power of two loses nothing. Most sets need neither.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Eager
from .plans import Plan
from .rounding import is_foreign

Array = NDArray[Any]
Lifted = tuple[Any, Any]  # pivot and exponent of each set; None is 0 for all

NEAR = 0.25  # how far the square of a mean may lie from zero, in variances
NEAR_WIDER = 256.0  # the same where float64 has digits to spare
CHANCE = {"f": 24.0}  # the same times the elements of a set: means of few are not zero by chance


def nearer(plan: Plan, eps: float, lifted: Lifted, mean: Any, var: Any) -> Lifted | None:
    """How to lift sets better, whose mean and variance came out so; None where all is well.

    A mean far from zero costs the variance digits, so that the pivot moves there. Squares that
    overflow, or vanish where no eps hides it, call for a power of two.
    """
    near, low, high = _limits(plan.work, plan.x, plan.m)
    size = _size(var)
    if mean is not None and np.count_nonzero(_size(mean * mean) < near * size) < size.size:
        return _moved(plan, eps < low, lifted, mean, var)
    if high < np.inf:
        flat = size.reshape(-1)
        # A sum of squares that is finite costs less than to compare each with a bound.
        if not flat.dot(flat) < np.inf or (eps < low and np.count_nonzero(size < low)):
            return _moved(plan, eps < low, lifted, 0 * var if mean is None else mean, var)
        if lifted[1] is not None and np.count_nonzero((lifted[1] < 0) & (var == 0)):
            return _moved(plan, eps < low, lifted, 0 * var if mean is None else mean, var)
    return None


def _moved(plan: Plan, bare: bool, lifted: Lifted, mean: Array, var: Array) -> Lifted | None:
    near, low, high = _limits(plan.work, plan.x, plan.m)
    zero = np.zeros_like(var)
    pivot = zero if lifted[0] is None else lifted[0]
    exponent = zero.real.astype(np.int64) if lifted[1] is None else lifted[1]
    down, up = _powers(plan.work)
    bounded = high < np.inf
    finite = np.isfinite(mean) & np.isfinite(var)
    square, size = _size(mean * mean), _size(var)
    overflown = ~(size < high) & (exponent == 0) & bounded
    vanished = finite & (size < low) & (square < low) & (exponent == 0) & bare & bounded
    moved = _representable(plan, pivot + mean * plan.power(-np.maximum(exponent, 0)))
    far = ~(square < near * size) & finite & ~overflown & ~vanished & (moved != pivot)
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
    near = NEAR_WIDER if _wider(plan.work, plan.x) else NEAR
    far = _size(mean * mean) > near * _size(var + eps)
    if not np.count_nonzero(far):
        return None, mean
    pivot = np.where(far, _representable(plan, mean), 0)
    return pivot, mean - pivot


def eps_of(plan: Plan, eps: float, exponent: Any, var: Any) -> Any:
    """eps beside a variance that was lifted; infinite where both are 0, so that x_hat is 0."""
    given = constant(eps, plan.work)
    if exponent is None and eps >= _limits(plan.work, plan.x, plan.m)[1]:
        return given
    if exponent is not None:
        given = np.ldexp(eps, 2 * exponent).astype(given.dtype)
    return np.where(var + given == 0, np.inf, given)


def mean_of(plan: Plan, pivot: Any, exponent: Any, mean: Array) -> Array:
    """The mean of x itself, from that of x as it was lifted."""
    if exponent is not None:
        mean = mean * plan.power(-np.maximum(exponent, 0))
    if pivot is not None:
        mean = mean + pivot
    return mean if exponent is None else mean * plan.power(-np.minimum(exponent, 0))


def _size(a: Array) -> Array:
    """How large numbers are that are squares, or averages of such: not negative if real."""
    return np.abs(a) if a.dtype.kind == "c" else a


def _representable(plan: Plan, a: Array) -> Array:
    """Numbers that x, of a narrower dtype, may be lessened by without loss."""
    narrower = plan.x.itemsize < plan.work.itemsize
    return a.astype(plan.x).astype(plan.work) if narrower else a


def factors_fit(plan: Plan, gamma: Array | None, eps: float) -> bool:
    """Whether gamma times any reciprocal standard deviation is a normal number."""
    if gamma is None or plan.array is Eager:
        return True
    if squares_fit(gamma.dtype, plan.work):
        return np.count_nonzero(np.isfinite(gamma)) == gamma.size
    size = np.abs(gamma.astype(plan.work) if is_foreign(gamma.dtype) else gamma)
    fit = (size > 2.0**-60) & (size < 2.0**60)
    well = np.count_nonzero(fit) == size.size or (fit | (size == 0)).all()
    return bool(well) and eps >= 2.0**-100


@cache
def constant(value: float, work: np.dtype[Any]) -> Array:
    """An array of one number: as a ufunc's argument three times as fast as the number itself."""
    return np.array(value, np.zeros((), work).real.dtype)


@cache
def squares_fit(x: np.dtype[Any], work: np.dtype[Any]) -> bool:
    """Whether the square of any number of dtype x is well within the range of `work`."""
    exponents = 128 if is_foreign(x) else np.finfo(x).maxexp
    return bool(np.finfo(work).maxexp > 3 * exponents)


@cache
def _limits(work: np.dtype[Any], x: np.dtype[Any], m: int) -> tuple[Any, Any, Any]:
    """How far a mean may be, in variances; between what variances squares keep their digits."""
    info = np.finfo(work)
    near = constant((NEAR_WIDER if _wider(work, x) else NEAR) + CHANCE.get(work.char, 4.0) / max(m, 1), work)
    high = np.inf if squares_fit(x, work) else np.ldexp(info.max, -(info.maxexp // 8))
    return near, info.tiny / info.eps, high


def _wider(work: np.dtype[Any], x: np.dtype[Any]) -> bool:
    """Whether the working dtype has digits to spare beside that of x."""
    return work == np.float64 and x.itemsize <= 4


@cache
def _powers(work: np.dtype[Any]) -> tuple[int, int]:
    """The powers of two that bring the largest, and the smallest, numbers' squares within range."""
    info = np.finfo(work)
    # The smallest number comes to less than the root of the range, so that rstd squared is in it.
    return -5 * info.maxexp // 8, info.nmant - info.minexp + info.minexp * 7 // 16

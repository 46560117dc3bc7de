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
ROUGH = 4  # powers of two that a lifted set may be from 1
HIGH, LOW = 2.0**64, 2.0**-64  # variances beyond which products with dy might leave the range
MILD = 2.0**40  # the square of a gamma whose products with dy need no care
CHANCE = {"f": 24.0}  # the same times the elements of a set: means of few are not zero by chance


class Limits(NamedTuple):
    """Within what averages keep their digits, and the powers of two that bring them there."""

    given: float  # how far the square of a mean that is given may lie from zero, in variances
    near: Array  # and how far the mean square of so many numbers
    lost: Any  # a variance below which squares have vanished
    bounded: bool  # whether squares of the dtype of x may overflow
    up: int
    down: int
    most: int


def limits(work: np.dtype[Any], x: np.dtype[Any], m: int, few: np.dtype[Any]) -> Limits:
    """The limits for m elements of dtype x in a working dtype, and another of few numbers."""
    info, wider = np.finfo(work), work == np.float64 and x.itemsize <= 4
    far = NEAR_WIDER if wider else NEAR
    near = np.array(1 + far + CHANCE.get(work.char, 4.0) / max(m, 1), np.finfo(few).dtype)
    # The smallest number comes to less than the root of the range, so that rstd squared is in it.
    up = info.nmant - info.minexp + info.minexp * 7 // 16
    bounded = not squares_fit(x, work)
    given = far if wider or work == np.float32 else 0.0
    down, most = -5 * info.maxexp // 8, info.maxexp - info.nmant // 2
    return Limits(given, near, info.tiny / info.eps, bounded, up, down, most)


def squares_fit(x: np.dtype[Any], work: np.dtype[Any]) -> bool:
    """Whether the square of any number of dtype x is well within the range of `work`."""
    exponents = 128 if is_foreign(x) else np.finfo(x).maxexp
    return bool(np.finfo(work).maxexp > 3 * exponents)


def nearer(
    plan: Plan, eps: float, lifted: Lifted, averages: tuple[Any, Any], found: tuple[Any, Any]
) -> Lifted | None:
    """How to lift sets better, whose averages came out so; None where all is well.

    A mean far from zero costs the variance digits, so that the pivot moves there. Squares and
    products that might overflow, or vanish where no eps hides it, call for a power of two.
    """
    _, near, _, bounded, *_ = plan.limits
    (_, mean_square), (mean, var) = averages, found
    size = _size(var)
    most = np.minimum(near * size, HIGH) if bounded else near * size
    well = _size(mean_square) < most  # nor where a square is infinite
    bare = bounded and eps < LOW
    if 0 in well.tobytes() or lifted[1] is not None or (bare and (size < LOW).any()):
        return _moved(plan, eps, lifted, mean, mean_square, var)
    return None


def _moved(
    plan: Plan, eps: float, lifted: Lifted, mean: Any, mean_square: Array, var: Array
) -> Lifted | None:
    _, near, lost, bounded, up, down, most = plan.limits
    exponent, bare, finite = lifted[1], eps < LOW, np.isfinite(var)
    square, size = _size(mean_square), _size(var)
    pivot = plan.number(0.0) if lifted[0] is None else lifted[0]
    step = plan.number(0.0) if mean is None else mean
    if exponent is not None:
        step = step * plan.power(-np.maximum(exponent, 0))
    moved = plan.representable(pivot + step)
    far = ~(square < near * size) & finite & (moved != pivot)
    even = exponent is None and not bare and 0 not in (square < HIGH).tobytes()
    if even or not bounded:
        return (np.where(far, moved, pivot), None) if 1 in far.tobytes() else None
    exponent = np.zeros_like(var, np.int64) if exponent is None else exponent
    overflown = ~finite & (exponent == 0)
    vanished = finite & (square < lost) & (exponent == 0) & (eps < lost)
    far &= ~vanished
    # Exponents bring sets near 1; constant ones need none, whose squares fit once they are lifted.
    well, beyond = finite & ~far, (size >= HIGH) | bare & (size < LOW)
    square_std = size + np.ldexp(plan.number(eps), 2 * exponent)
    excess = np.where(well & (var != 0), np.log2(square_std) / 2, 0).astype(np.int64)
    rough = (np.abs(excess) > ROUGH) & (beyond | (exponent != 0))
    better = np.where(rough, np.clip(exponent - excess, -most, most), exponent)
    better = np.where(well & (exponent < 0) & (var == 0), 0, better)
    better = np.where(overflown, down, np.where(vanished, up, better))
    if not (far | (better != exponent)).any():
        return None
    pivot = np.where(far, moved, np.where(overflown, 0, pivot))
    # A pivot is in units of what it is subtracted from.
    pivot = pivot * plan.power(np.minimum(better, 0) - np.minimum(exponent, 0))
    return pivot, better if better.any() else None


def of_given(plan: Plan, mean: Array, var: Array, eps: float) -> tuple[Any, Any]:
    """Pivots for means that are given, not averaged, and what is left of the means.

    Where no digits are to spare, x is lessened by the means themselves: then x_hat is right to a
    few roundoffs of its own, however near to its mean x is.
    """
    if not plan.limits.given:
        return mean, None
    far = _size(mean * mean) > plan.limits.given * _size(var + eps)
    if 1 not in far.tobytes():
        return None, mean
    pivot = np.where(far, plan.representable(mean), 0)
    return pivot, mean - pivot


def eps_of(plan: Plan, eps: float, exponent: Any, var: Any) -> Any:
    """eps beside a variance that was lifted; infinite where both are 0, so that x_hat is 0."""
    if exponent is None and eps >= plan.limits.lost:
        return plan.number(eps)
    lifted = plan.number(eps if exponent is None else np.ldexp(eps, 2 * exponent))
    return np.where((var + lifted).astype(plan.work) == 0, np.inf, lifted)


def mean_of(plan: Plan, pivot: Any, exponent: Any, mean: Array) -> Array:
    """The mean of x itself, from that of x as it was lifted."""
    if exponent is not None:
        mean = mean * plan.power(-np.maximum(exponent, 0))
    if pivot is not None:
        mean = mean + pivot
    return mean if exponent is None else mean * plan.power(-np.minimum(exponent, 0))


def moderate(plan: Plan, *scales: Array | None) -> tuple[Any, ...]:
    """gamma, and what it is added to, times two to a negative power where their products might
    overflow; and that power.
    """
    with np.errstate(all="ignore"):
        steep = False
        for a in scales if plan.steep else ():
            steep = steep or not (a is None or np.vdot(a, a) < MILD)
        if not steep:
            return *scales, 0
        size = max(np.abs(a[np.isfinite(a)]).max(initial=0) for a in scales if a is not None)
        power = max(0, int(np.frexp(size)[1]))
        factor = np.ldexp(1.0, -power)
        return *(a if a is None else factor * a.astype(plan.few) for a in scales), power


def careful(plan: Plan, gamma: Array | None, eps: float) -> Plan:
    """The plan, or for factors that must not be put together the one that keeps them apart."""
    apart = plan.inner is not None and not factors_fit(plan, gamma, eps)
    return plan.kept_apart() if apart else plan


@np.errstate(all="ignore")
def factors_fit(plan: Plan, gamma: Array | None, eps: float) -> bool:
    """Whether gamma times any reciprocal standard deviation is a normal number."""
    if gamma is None:
        return True
    if plan.work.itemsize > plan.x.itemsize or squares_fit(gamma.dtype, plan.work):
        return 0 not in np.isfinite(gamma).tobytes()
    size = np.abs(gamma.astype(plan.work, copy=False))
    small = size < 2.0**-60
    if eps < 2.0**-100 or 1 in (size > 2.0**60).tobytes():
        return False
    return 1 not in small.tobytes() or not size[small].any()


def at_least_zero(var: Array) -> Array:
    """A variance that rounding has left below 0 is 0; of complex numbers it may be anything."""
    return var if var.dtype.kind == "c" else np.maximum(var, 0)


def _size(a: Array) -> Array:
    """How large averages of squares are; of complex numbers they may be negative, or 0."""
    return np.abs(a) if a.dtype.kind == "c" else a

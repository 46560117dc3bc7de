"""Powers of two that keep squares within range, for the few sets that need one.

Multiplying by a power of two is exact, and x_hat of ``2**k x`` with ``4**k eps`` is that of `x`
with `eps`. Squares of float64 overflow above 1e154, and vanish below 1e-162, which matters only
where eps does not hide it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine.rounding import is_foreign

Array = NDArray[Any]


@cache
def squares_fit(x: np.dtype[Any], work: np.dtype[Any]) -> bool:
    """Whether the square of any number of dtype `x` is well within the range of `work`."""
    exponents = 128 if is_foreign(x) else np.finfo(x).maxexp
    return bool(np.finfo(work).maxexp > 3 * exponents)


def factors_fit(gamma: Array | None, eps: float) -> bool:
    """Whether gamma times any reciprocal standard deviation is a normal number."""
    if gamma is None:
        return True
    size = np.abs(gamma.astype(np.float64) if is_foreign(gamma.dtype) else gamma)
    if eps < 2.0**-100:
        return False
    fit = (size == 0) | ((size > 2.0**-60) & (size < 2.0**60))
    return bool(np.count_nonzero(fit) == size.size)


def squares_fail(var: Array, eps: float) -> bool:
    """Whether a variance has overflowed, or nearly, or lost digits that `eps` does not hide."""
    small, large = _safe_squares(var.dtype)
    if eps < small and np.count_nonzero(var.real < small):
        return True
    return bool(np.count_nonzero(var.real < large) < var.size)


@cache
def _safe_squares(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    info = np.finfo(dtype)
    return info.tiny / info.eps, np.ldexp(info.max, -(info.maxexp // 8))


def power_of_two(smallest: Array, largest: Array, eps: float) -> Array:
    """For each set, from its extreme elements, the scale that brings it near 1.

    It is no larger than what keeps ``scale**2 * eps`` finite. In a constant set only rounding
    errors are squared, and its scale keeps eps from vanishing beside them. A set that is not
    finite is left alone.
    """
    info = np.finfo(largest.dtype)
    peak = np.maximum(np.abs(smallest), np.abs(largest))
    finite = np.isfinite(peak) & (peak > 0)
    _, exponent = np.frexp(np.where(finite, peak, 1))
    highest = info.maxexp - 24
    if eps > 0:
        highest = min(highest, (info.maxexp - 24 - int(np.frexp(eps)[1])) // 2)
    k = np.clip(-exponent, 24 - info.maxexp, highest)
    safe = info.maxexp // 2 + info.nmant // 2
    k = np.where(smallest < largest, k, np.minimum(safe - exponent, 0))
    return np.asarray(np.ldexp(np.ones_like(largest), np.where(finite, k, 0)))

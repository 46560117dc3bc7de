"""Powers of two that keep squares within range, for the few sets that need one.

Multiplying by a power of two is exact, and x_hat of ``2**k x`` with ``4**k eps`` is that of `x`
with `eps`. Squares of float64 overflow above 1e154, and vanish below 1e-162, which matters only
where eps does not hide it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def squares_fail(var: Array, eps: float) -> bool:
    """Whether a variance has overflowed, or lost digits that `eps` does not hide."""
    small = _small(var.dtype)
    return bool((eps < small and (var.real < small).any()) or not np.isfinite(var.real).all())


def power_of_two(smallest: Array, largest: Array, eps: float) -> Array:
    """For each set, from its extreme elements, the scale that brings it near 1.

    It is 1 for sets that are constant or not finite, which no scale helps, and no larger than what
    keeps ``scale**2 * eps`` finite.
    """
    info = np.finfo(largest.dtype)
    peak = np.maximum(np.abs(smallest), np.abs(largest))
    useful = np.isfinite(peak) & (smallest < largest)
    _, exponent = np.frexp(np.where(useful, peak, 1))
    highest = info.maxexp - 24
    if eps > 0:
        highest = min(highest, (info.maxexp - 24 - int(np.frexp(eps)[1])) // 2)
    k = np.clip(-exponent, 24 - info.maxexp, highest)
    return np.asarray(np.ldexp(np.ones_like(largest), np.where(useful, k, 0)))


def _small(dtype: np.dtype[Any]) -> float:
    info = np.finfo(dtype)
    return float(info.tiny / info.eps)

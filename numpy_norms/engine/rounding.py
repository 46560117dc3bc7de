"""Rounding a result once, to the dtype of the output."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PIECE = 2**15  # elements that are rounded at a time


@cache
def is_foreign(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` comes from elsewhere than NumPy, as bfloat16 does."""
    return dtype.type.__module__ != "numpy"


@cache
def rounds_twice(work: np.dtype[Any], out: np.dtype[Any]) -> bool:
    """Whether a ufunc that computes in `work` and writes to `out` gets there in two steps.

    float64 reaches types from elsewhere through float32, and longdouble reaches float16 so.
    """
    return work.itemsize > (4 if is_foreign(out) else 8 if out == np.float16 else np.inf)


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """`dtype` in the byte order of this machine."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def round_into(out: Array, a: Array) -> None:
    """Round `a` to the dtype of `out`, to nearest and once."""
    if rounds_twice(a.dtype, out.dtype):
        if a.dtype.itemsize > 8:
            a = _to_odd(a, np.dtype(np.float64), np.int64)
        if is_foreign(out.dtype) and a.dtype == np.float64:
            a = _to_odd(a, np.dtype(np.float32), np.int32)
    np.copyto(out, a, casting="unsafe")


def _to_odd(a: Array, dtype: np.dtype[Any], integer: type[np.signedinteger[Any]]) -> Array:
    # Rounding to odd keeps "a little above" and "a little below" apart, so that rounding again,
    # to a type at least two bits narrower, gives what one rounding would have (Boldo and
    # Melquiond 2008).
    nearest = a.astype(dtype)
    inexact = (nearest != a) & np.isfinite(nearest)
    bits = nearest.view(integer)
    away = inexact & (np.abs(nearest) > np.abs(a))
    bits -= away  # sign and magnitude: one less is one step towards zero
    bits |= inexact
    return nearest


def round_to(a: Array, dtype: np.dtype[Any]) -> Array:
    """`a` rounded to `dtype`, to nearest and once; `a` itself where it has that dtype."""
    dtype = native(dtype)
    if not rounds_twice(a.dtype, dtype):
        return a.astype(dtype, copy=False)
    out = np.empty_like(a, dtype)
    round_into(out, a)
    return out


def rounded(out: Array, a: Array, dtype: np.dtype[Any]) -> Array:
    """`a` rounded to `dtype` and back, in `out`, piece by piece along the longest axis."""
    axis = max(range(a.ndim), key=a.shape.__getitem__)
    step = max(1, PIECE * a.shape[axis] // max(a.size, 1))
    for start in range(0, a.shape[axis], step):
        part = (slice(None),) * axis + (slice(start, start + step),)
        np.copyto(out[part], round_to(a[part], dtype), casting="unsafe")
    return out

"""Rounding a result once, to the dtype of the output."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@cache
def is_foreign(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` comes from elsewhere than NumPy, as bfloat16 does.

    NumPy's own types are rounded to nearest, once, by a ufunc that writes to them; those from
    elsewhere are reached from float64 through float32, which rounds twice.
    """
    return dtype.type.__module__ != "numpy"


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """`dtype` in the byte order of this machine."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def round_into(out: Array, a: Array) -> None:
    """Round `a` to the dtype of `out`, to nearest and once."""
    if is_foreign(out.dtype) and a.dtype == np.float64:
        a = _to_odd_float32(a)
    np.copyto(out, a, casting="unsafe")


def _to_odd_float32(a: Array) -> Array:
    # Rounding to odd keeps "a little above" and "a little below" apart, so that rounding again,
    # to a type at least two bits narrower, gives what one rounding would have (Boldo and
    # Melquiond 2008).
    nearest = a.astype(np.float32)
    inexact = (nearest != a) & np.isfinite(nearest)
    bits = nearest.view(np.int32)
    away = inexact & (np.abs(nearest) > np.abs(a))
    bits -= away  # sign and magnitude: one less is one step towards zero
    bits |= inexact
    return nearest


def round_to(a: Array, dtype: np.dtype[Any]) -> Array:
    """`a` rounded to `dtype`, to nearest and once; `a` itself where it has that dtype."""
    dtype = native(dtype)
    if not is_foreign(dtype):
        return a.astype(dtype, copy=False)
    out = np.empty(a.shape, dtype)
    round_into(out, a)
    return out

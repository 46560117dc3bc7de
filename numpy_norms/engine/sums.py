"""Sums along rows and down columns: fast, accurate, the same bits every time.

A dot product sums several times as fast as ``np.add.reduce`` and needs no temporary for a product.
It is taken over pieces so short that the linear-algebra library keeps to one thread and one order
for them; what the pieces give is added in float64. All sums keep the axes they reduce.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]
Sum = Callable[..., Array]

WHOLE = 768  # elements of a row that one dot product sums
# Bytes of a longer row that one sums. A tile has more than 500 such pieces: for fewer results NumPy
# keeps Python's global lock, and another thread would wait.
PIECE = 3072
SMALL = 8192  # elements of columns that one product with a row sums, which would keep that lock
DEEP = 16  # rows of a slab that are added in their own dtype
NARROW = 4  # columns below which the bits of a product depend on how rows lie in memory
TERMS = 32  # numbers that may be added in their own dtype


def over(shape: Shape, axes: Shape) -> Sum:
    """The function that sums an array, or the product of two, over axes of a view of `shape`."""
    if not axes:
        return lambda a, b=None: a.copy() if b is None else a * b
    *others, first = axes
    inner, outer = inner_sum(len(shape), first), few(shape, tuple(others))
    return inner if outer is None else lambda a, b=None: outer(inner(a, b))


def inner_sum(ndim: int, axis: int) -> Sum:
    """The function that sums along one axis; those after it are taken as one row of columns."""
    if axis == ndim - 1:
        return along
    if axis == ndim - 2:
        return down

    def flat(a: Array) -> Array:
        return a.reshape(*a.shape[: axis + 1], prod(a.shape[axis + 1 :]))

    def down_flat(a: Array, b: Array | None = None) -> Array:
        s = down(flat(a), None if b is None else flat(b))
        return s.reshape(*a.shape[:axis], 1, *a.shape[axis + 1 :])

    return down_flat


def few(shape: Shape, axes: Shape) -> Sum | None:
    """The function that sums what is few already over axes of a view; None for no axes."""
    if not axes:
        return None
    if prod([shape[a] for a in axes]) > TERMS:
        return lambda s: _added(s, axes)
    return partial(np.add.reduce, axis=axes, keepdims=True)


def along(a: Array, b: Array | None = None) -> Array:
    """The sums of a, or of a * b, along rows."""
    m = a.shape[-1]
    if a.dtype.char not in "fd":  # no dot product that keeps to one order and does not conjugate
        return _added(a if b is None else a * b, -1)
    if m <= WHOLE:
        s: Array = np.vecdot(a, ones(m, a.dtype) if b is None else b)[..., None]
        return s
    most = PIECE // a.itemsize
    piece = divisor(m, most)
    if 4 * piece < most:
        whole = m - m % most
        head = along(a[..., :whole], None if b is None else b[..., :whole])
        if whole == m:
            return head
        return head + along(a[..., whole:], None if b is None else b[..., whole:])
    a = a.reshape(*a.shape[:-1], m // piece, piece)
    b = ones(piece, a.dtype) if b is None else b.reshape(a.shape)
    return _added(np.vecdot(a, b), -1)


def down(a: Array, b: Array | None = None) -> Array:
    """The sums of a, or of a * b, down columns."""
    n, columns = a.shape[-2:]
    if n == 1:
        return a.copy() if b is None else a * b
    if columns < NARROW:
        a = a if a.flags.c_contiguous else a.copy()
        b = b if b is None or b.flags.c_contiguous else b.copy()
    if b is None and n * columns <= SMALL and a.dtype.char in "fd":
        s: Array = np.matmul(ones((1, n), a.dtype), a)
        return s
    if n <= DEEP:
        return _products(a, b)
    whole, before = n - n % DEEP, a.shape[:-2]
    slabs = (*before, whole // DEEP, DEEP, columns)
    of_b = None if b is None else b[..., :whole, :].reshape(slabs)
    s = _added(_products(a[..., :whole, :].reshape(slabs), of_b)[..., 0, :], -2)
    if whole == n:
        return s
    return s + down(a[..., whole:, :], None if b is None else b[..., whole:, :])


def _products(a: Array, b: Array | None) -> Array:
    s = np.einsum("...ij->...j", a) if b is None else np.einsum("...ij,...ij->...j", a, b)
    total: Array = s[..., None, :]
    return total


def _added(s: Array, axis: int | Shape) -> Array:
    # Cast apart: NumPy's small buffers are slow at casting within a sum.
    wide = s.astype(np.float64) if s.dtype.char == "f" else s
    total: Array = np.add.reduce(wide, axis=axis, keepdims=True)
    return total


@lru_cache(maxsize=256)
def ones(shape: int | Shape, dtype: np.dtype[Any]) -> Array:
    """Ones, not to be written to."""
    a = np.ones(shape, dtype)
    a.flags.writeable = False
    return a


@lru_cache(maxsize=256)
def divisor(n: int, most: int) -> int:
    """The largest divisor of n that is at most `most`."""
    return next(d for d in range(min(n, most), 0, -1) if n % d == 0)

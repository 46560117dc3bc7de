"""Sums over axes of a contiguous array: fast, accurate, and the same bits every time.

A dot product sums several times as fast as ``np.add.reduce``, and needs no temporary for the
product. It is taken over pieces of at most `PIECE` elements, so short that the linear-algebra
library keeps to one thread and one order for them; the sums of the pieces are added pairwise.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PIECE = 4096
SLAB = 32


class Sum:
    """Sums over `axes` of contiguous arrays of `ndim` axes, the axes kept at length one.

    With `average`, divides by the number of elements summed. Products that no dot product can sum
    are formed in `spare`.
    """

    __slots__ = ("average", "axes", "leading", "spare", "trailing")

    def __init__(self, axes: tuple[int, ...], ndim: int, spare: Array, *, average: bool = False):
        trailing = 0
        while ndim - 1 - trailing in axes:
            trailing += 1
        self.axes = axes
        self.trailing = trailing
        self.leading = tuple(a for a in axes if a < ndim - trailing)
        self.spare = spare
        self.average = average

    def __call__(self, a: Array, b: Array | None = None, /) -> Array:
        s = a if b is None or self.trailing else np.multiply(a, b, out=self.spare)
        if self.trailing:
            rows = a.shape[: a.ndim - self.trailing]
            m = prod(a.shape[a.ndim - self.trailing :])
            s = _sum_of_rows(a.reshape(*rows, m), None if b is None else b.reshape(*rows, m))
            s = s.reshape(rows + (1,) * self.trailing)
        if self.leading:
            s = _sum_of_columns(s, self.leading)
        if self.average:
            s = s / prod([a.shape[axis] for axis in self.axes])
        return np.asarray(s)

    def first(self, a: Array, /) -> Array:
        """The first element along `axes`."""
        return a[tuple(slice(0, 1) if axis in self.axes else slice(None) for axis in range(a.ndim))]


def _sum_of_rows(a: Array, b: Array | None) -> Array:
    m = a.shape[-1]
    if a.dtype.char not in "fd":  # no dot product that keeps to one order without conjugating
        return np.asarray(np.add.reduce(a if b is None else a * b, axis=-1))
    if m <= PIECE:
        return np.asarray(np.vecdot(a, _ones(a.dtype)[:m] if b is None else b))
    whole = m - m % PIECE
    pieces = np.vecdot(_cut(a, whole), _ones(a.dtype) if b is None else _cut(b, whole))
    total = np.asarray(np.add.reduce(pieces, axis=-1, dtype=np.float64))
    if whole < m:
        total += _sum_of_rows(a[..., whole:], None if b is None else b[..., whole:])
    return total.astype(a.dtype, copy=False)


def _cut(a: Array, whole: int) -> Array:
    return a[..., :whole].reshape(*a.shape[:-1], whole // PIECE, PIECE)


def _sum_of_columns(a: Array, axes: tuple[int, ...]) -> Array:
    # Two steps, over slabs and then over their sums: the error of adding row to row grows with
    # the number of rows.
    n = a.shape[axes[-1]]
    if len(axes) == 1 and n > 2 * SLAB:
        before, after = a.shape[: axes[0]], a.shape[axes[0] + 1 :]
        whole = n - n % SLAB
        head = (slice(None),) * axes[0]
        slabs = a[(*head, slice(0, whole))].reshape(*before, whole // SLAB, SLAB, *after)
        total = np.add.reduce(np.add.reduce(slabs, axis=axes[0] + 1), axis=axes[0], keepdims=True)
        if whole < n:
            rest = a[(*head, slice(whole, n))]
            total += np.add.reduce(rest, axis=axes[0], keepdims=True)
        return np.asarray(total)
    return np.asarray(np.add.reduce(a, axis=axes, keepdims=True))


@cache
def _ones(dtype: np.dtype[Any]) -> Array:
    ones = np.ones(PIECE, dtype)
    ones.flags.writeable = False
    return ones

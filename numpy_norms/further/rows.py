"""Sets as rows, a few at a time: for norms whose equations need a whole set and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..engine.rounding import round_into
from ..engine.threads import in_threads

Array = NDArray[Any]
Index = tuple[int | slice, ...]

# Elements worked on at a time: 256 kB in float64, so that the steps of a formula stay in cache.
PART = 2**15


class RowsCache(Protocol):
    """What the caches of these norms have in common."""

    @property
    def x(self) -> Array: ...
    @property
    def axes(self) -> tuple[int, ...]: ...
    @property
    def work(self) -> np.dtype[Any]: ...


def by_rows(compute: Callable[..., Array], cache: RowsCache, *more: Array) -> Array:
    """Return `compute` of x (and of `more` arrays of its shape), in the dtype of x.

    `compute` is given rows in the working dtype, which it owns; a row holds the positions along the
    axes. Its result is rounded once.
    """
    x = cache.x
    y = np.empty(x.shape, x.dtype.newbyteorder("="))
    last = range(x.ndim - len(cache.axes), x.ndim)
    target, *sources = (np.moveaxis(a, cache.axes, last) for a in (y, x, *more))
    sets, positions = target.shape[: last.start], prod(target.shape[last.start :])

    def visit(part: Index) -> None:
        there = target[part]
        shape = there.size // max(positions, 1), positions
        with np.errstate(all="ignore"):
            lifted = [np.array(a[part], cache.work, order="C").reshape(shape) for a in sources]
            round_into(there, compute(*lifted).reshape(there.shape))

    in_threads(visit, _parts(sets, max(positions, 1)))
    return y


def _parts(sets: tuple[int, ...], positions: int) -> list[Index]:
    """Indices that cut `sets` into parts of at most `PART` elements, or of one set."""
    room = max(PART // positions, 1)
    whole, axis = 1, len(sets)
    while axis and whole * sets[axis - 1] <= room:
        axis -= 1
        whole *= sets[axis]
    if axis == 0:
        return [()]
    step = room // whole
    starts = range(0, sets[axis - 1], step)
    return [(*i, slice(s, s + step)) for i in np.ndindex(sets[: axis - 1]) for s in starts]


def upstream(dy: ArrayLike, cache: RowsCache, kind: type, norm: str) -> Array:
    """The gradient of y, of the shape of x, for a cache of the `kind` that `norm` makes."""
    if not isinstance(cache, kind):
        raise TypeError(
            f"cache is a {type(cache).__name__}, but the cache of {norm}_forward was expected; "
            f"pass dy first and then what {norm}_forward returned second"
        )
    dy = checks.array("dy", dy)
    if dy.shape != cache.x.shape:
        raise ValueError(
            f"dy has shape {dy.shape}, but y has {cache.x.shape}; pass the gradient of y, "
            "np.broadcast_to(dy, y.shape) if it is constant"
        )
    checks.real_for_real("dy", dy, cache.x)
    return dy

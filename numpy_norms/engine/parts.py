"""An array in parts that are worked on one by one: where nothing is averaged, no pass is needed."""

from __future__ import annotations

import numpy as np

Index = tuple[int | slice, ...]

# Elements of a part: 256 kB in float64, so that the steps of a formula stay in cache.
PART = 2**15


def parts(shape: tuple[int, ...]) -> list[Index]:
    """Indices that cut an array into parts of at most `PART` elements, along its first axes."""
    if 0 in shape:
        return []
    whole, axis = 1, len(shape)
    while axis and whole * shape[axis - 1] <= PART:
        axis -= 1
        whole *= shape[axis]
    if axis == 0:
        return [()]
    step = PART // whole
    starts = range(0, shape[axis - 1], step)
    return [(*i, slice(s, s + step)) for i in np.ndindex(shape[: axis - 1]) for s in starts]

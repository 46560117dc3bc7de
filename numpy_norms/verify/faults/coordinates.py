"""What the index of an element is along the axes that a kernel may count."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify.plain import Array, View

__all__ = ["PARAMETERS", "Coordinate", "coordinates"]

PARAMETERS = ("dgamma", "dbeta")


class Coordinate(NamedTuple):
    """What an element's index along an axis is: the axis, its length and the index of each."""

    axis: str
    size: int
    indices: Array


def coordinates(norm: str, view: View, inner: tuple[int, ...], output: str) -> Iterator[Coordinate]:
    """Yield the indices of every element of an output along the axes that a kernel may count.

    Parameters
    ----------
    norm : str
    view : View
    inner : tuple of int
        The shape of x with channels second, or features last.
    output : str
    """
    shape = view.params if output in PARAMETERS else view.shape
    grid = [np.broadcast_to(i, shape).ravel() for i in np.indices(shape, sparse=True)]
    if norm in FEATURE_NORMS:
        yield Coordinate("feature", shape[3], grid[3])
        yield Coordinate("row", shape[0], grid[0])
    else:
        yield Coordinate("channel", shape[1] * shape[2], grid[1] * shape[2] + grid[2])
        if norm == "group_norm":
            yield Coordinate("group", shape[1], grid[1])
            yield Coordinate("channel of each group", shape[2], grid[2])
        yield Coordinate("sample", shape[0], grid[0])
        yield Coordinate("position", shape[3], grid[3])
    if output in PARAMETERS:
        return
    sets = [1 if axis in view.over else size for axis, size in enumerate(shape)]
    if sum(size > 1 for size in sets) > 1:
        yield _flat("set", sets, shape)
    within = [size if axis in view.over else 1 for axis, size in enumerate(shape)]
    if sum(size > 1 for size in within) > 1:
        yield _flat("position of each set", within, shape)
    for axis, size in enumerate(inner if len(inner) > 2 else ()):
        index = np.arange(size).reshape([-1 if a == axis else 1 for a in range(len(inner))])
        yield Coordinate(f"index of axis {axis}", size, np.broadcast_to(index, inner).ravel())
    yield Coordinate("element", math.prod(shape), np.arange(math.prod(shape)))


def _flat(axis: str, sizes: Sequence[int], shape: Sequence[int]) -> Coordinate:
    count = math.prod(sizes)
    return Coordinate(axis, count, np.broadcast_to(np.arange(count).reshape(sizes), shape).ravel())

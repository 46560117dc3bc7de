"""How a view of an array is cut into blocks that fit the processor's cache.

Nothing here knows what is computed. A `Layout` says which axes of a view are reduced together
(`over`) and along which axes parameters vary (`along`). The cuts depend on shapes alone, so that
results depend neither on how an array lies in memory nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise, product
from math import ceil, prod
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from .sums import Sum

Array = NDArray[Any]
Shape = tuple[int, ...]
Slices = tuple[slice, ...]

BLOCK = 1792 * 1024  # bytes that a block takes at the most in the working dtype
RUN = 256  # elements, or half as many, that are neighbours in memory and are not parted
COLUMNS = 16  # so many neighbours that belong to different sets are left in their order
WIDE = 2048  # elements of short rows that are taken side by side, as one long row
LANES = 16  # independent parts of a sum over blocks, so many threads at the most
KEPT = 64  # blocks that a plan remembers; of more, each is made when its turn comes
LANE = 256 * 1024  # bytes that the partial sums of a lane may take before there are fewer lanes

BUFFER = 8192  # elements that NumPy buffers of each operand if it is not told otherwise
ROW = 256  # elements of a row from which on NumPy does not gain by gathering rows

_ALL = slice(None)


class Layout(NamedTuple):
    """A view of an array: its shape, the axes reduced together, the axes of the parameters.

    `sets` are the other axes than those reduced, in the order in which statistics are reported.
    """

    shape: Shape
    over: Shape
    along: Shape
    sets: Shape


class Cut:
    """One block: where it lies in the view, among the sets, and in the parameters."""

    __slots__ = ("alone", "count", "of_parameters", "of_sets", "shape", "size", "slices")

    def __init__(self, slices: Slices, over: Shape, along: Shape, view: Shape):
        self.slices = slices
        self.alone = all(s.stop - s.start == n for s, n in zip(slices, view, strict=True))
        self.shape = tuple([s.stop - s.start for s in slices])
        self.size = prod(self.shape)
        self.count = prod([self.shape[i] for i in over])
        self.of_sets = tuple([_ALL if i in over else s for i, s in enumerate(slices)])
        self.of_parameters = tuple([s if i in along else _ALL for i, s in enumerate(slices)])


class Run:
    """Blocks with the same part of the parameters, one after the other."""

    __slots__ = ("cuts", "make")

    def __init__(self, plan: Plan, axes: Shape, part: Slices, rests: list[Slices], keep: bool):
        def make() -> Iterator[Cut]:
            for rest in rests:
                slices = [s for _, s in sorted(zip(axes, (*part, *rest), strict=True))]
                yield Cut(tuple(slices), plan.over, plan.along, plan.shape)

        self.make = make
        self.cuts = list(make()) if keep else None

    def __iter__(self) -> Iterator[Cut]:
        return self.make() if self.cuts is None else iter(self.cuts)


class Plan:
    """The cutting of a layout into blocks, for a working dtype of `itemsize` bytes.

    Axes are put in the order: those not reduced, those reduced, and last, where enough neighbours
    in memory belong to different sets, those neighbours. Where these are few, the axis before them
    is cut in two, and the rows along the second, axis `beside`, make one long row with numbers that
    are repeated as often. A lane is worked on by one thread, run by run.
    """

    def __init__(self, layout: Layout, itemsize: int):
        layout, beside = _side_by_side(layout)
        shape, over, along, sets = layout
        ndim = len(shape)
        inner = _first_column(layout)
        outer = [a for a in range(ndim) if a not in over and a < inner]
        order = (*outer, *over, *range(inner, ndim))
        self.layout = layout
        self.order = None if order == tuple(range(ndim)) else order
        self.shape = tuple([shape[a] for a in order])
        self.beside = None if beside is None else order.index(beside)
        self.over = tuple(range(len(outer), len(outer) + len(over)))
        self.along = tuple([i for i, a in enumerate(order) if a in along])
        kept = sorted(sets)
        self.kept_shape = tuple([shape[a] for a in kept])
        self.reported = None if kept == list(sets) else tuple([kept.index(a) for a in sets])
        self.size = prod(shape)
        self.count = prod([self.shape[i] for i in self.over])
        self.set_shape = tuple([1 if i in self.over else n for i, n in enumerate(self.shape)])
        self.parameter_shape = tuple(
            [n if i in self.along else 1 for i, n in enumerate(self.shape)]
        )
        others = tuple([i for i in range(ndim) if i not in self.along])
        inner_axes = tuple([i for i in self.over if i not in self.along])
        self.few_factors = prod([self.shape[i] for i in inner_axes]) > 1
        self.inner_sum = Sum(inner_axes, ndim)
        self.outer_set_sum = Sum(tuple([i for i in self.over if i not in inner_axes]), ndim)
        self.outer_parameter_sum = Sum(tuple([i for i in others if i not in inner_axes]), ndim)
        self.set_sum = Sum(self.over, ndim)
        self.average = Sum(self.over, ndim, average=True)
        self.parameter_sum = Sum(others, ndim)
        self.buffer = _buffer(self.shape, (*self.along, self.beside))
        self.lanes: list[list[Run]] = []
        self.lanes_share_parts = False
        self.whole = True
        if self.size:
            extent, self.whole = _extents(layout, itemsize)
            self.lanes = self._lanes([extent[a] for a in order], others)

    def _lanes(self, extent: list[int], others: Shape) -> list[list[Run]]:
        pieces = [_pieces(n, e) for n, e in zip(self.shape, extent, strict=True)]
        parts = list(product(*[pieces[i] for i in self.along]))
        rests = list(product(*[pieces[i] for i in others]))
        axes, keep = (*self.along, *others), len(parts) * len(rests) <= KEPT
        if len(parts) >= LANES:
            return [
                [Run(self, axes, part, rests, keep) for part in parts[start:end]]
                for start, end in _shares(len(parts), LANES)
            ]
        part_bytes = 16 * prod([extent[i] for i in self.along])
        least = 2 if len(parts) == 1 else 1
        room = LANES * LANE // (part_bytes * len(parts))
        number = min(len(rests), max(least, min(LANES // len(parts), room)))
        self.lanes_share_parts = number > 1
        return [
            [Run(self, axes, part, rests[start:end], keep)]
            for part in parts
            for start, end in _shares(len(rests), number)
        ]

    def view(self, a: Array) -> Array:
        """`a` with the axes of the layout, in the order of the plan; never a copy."""
        if a.shape != self.layout.shape:
            a = a.reshape(self.layout.shape)
        return a if self.order is None else a.transpose(self.order)

    def report(self, a: Array) -> Array:
        """One number for each set, without the axes of length one, as the layout orders them."""
        a = a.reshape(self.kept_shape)
        return a if self.reported is None else a.transpose(self.reported)

    @overload
    def parameter(self, a: Array, work: np.dtype[Any] | None = None) -> Array: ...
    @overload
    def parameter(self, a: None, work: np.dtype[Any] | None = None) -> None: ...
    def parameter(self, a: Array | None, work: np.dtype[Any] | None = None) -> Array | None:
        """A parameter with an axis of length one where it does not vary; in `work` if given."""
        if a is None:
            return None
        return (a if work is None else a.astype(work, copy=False)).reshape(self.parameter_shape)


@lru_cache(maxsize=64)
def plan_for(layout: Layout, itemsize: int) -> Plan:
    """The plan of a layout; the latest ones are remembered."""
    return Plan(layout, itemsize)


def _extents(layout: Layout, itemsize: int) -> tuple[list[int], bool]:
    """How far a block reaches along each axis, and whether it holds its sets whole.

    How a set is cut depends on the set alone, so that a set in a batch is summed as it is alone.
    """
    shape, over = layout.shape, layout.over
    extent = [1] * len(shape)

    def grow(axes: Iterable[int], target: int) -> None:
        for axis in axes:
            room = max(extent[axis], target // (prod(extent) // extent[axis]))
            pieces = ceil(shape[axis] / room)
            if 1 < pieces < shape[axis]:
                pieces += pieces % 2  # two threads have the same work
            extent[axis] = ceil(shape[axis] / pieces)
            if pieces > 1:
                return

    backwards = range(len(shape) - 1, -1, -1)
    grow(backwards, RUN)
    limit = BLOCK // itemsize
    whole = prod([n if a in over else extent[a] for a, n in enumerate(shape)]) <= limit
    if whole:
        for axis in over:
            extent[axis] = shape[axis]
        grow([a for a in backwards if a not in over], limit)
    else:
        # Sums for parameters that vary along the set are as long as the block, in float64.
        parameters_too = any(a in layout.along for a in over)
        grow([a for a in backwards if a in over], limit // 4 if parameters_too else limit)
    return extent, whole


def _first_column(layout: Layout) -> int:
    """The first of the last axes along which neighbours in memory belong to different sets.

    Where nothing is reduced, they have different parameters.
    """
    shape, over, along, _ = layout
    inner = len(shape)
    while inner and (inner - 1 not in over if over else inner - 1 in along):
        inner -= 1
    return inner if prod(shape[inner:]) >= COLUMNS else len(shape)


def _side_by_side(layout: Layout) -> tuple[Layout, int | None]:
    """The layout with the axis before short rows cut in two, and the second of these, if any.

    NumPy begins every row anew, and a short one takes no longer than that.
    """
    shape = layout.shape
    last = _first_column(layout) - 1
    columns = prod(shape[last + 1 :])
    if last < 0 or not COLUMNS <= columns <= RUN or prod(shape) < 16 * WIDE:
        return layout, None
    rows = max(r for r in range(1, WIDE // columns + 1) if shape[last] % r == 0)
    cut = (*shape[:last], shape[last] // rows, rows, *shape[last + 1 :])
    now = [(a,) if a < last else (a, a + 1) if a == last else (a + 1,) for a in range(len(shape))]
    over, along, sets = ([b for a in axes for b in now[a]] for axes in layout[1:])
    return Layout(cut, tuple(over), tuple(along), tuple(sets)), last + 1


def _buffer(shape: Shape, along: tuple[int | None, ...]) -> int:
    """The elements that NumPy may buffer, so few that it does not gather rows in its buffer."""
    last = len(shape) - 1
    row = 1
    for axis in range(last, -1, -1):
        if (axis in along) != (last in along):
            break
        row *= shape[axis]
    return min(BUFFER, ceil(row / 16) * 16) if row >= ROW else BUFFER


def _shares(n: int, number: int) -> Iterator[tuple[int, int]]:
    """The ends of `number` equal shares of n things, as nearly as can be."""
    return pairwise([i * n // number for i in range(number + 1)])


def _pieces(n: int, extent: int) -> list[slice]:
    return [slice(i, min(i + extent, n)) for i in range(0, n, extent)]

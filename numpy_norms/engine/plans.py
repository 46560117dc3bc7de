"""How a view of an array is summed, and cut into tiles: worked out once for every kind of view.

A `Layout` says which axes of a view are reduced together (`over`) and along which axes parameters
vary (`along`). Plans depend on shapes and dtypes alone, so that results depend neither on how an
array lies in memory nor on the number of threads. Tiles are large, for Python's global lock: a
thread that has to sleep for it takes 25 microseconds to wake, so calls of NumPy shorter than that
leave no time for another thread to begin.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise, product
from math import ceil, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import sums
from .arrays import Deferred, Eager
from .rounding import native

Array = NDArray[Any]
Shape = tuple[int, ...]
Slices = tuple[slice, ...]

SCRATCH = 3136 * 1024  # bytes that a thread takes for tiles in the working dtype
MEMORY = 3840 * 1024  # bytes that it takes in all, with sums for parameters that are long
PAYS = 640 * 1024  # elements from which on a second thread pays
SMALL = 16 * 1024  # elements for which fresh memory costs less than keeping some
SUM = 16  # bytes of the sums for two parameters, each in float64
SHARES = 768 * 1024  # bytes that the sums of all lanes may take
LANES = 16  # parts of a sum over tiles, so many threads at the most
WIDE = 1024  # elements of short rows of columns that are taken side by side
SHORT = 256  # elements of a row for which NumPy gains by gathering rows in its buffer


class Layout(NamedTuple):
    """A view of an array: its shape, the axes reduced together, the axes of the parameters.

    `sets` are the other axes than those reduced, in the order in which statistics are reported.
    """

    shape: Shape
    over: Shape
    along: Shape
    sets: Shape


class Plan:
    """How a layout is worked on, where averages, and sums for parameters, are asked for.

    Neighbouring axes that are treated alike are one axis. E, M, G, B are the sums: averages over
    sets, the same but None where means are not taken, and sums for the first and the second
    parameter. `wider` is whether the working dtype has digits to spare beside that of x.
    """

    def __init__(self, layout: Layout, work: np.dtype[Any], x: np.dtype[Any], asked: Asked):
        self.key = layout, work, x, asked
        self.layout, self.work, self.x, self.asked = layout, work, x, asked
        self.m = prod([layout.shape[a] for a in layout.over])
        self.shape, self.over, self.along = _merged(layout)
        self.size = prod(self.shape)
        inner = self._inner_axis()
        self.array: Any = Eager if inner is None else Deferred
        self.beside: int | None = None  # never the first
        self.careful = asked.careful
        self.result = native(x)
        # Whether factors are put together that might leave the range then.
        self.joins = self.array is Deferred and asked.first and work.itemsize <= x.itemsize
        if self.array is Deferred:
            assert inner is not None
            inner = self._side_by_side(inner)
        self.set_shape = tuple([1 if a in self.over else n for a, n in enumerate(self.shape)])
        self.parameter_shape = tuple(
            [n if a in self.along else 1 for a, n in enumerate(self.shape)]
        )
        self.small = self.size <= SMALL
        self.buffer = 16 if self.shape[-1] >= SHORT else 8192
        self.contiguous = inner is not None and inner < len(self.shape) - 2
        self.inner_axis = 0 if inner is None else inner
        self.inner = sums.inner_sum(len(self.shape), self.inner_axis)
        self.sums = self._sums()
        self.cuts: dict[int, Cut] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return plan_for, self.key

    def _inner_axis(self) -> int | None:
        """The last axis whose elements share a set and a parameter."""
        shared = [a for a in self.over if a not in self.along]
        return shared[-1] if shared else None

    def _side_by_side(self, inner: int) -> int:
        """Cut the axis before short rows in two, so that several make one long row."""
        row = prod(self.shape[inner + 1 :])
        n = self.shape[inner]
        if not 1 < row < WIDE or n * row <= SMALL:
            return inner
        k = sums.divisor(n, WIDE // row)
        if k == 1:
            return inner
        self.shape = (*self.shape[:inner], n // k, k, *self.shape[inner + 1 :])
        moved = [a + (a > inner) for a in self.over]
        self.over = tuple(sorted([*moved, inner + 1]))
        self.along = tuple([a + (a > inner) for a in self.along])
        self.beside = inner + 1
        return inner

    def _sums(self) -> tuple[Any, Any, Any, Any]:
        """E, M, G and B: averages over sets, and sums for the first and the second parameter."""
        shape, m, ndim = self.shape, np.array(self.m, self.work), len(self.shape)
        rest = tuple([a for a in range(ndim) if a not in self.along])
        if self.array is Eager:
            of_sets, of_others = sums.over(shape, self.over), sums.over(shape, rest)

            def E(a: Any, b: Any = None) -> Any:
                return of_sets(a.now, None if b is None else b.now) / m

            def S(a: Any, b: Any = None) -> Any:
                return of_others(a.now, None if b is None else b.now)
        else:
            inner = self.inner_axis
            sets, others = (
                sums.few(shape, tuple([a for a in axes if a != inner]))
                for axes in (self.over, rest)
            )
            rows = self.over == (ndim - 2, ndim - 1)  # sets that lie whole in memory

            def E(a: Any, b: Any = None) -> Any:
                if rows and _untouched(a) and (b is None or _untouched(b)):
                    return sums.along(_joined(a), None if b is None else _joined(b))[..., None] / m
                return (a.sums(b) if sets is None else sets(a.sums(b))) / m

            def S(a: Any, b: Any = None) -> Any:
                return a.sums(b) if others is None else others(a.sums(b))

        asked = self.asked
        return (
            E,
            E if asked.means else nothing,
            S if asked.first else nothing,
            S if asked.second else nothing,
        )

    def wide(self, a: Any) -> Any:
        """Few numbers, repeated for rows that lie side by side."""
        if self.beside is None or a.shape[self.beside] > 1:
            return a
        return np.repeat(a, self.shape[self.beside], self.beside)

    def power(self, exponent: Array) -> Any:
        """Two to the power of few numbers, exactly."""
        return np.ldexp(np.ones((), np.zeros((), self.work).real.dtype), exponent)

    def times(self, a: Array, exponent: Array) -> Array:
        """Numbers times two to the power of others; in two steps, so that no power overflows."""
        half = exponent // 2
        return a * self.power(half) * self.power(exponent - half)

    def kept_apart(self) -> Plan:
        """The same plan for factors that may leave the range when they are put together."""
        return plan_for(*self.key[:-1], self.asked._replace(careful=True))

    def has_view(self, a: Array) -> bool:
        """Whether the memory of an array can be seen with the axes of the plan."""
        return a.flags.c_contiguous or np.may_share_memory(a, self.views(a)[0])

    def fits(self, a: Array) -> bool:
        """Whether tiles of an array can be computed on as they lie."""
        if a.dtype != self.work or a.strides[-1] != a.itemsize or not a.flags.aligned:
            return False
        return not self.contiguous or a.flags.c_contiguous

    def views(self, x: Array, *arrays: Array) -> list[Any]:
        """Arrays with the axes of the plan, one and the same for one and the same.

        They are copies only where their memory has no such view.
        """
        views = [x.reshape(self.shape)]
        for a in arrays:
            views.append(views[0] if a is x else a.reshape(self.shape))
        return views

    def parameters(self, *arrays: Array | None) -> list[Any]:
        """Parameters in the working dtype, with axes of length one where they do not vary."""
        parameters: list[Any] = []
        for a in arrays:
            if a is not None and a.dtype is not self.work:
                with np.errstate(all="ignore"):
                    a = a.astype(self.work)
            parameters.append(None if a is None else a.reshape(self.parameter_shape))
        return parameters

    def of_nothing(self) -> dict[int, Array]:
        """Mean and variance where there are no elements."""
        zero = np.zeros(self.set_shape, self.work)
        return {2: zero, 3: zero} if self.asked.means else {3: zero}

    def zeros(self) -> Array:
        """Zeros of a parameter's shape, for sums."""
        return np.zeros(self.parameter_shape, np.promote_types(self.work, np.float64))

    def report(self, a: Array) -> Array:
        """One number for each set, without the axes of length one, as the layout orders them."""
        _, over, _, sets = self.layout
        kept = [n for i, n in enumerate(self.layout.shape) if i not in over]
        order = sorted(sets)
        return a.reshape(kept).transpose([order.index(axis) for axis in sets])

    def cut(self, slots: int) -> Cut:
        """The tiles, where each takes so many places in scratch."""
        if slots not in self.cuts:
            self.cuts[slots] = Cut(self, slots)
        return self.cuts[slots]


class Asked(NamedTuple):
    """What a pass asks of a plan: means, sums for two parameters, factors that are kept apart."""

    means: bool = True
    first: bool = True
    second: bool = True
    careful: bool = False


@lru_cache(maxsize=256)
def plan_for(*key: Any) -> Plan:
    """The plan of a layout; the latest ones are remembered."""
    return Plan(*key)


def nothing(*_: Any) -> None:
    """The sum that is not asked for."""


def _untouched(a: Deferred) -> bool:
    return a.scale is a.shift is a.less is None


def _joined(a: Deferred) -> Array:
    return a.now.reshape(*a.now.shape[:-2], -1)


def _merged(layout: Layout) -> tuple[Shape, Shape, Shape]:
    """The layout with axes that are treated alike taken together, those of length one left out."""
    shape: list[int] = []
    kinds: list[tuple[bool, bool]] = []
    for axis, n in enumerate(layout.shape):
        kind = axis in layout.over, axis in layout.along
        if n == 1:
            continue
        if kinds and kinds[-1] == kind:
            shape[-1] *= n
        else:
            shape.append(n)
            kinds.append(kind)
    if not shape:
        shape, kinds = [1], [(bool(layout.over), bool({*layout.over} & {*layout.along}))]
    if len(shape) == 1:  # what NumPy reduces to a number without axes is slow
        shape, kinds = [1, *shape], [(False, False), *kinds]
    over, along = (tuple([i for i, kind in enumerate(kinds) if kind[k]]) for k in (0, 1))
    return tuple(shape), over, along


class Cut:
    """The tiles of a plan where each takes `slots` places of scratch, in lanes.

    A lane is what one thread goes along: runs of tiles that have their part of the parameters in
    common. Their sums are added in order and put away with the run.
    """

    def __init__(self, plan: Plan, slots: int):
        extent, self.whole = _extents(plan, slots)
        pieces = [_pieces(n, e) for n, e in zip(plan.shape, extent, strict=True)]
        others = [a for a in range(len(extent)) if a not in plan.along]
        parts = list(product(*[pieces[a] for a in plan.along]))
        rests = list(product(*[pieces[a] for a in others]))
        order = sorted(range(len(extent)), key=[*plan.along, *others].__getitem__)

        self.parts, self.rests, self.order, self.plan = parts, rests, order, plan
        self.one = Tile(plan, None) if len(parts) * len(rests) == 1 else None
        self.slots = slots
        self.slot = -(-prod(extent) * plan.work.itemsize // 64) * 64
        self.lanes: list[list[tuple[int, int, int]]]  # runs: number of the part, ends of the rests
        if len(parts) >= LANES:
            every = 0, len(rests)
            shares = _shares(len(parts), LANES)
            self.lanes = [[(part, *every) for part in range(i, j)] for i, j in shares]
        else:
            room = min(LANES, SHARES // (SUM * prod([extent[a] for a in plan.along])))
            number = max(1 + (len(parts) == 1), room // len(parts))
            shares = _shares(len(rests), min(len(rests), number))
            self.lanes = [[(part, i, j)] for part in range(len(parts)) for i, j in shares]

        # Whether each part has a lane to itself, and whether each set has.
        self.owned = len(parts) == sum(map(len, self.lanes))
        kept = [a for a in range(len(extent)) if a not in plan.over and extent[a] < plan.shape[a]]
        self.apart = self.owned and all(a in plan.along for a in kept)

    def tiles(self, part: int, start: int, end: int) -> Iterator[Tile]:
        """The tiles of a run, each made when its turn comes."""
        for rest in self.rests[start:end]:
            slices = (*self.parts[part], *rest)
            yield Tile(self.plan, tuple([slices[i] for i in self.order]))


class Tile:
    """Where a tile lies in the view, and in numbers for sets and parameters; None: it is all."""

    __slots__ = ("of_parameters", "of_sets", "shape", "slices")

    def __init__(self, plan: Plan, slices: Slices | None):
        self.slices, self.shape = slices, plan.shape
        self.of_sets: Any = None
        self.of_parameters: Any = None
        if slices is not None:
            every = slice(None)
            self.shape = tuple([s.stop - s.start for s in slices])
            self.of_sets = tuple([every if a in plan.over else s for a, s in enumerate(slices)])
            self.of_parameters = tuple(
                [s if a in plan.along else every for a, s in enumerate(slices)]
            )


def _extents(plan: Plan, slots: int) -> tuple[list[int], bool]:
    """How far a tile reaches along each axis, and whether it holds its sets whole.

    How a set is cut depends on the set alone, so that a set in a batch is summed as it is alone.
    Columns that lie in one row go together.
    """
    shape, over = plan.shape, plan.over
    extent = list(shape)
    tail = [a for a in range(len(shape)) if a > max(over, default=-1)] if over else []
    sets = [a for a in range(len(shape)) if a not in over and a not in tail]
    plane = prod([n for a, n in enumerate(shape) if a not in sets])
    # Sums for parameters that vary along a set are as long as the set.
    long = prod([shape[a] for a in over if a in plan.along])
    bytes_each = slots * plan.work.itemsize
    limit = min(SCRATCH, MEMORY - 3 * SUM * long) // bytes_each
    if plane <= min(limit, PAYS):
        _shrink(extent, sets, plan.size, limit)
        return extent, True
    for a in sets:
        extent[a] = 1
    set_size = prod([shape[a] for a in over])
    if set_size * min(plane // set_size, WIDE) <= min(limit, PAYS):
        _shrink(extent, tail, plane, limit)
        return extent, True
    if long > 1:
        limit = MEMORY // (bytes_each + 3 * SUM)
    _shrink(extent, [*over, *tail], plane, min(SCRATCH // bytes_each, limit))
    return extent, all(extent[a] == shape[a] for a in over)


def _shrink(extent: list[int], axes: list[int], size: int, limit: int) -> None:
    """Cut along axes, in order, until a tile of `size` elements is within the limit."""
    unit = size
    for a in axes:
        n = extent[a]
        unit //= n
        number = ceil(n / max(1, limit // unit))
        if number < n and (number > 1 or size >= PAYS):
            number += number % 2  # two threads have the same work
        extent[a] = ceil(n / number)
        if unit <= limit:
            return


def _shares(n: int, number: int) -> list[tuple[int, int]]:
    """The ends of `number` equal shares of n things, as nearly as can be."""
    return list(pairwise([i * n // number for i in range(number + 1)]))


def _pieces(n: int, extent: int) -> list[slice]:
    return [slice(i, min(i + extent, n)) for i in range(0, n, extent)]

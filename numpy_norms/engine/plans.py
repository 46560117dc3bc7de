"""How a view of an array is summed, and cut into tiles: worked out once for every kind of view.

Plans depend on shapes and dtypes alone, so that results depend neither on how an array lies in
memory nor on the number of threads. Tiles are large, for Python's global lock: a thread that has to
sleep for it takes 25 microseconds to wake, so calls of NumPy shorter than that leave no time for
another thread to begin. Where one works alone they are such as stay in its cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, lru_cache, partial
from itertools import pairwise, product
from math import ceil, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import sums
from .arrays import Deferred, Eager
from .lifting import limits, squares_fit
from .rounding import native

Array = NDArray[Any]
Shape = tuple[int, ...]
Slices = tuple[slice, ...]
Region = tuple[Slices, Slices, Slices]
Lane = tuple[list[Slices], list[Slices]]  # parts along parameters, and along the other axes

ALL = slice(None)

SCRATCH = 3136 * 1024  # bytes that a thread takes for tiles in the working dtype
CACHE = 2048 * 1024  # bytes that it takes for them where it works alone and waits for no other
MEMORY = 3840 * 1024  # bytes that it takes in all, with sums for parameters that are long
SUM = 16  # bytes of the sums for two parameters, each in float64
SHARES = 768 * 1024  # bytes that the sums of all lanes may take
FEW = 4 * 1024  # elements below which to choose NumPy's buffer costs more than it saves
LANES = 16  # parts of a sum over tiles, so many threads at the most
PAYS = 2560 * 1024  # bytes computed on from which a second thread pays
SMALL = 16 * 1024  # elements below which no rows are taken side by side
WIDE = 8 * 1024  # bytes of short rows of columns that are taken side by side
LEAST = 32  # neighbours that are summed first, if more are to be had elsewhere
SEVERAL = 8  # of the widest rows: as long as rows may be that lie whole in a tile, a few of them
SHORT = 256  # elements of a row for which NumPy gains by gathering rows in its buffer


class Layout(NamedTuple):
    """A view of an array: its shape, the axes reduced together, the axes of the parameters.

    `sets` are the other axes than those reduced, in the order in which statistics are reported.
    """

    shape: Shape
    over: Shape
    along: Shape
    sets: Shape


class Asked(NamedTuple):
    """What is asked for: means, sums for two parameters in a dtype, factors that are kept apart.

    And few numbers that are `narrow`, of the working dtype.
    """

    means: bool = True
    first: np.dtype[Any] | None = None
    second: np.dtype[Any] | None = None
    apart: bool = False
    narrow: bool = False


class Plan:
    """How a layout is worked on in the dtype `work`; x is the dtype that the array has.

    What sums up to few numbers is added in `wide`, at least float64, and few numbers are of that
    dtype too, so that a narrow array meets each of them rounded once; or narrow, if asked for.

    Neighbouring axes that are treated alike are one axis. Where neighbours share a set and a
    parameter, they are summed along the axis `inner` first, and few numbers are left.
    """

    def __init__(self, layout: Layout, work: np.dtype[Any], x: np.dtype[Any], asked: Asked):
        self.layout, self.work, self.x, self.asked = layout, work, x, asked
        self.wide = np.promote_types(work, np.float64)
        self.few = work if asked.narrow else self.wide
        self.m = prod([layout.shape[a] for a in layout.over])
        widest = WIDE // work.itemsize
        self.shape, self.over, self.along, self.inner = _merged(layout, widest)
        self.size, ndim = prod(self.shape), len(self.shape)
        self.pays = PAYS // work.itemsize
        self.limits = limits(work, x, self.m, self.few)
        self.result = native(x)
        self.in_place = self.result == work  # results are computed where they belong
        self.slots = 2 - self.in_place  # of two large arrays, those that are in scratch then
        # Parameters are few where most neighbours share them, and else as long as rows.
        self.array: Any = Eager if self.inner is None else Deferred
        self.parameter = work if self.inner is None else self.few
        # Whether gamma may be so large that its products overflow.
        self.steep = asked.first is not None and not squares_fit(asked.first, work)
        self.flat = self.inner is not None and self.inner < ndim - 2
        self.set_shape, self.parameter_shape, self.row = self._few_shapes()
        # Whether few numbers are not yet as the array takes them.
        self.spreads = self.few != work or len(self.row) > 1
        # Whether rows after `inner` lie whole in a tile, several of them: they are short, and parts
        # of them would be too short to be lifted or, where nothing is, be copied for each sum.
        part = SCRATCH // (self.slots * work.itemsize) // max(1, self.shape[self.inner or 0])
        parted = not self.in_place and part >= SHORT
        self.together = self.flat and prod(self.row) <= SEVERAL * widest and not parted
        self.buffer = 16 if prod(self.row or self.shape[-1:]) >= SHORT else 8192
        self.inner_sum = sums.inner_sum(ndim, self.inner or 0)
        self.sums = self._sums()
        self.cut: Callable[[int], Cut] = cache(partial(Cut, self))  # for so many slots of scratch
        self.tiles: dict[Shape, Plan] = {}
        self.small = _extents(self, self.slots)[0] == [max(n, 1) for n in self.shape]  # in one tile

    def __reduce__(self) -> tuple[Any, ...]:
        return plan_for, (self.layout, self.work, self.x, self.asked)

    def _sums(self) -> tuple[Any, Any, Any, Any]:
        """E, M, G and B: averages over sets, and sums for the first and the second parameter."""
        E = self._sum(self.over, np.array(max(self.m, 1), self.few))
        S = self._sum(tuple([a for a in range(len(self.shape)) if a not in self.along]))
        means, first, second, *_ = self.asked
        return E, E if means else nothing, S if first else nothing, S if second else nothing

    def _sum(self, axes: Shape, m: Array | None = None) -> Any:
        """The function that sums an array, or the product of two, over axes, or averages over m."""
        shape, inner, few = self.shape, self.inner, self.few
        others = tuple([a for a in axes if a != inner])
        over: Any = sums.over(shape, axes) if inner is None else sums.few(shape, others)

        def summed(a: Any, b: Any = None) -> Any:
            if inner is None:
                s = over(a.now, None if b is None else b.now)
            else:
                s = a.sums(b)
                s = s if over is None else over(s)
            return s if m is None else s.astype(few, copy=False) / m

        return summed

    def of_tile(self, shape: Shape) -> Plan:
        """The plan of an array that is a tile of this one's."""
        plan = self.tiles.get(shape)
        if plan is None:
            plan = object.__new__(Plan)
            plan.__dict__.update(self.__dict__, shape=shape, size=prod(shape), small=True)
            plan.set_shape, plan.parameter_shape, plan.row = plan._few_shapes()
            plan = self.tiles.setdefault(shape, plan)
        return plan

    def _few_shapes(self) -> tuple[Shape, Shape, Shape]:
        """Of numbers for sets, of parameters, and of what lies behind the axis `inner`."""
        inner, sets = self.inner, [1 if a in self.over else n for a, n in enumerate(self.shape)]
        parameters = [n if a in self.along else 1 for a, n in enumerate(self.shape)]
        return tuple(sets), tuple(parameters), () if inner is None else self.shape[inner + 1 :]

    def kept_apart(self) -> Plan:
        """The same plan for factors that may leave the range when they are put together."""
        return plan_for(self.layout, self.work, self.x, self.asked._replace(apart=True))

    def spread(self, a: Any) -> Any:
        """Few numbers as the array takes them: of its dtype, one for each place in a row."""
        if a.dtype == self.few:
            a = a.astype(self.work, copy=False)
        shape = *a.shape[: a.ndim - len(self.row)], *self.row
        if a.shape == shape:
            return a
        whole = np.empty_like(a, order="C", shape=shape)
        np.copyto(whole, a)
        return whole

    def number(self, a: Any) -> Any:
        """A number as an array: as a ufunc's argument three times as fast as the number itself."""
        return np.asarray(a, self.limits.near.dtype)

    def power(self, exponent: Array | int) -> Any:
        """Two to the power of few numbers, or of one, exactly."""
        return np.ldexp(self.number(1.0), exponent)

    def times(self, a: Array, exponent: Array | int) -> Array:
        """Numbers times two to a power; in two steps, so that no power overflows."""
        half = exponent // 2
        product: Array = a * self.power(half) * self.power(exponent - half)
        return product

    def representable(self, a: Array) -> Array:
        """Numbers that x may be lessened by without loss."""
        return a.astype(self.x).astype(self.few) if self.x.itemsize < self.few.itemsize else a

    def fits(self, a: Array) -> bool:
        """Whether a part of an array can be computed on as it lies."""
        flags = a.flags
        lies = flags.c_contiguous or (a.strides[-1] == a.itemsize and not self.flat)
        return lies and a.dtype == self.work and flags.aligned

    def views(self, x: Any, *arrays: Any) -> list[Any]:
        """Arrays with the axes of the plan, one and the same for one and the same.

        They are copies only where their memory has no such view.
        """
        shape = self.shape
        views = [x if x.shape == shape else x.reshape(shape)]
        for a in arrays:
            same = a is None or a.shape == shape
            views.append(views[0] if a is x else a if same else a.reshape(shape))
        return views

    def parameters(self, *arrays: Array | None) -> list[Any]:
        """Parameters with axes of length one where they do not vary."""
        shape, parameters = self.parameter_shape, []
        for a in arrays:
            parameters.append(a if a is None else a.reshape(shape))
        return parameters

    def result_like(self, x: Array) -> Array:
        """A new array for results, of the shape of x."""
        return np.empty_like(x, self.result, "C")

    def in_order(self, a: Array) -> Array:
        """One number for each set, without the axes of length one, as the layout orders them."""
        shape, _, _, sets = self.layout
        order = sorted(sets)
        return a.reshape([shape[i] for i in order]).transpose([order.index(i) for i in sets])

    def report(self, a: Array) -> Array:
        """The same, in the working dtype."""
        return self.in_order(a.astype(self.work, copy=False))


@lru_cache(maxsize=256)
def plan_for(layout: Layout, work: np.dtype[Any], x: np.dtype[Any], asked: Asked) -> Plan:
    """The plan of a layout; the latest ones are remembered."""
    return Plan(layout, work, x, asked)


def nothing(*_: Any) -> None:
    """The sum that is not asked for."""


def _merged(layout: Layout, widest: int) -> tuple[Shape, Shape, Shape, int | None]:
    """The layout with axes that are treated alike taken together, those of length one left out.

    Also the last axis whose neighbours share a set and a parameter, or if they are few the longest
    with short rows. Rows much shorter than the `widest` are taken side by side: that axis is cut.
    """
    shape: list[int] = []
    kinds: list[tuple[bool, bool]] = []
    for axis, n in enumerate(layout.shape):
        kind = axis in layout.over, axis in layout.along
        if kinds and kinds[-1] == kind:
            shape[-1] *= n
        elif n != 1:
            shape.append(n)
            kinds.append(kind)
    if len(shape) < 2:  # what NumPy reduces to a number without axes is slow
        kinds = [(False, False), *(kinds or [(True, bool({*layout.over} & {*layout.along}))])]
        shape = [1, *(shape or [1])]
    shared = [i for i, kind in enumerate(kinds) if kind == (True, False)]
    inner = shared[-1] if shared else None
    if inner is not None:
        if shape[inner] < LEAST:
            rows = {i: prod(shape[i + 1 :]) for i in shared if prod(shape[i:]) > SMALL}
            near = [i for i, row in rows.items() if row <= SEVERAL * widest]
            inner = max([inner, *near], key=shape.__getitem__)
        n, row = shape[inner], prod(shape[inner + 1 :])
        k = sums.divisor(n, widest // row) if 1 < row < widest and n * row > SMALL else 1
        if k > 1:
            shape[inner : inner + 1] = n // k, k
            kinds.insert(inner + 1, (True, False))
    over, along = (tuple([i for i, kind in enumerate(kinds) if kind[j]]) for j in (0, 1))
    return tuple(shape), over, along, inner


class Cut:
    """The tiles of a plan where each takes `slots` places of scratch, in lanes.

    A lane is what one thread goes along: runs of tiles that have their part of the parameters in
    common. Their sums are added in order, and put away with the run where there are several parts.
    """

    def __init__(self, plan: Plan, slots: int):
        extent, self.whole = _extents(plan, slots)
        self.over, self.along = plan.over, plan.along
        pieces = [_pieces(n, e) for n, e in zip(plan.shape, extent, strict=True)]
        parts, rests = (
            list(product(*[p if of == (a in self.along) else [ALL] for a, p in enumerate(pieces)]))
            for of in (True, False)
        )
        self.alone = len(parts) * len(rests) == 1
        self.many = len(parts) > 1
        # Whether no set is met in two lanes: parts of the parameters differ in their sets.
        parted = [a for a in self.along if extent[a] < plan.shape[a]]
        self.disjoint = self.many and not any(a in self.over for a in parted)
        # What each lane has of its own.
        totals = 0 if self.many else prod(plan.parameter_shape)
        averages = 0 if self.whole or self.disjoint else prod(plan.set_shape)
        number = min(LANES, max(2, SHARES // (SUM * max(1, totals + averages))))
        shares = _shares(len(parts if self.many else rests), number)
        self.lanes: list[Lane] = [
            (parts[i:j], rests) if self.many else (parts, rests[i:j]) for i, j in shares
        ]

    def runs(self, lane: Lane) -> Iterator[Iterator[Region]]:
        """The runs of a lane, each tile by its slices: of views, of numbers for sets, and of
        parameters. They are not kept, or those of a large array would take memory.
        """
        parts, rests = lane
        for part in parts:
            yield (self._region(part, rest) for rest in rests)

    def _region(self, part: Slices, rest: Slices) -> Region:
        both = enumerate(zip(part, rest, strict=True))
        view = tuple([p if a in self.along else r for a, (p, r) in both])
        return view, tuple([ALL if a in self.over else s for a, s in enumerate(view)]), part


def _extents(plan: Plan, slots: int) -> tuple[list[int], bool]:
    """How far a tile reaches along each axis, and whether it holds its sets whole.

    How a set is cut depends on the set alone, so that a set in a batch is summed as it is alone.
    Columns that lie in one row go together.
    """
    over, axes = plan.over, range(len(plan.shape))
    shape = [max(n, 1) for n in plan.shape]  # nothing is one tile, too
    extent = list(shape)
    last: Any = plan.inner if plan.together else max(over, default=len(shape))
    tail = [a for a in axes if a > last and a not in over]
    sets = [a for a in axes if a not in over and a not in tail]
    if SUM * prod(plan.parameter_shape) > SHARES:  # so that a tile has sums for few of them
        sets.sort(key=lambda a: a not in plan.along)
    plane, set_size = prod([shape[a] for a in (*over, *tail)]), prod([shape[a] for a in over])
    # Sums for parameters that vary along a set are as long as the set. Sums down columns, of 16
    # rows each and in float64 too, take 0.75 bytes for an element, and as much again while a
    # program is made, which keeps what is known. And there are some twelve numbers in float64 for
    # each set, and five for each sum over neighbours.
    long, beside = prod([shape[a] for a in over if a in plan.along]), MEMORY - SCRATCH
    scratch = slots * plan.work.itemsize
    each = scratch + (0 if plan.inner_sum is sums.along else 1.5)
    limit = min(SCRATCH // scratch, (MEMORY - 3 * SUM * long) // each)
    limit = min(limit, beside // (12 * 8) * max(plan.m, 1))
    if plan.inner is not None:
        limit = min(limit, beside // (5 * 8) * max(shape[plan.inner], 1))
    if plane <= limit:
        most = limit if plan.size >= plan.pays else min(limit, CACHE // scratch)
        _shrink(extent, sets, prod(shape), most, plan.pays)
        return extent, True
    for a in sets:
        extent[a] = 1
    if set_size * min(plane // set_size, SHORT) <= limit and not plan.together:
        _shrink(extent, tail, plane, limit, plan.pays)
        return extent, True
    if long == 1 or plan.together:
        left = max(MEMORY - SHARES - 12 * 8 * (plane // set_size), MEMORY // 4)
        limit = min(SCRATCH // scratch, left // each)
    else:
        limit = MEMORY // (scratch + 4 * SUM)
    _shrink(extent, [*over, *tail], plane, limit, plan.pays)
    return extent, False


def _shrink(extent: list[int], axes: list[int], size: int, limit: float, pays: int) -> None:
    """Cut along axes, in order, until a tile of `size` elements is within the limit."""
    unit = size
    for a in axes:
        n = extent[a]
        unit //= n
        number = ceil(n / max(1, int(limit // unit)))
        if number < n and (number > 1 or size >= pays):
            number += number % 2  # two threads have the same work
        extent[a] = ceil(n / number)
        if unit <= limit:
            return


def _shares(n: int, number: int) -> list[tuple[int, int]]:
    """The ends of at most `number` equal shares of n things, as nearly as can be."""
    number = min(n, number)
    return list(pairwise([i * n // number for i in range(number + 1)]))


def _pieces(n: int, extent: int) -> list[slice]:
    return [slice(i, min(i + extent, n)) for i in range(0, max(n, 1), extent)]

"""Blocks that fit the processor's cache: how arrays are cut, lifted, rounded and shared by threads.

Nothing here knows what is computed. A `Layout` says which axes of a view are reduced together
(`over`) and along which axes parameters vary (`along`); a `Plan` cuts that view, from its shape
alone, so that results do not depend on memory layout or on the number of threads; a `Block` is one
cut: it lifts arrays into private, contiguous copies in the working dtype and stores results,
rounding once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import ceil, prod
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from .rounding import round_into, rounds_in_ufuncs
from .sums import Sum
from .threads import in_threads

Array = NDArray[Any]
Shape = tuple[int, ...]
Slices = tuple[slice, ...]
Key = tuple[Any, ...]
Merge = Callable[[Any, Any], Any]
Visit = Callable[["Block", "Gathered"], None]

BLOCK = 512 * 1024  # bytes that a block aims at: half of a core's own cache, or about that
LIMIT = 1024 * 1024  # bytes up to which a block grows to hold a whole set
RUN = 256  # elements that are neighbours in memory and are not parted
COLUMNS = 16  # so many neighbours that belong to different sets are left in their order
LANES = 16  # independent parts of a sum over blocks, so many threads at the most
LANE = 256 * 1024  # bytes that the partial sums of a lane may take before there are fewer lanes
THREADED = 128 * 1024  # elements below which one thread does it all


class Layout(NamedTuple):
    """A view of an array: its shape, the axes reduced together, the axes of the parameters."""

    shape: Shape
    over: Shape
    along: Shape


class Plan:
    """The cutting of a layout into blocks, for a working dtype of `itemsize` bytes.

    Axes are put in the order: those not reduced, those reduced, and last, where enough neighbours
    in memory belong to different sets, those neighbours.
    """

    def __init__(self, layout: Layout, itemsize: int):
        shape, over, along = layout
        ndim = len(shape)
        inner = ndim
        while over and inner - 1 not in over:
            inner -= 1
        if prod(shape[inner:]) < COLUMNS:
            inner = ndim
        outer = [a for a in range(ndim) if a not in over and a < inner]
        self.layout = layout
        self.order = (*outer, *over, *range(inner, ndim))
        self.in_order = self.order == tuple(range(ndim))
        self.shape = tuple(shape[a] for a in self.order)
        self.over = tuple(range(len(outer), len(outer) + len(over)))
        self.along = tuple(i for i, a in enumerate(self.order) if a in along)
        self.others = tuple(i for i in range(ndim) if i not in self.along)
        self.size = prod(shape)
        self.count = prod(self.shape[i] for i in self.over)
        self.set_shape = tuple(1 if i in self.over else n for i, n in enumerate(self.shape))
        self.parameter_shape = tuple(n if i in self.along else 1 for i, n in enumerate(self.shape))
        self.lanes: list[list[Slices]] = []
        self.whole = True
        if self.size:
            extent, self.whole = _extents(layout, BLOCK // itemsize, LIMIT // itemsize)
            self.lanes = self._lanes(tuple(extent[a] for a in self.order))

    def _lanes(self, extent: Shape) -> list[list[Slices]]:
        # The blocks of a lane share one part of the parameters.
        cuts = [_cut(n, e) for n, e in zip(self.shape, extent, strict=True)]
        parts = list(product(*(cuts[i] for i in self.along)))
        part_bytes = 16 * prod(extent[i] for i in self.along)
        wanted = max(1, min(LANES // len(parts), max(2, LANES * LANE // part_bytes)))
        others = list(product(*(cuts[i] for i in self.others)))
        length = ceil(len(others) / wanted)
        return [
            [self._block(part, other) for other in others[i : i + length]]
            for part in parts
            for i in range(0, len(others), length)
        ]

    def _block(self, part: Slices, other: Slices) -> Slices:
        slices = dict(zip(self.along, part, strict=True))
        slices |= dict(zip(self.others, other, strict=True))
        return tuple(slices[i] for i in range(len(self.shape)))

    def view(self, a: Array) -> Array:
        """`a` with the axes of the layout, in the order of the plan; never a copy."""
        a = a.reshape(self.layout.shape, copy=False) if a.shape != self.layout.shape else a
        return a if self.in_order else a.transpose(self.order)

    @overload
    def parameter(self, a: Array, work: np.dtype[Any]) -> Array: ...
    @overload
    def parameter(self, a: None, work: np.dtype[Any]) -> None: ...
    def parameter(self, a: Array | None, work: np.dtype[Any]) -> Array | None:
        """A parameter in the working dtype, with an axis of length one where it does not vary."""
        return None if a is None else a.astype(work).reshape(self.parameter_shape)

    def sweep(self, visit: Visit, work: np.dtype[Any]) -> list[Gathered]:
        """Visit every block once; return what each lane has gathered, in a fixed order."""

        def along_lane(lane: list[Slices]) -> Gathered:
            gathered = Gathered()
            with np.errstate(all="ignore"):
                for slices in lane:
                    visit(Block(self, slices, work), gathered)
            return gathered

        if len(self.lanes) == 1 or self.size < THREADED:
            return [along_lane(lane) for lane in self.lanes]
        return in_threads(along_lane, self.lanes)

    def of_sets(self, lanes: list[Gathered], merge: Merge) -> tuple[Any, ...]:
        """What has been gathered of the sets, merged: arrays with one number for each set."""
        merged = Gathered()
        for lane in lanes:
            for slices, values in lane.of_sets.values():
                merged.merge_of_sets(slices, values, merge)
        parts = list(merged.of_sets.values())
        if len(parts) == 1:
            return tuple(parts[0][1])
        return tuple(
            _assemble(self.set_shape, [(slices, values[i]) for slices, values in parts])
            for i in range(len(parts[0][1]))
        )

    def of_parameters(self, lanes: list[Gathered]) -> tuple[Any, ...]:
        """The sums gathered for the parameters: arrays of the parameters' shape."""
        sums: dict[Key, tuple[Slices, list[Array | None]]] = {}
        for lane in lanes:
            slices, values = lane.of_parameters
            key = _key(slices)
            if key in sums:
                _add_to(sums[key][1], values)
            else:
                sums[key] = slices, values
        parts = list(sums.values())
        if len(parts) <= 1:
            return tuple(parts[0][1]) if parts else ()
        return tuple(
            _assemble(self.parameter_shape, [(slices, values[i]) for slices, values in parts])
            for i in range(len(parts[0][1]))
        )


class Gathered:
    """What the blocks of one lane have found out: about their sets, and for the parameters."""

    __slots__ = ("of_parameters", "of_sets")

    def __init__(self) -> None:
        self.of_sets: dict[Key, tuple[Slices, Any]] = {}
        self.of_parameters: tuple[Slices, list[Array | None]] = ((), [])

    def add_of_sets(self, block: Block, values: Any, merge: Merge) -> None:
        """Take in numbers about the sets that `block` has a part of."""
        over = block.plan.over
        slices = tuple([_ALL if i in over else s for i, s in enumerate(block.slices)])
        self.merge_of_sets(slices, values, merge)

    def merge_of_sets(self, slices: Slices, values: Any, merge: Merge) -> None:
        """Take in numbers about the sets at `slices`."""
        key = _key(slices)
        seen = self.of_sets.get(key)
        self.of_sets[key] = slices, values if seen is None else merge(seen[1], values)

    def add_of_parameters(self, block: Block, values: tuple[Array | None, ...]) -> None:
        """Add sums for the parameters that `block` has a part of, in float64 or wider."""
        slices, sums = self.of_parameters
        if sums:
            _add_to(sums, values)
            return
        along = block.plan.along
        slices = tuple([s if i in along else _ALL for i, s in enumerate(block.slices)])
        wide = np.promote_types(block.work, np.float64)
        self.of_parameters = slices, [None if v is None else v.astype(wide) for v in values]


_ALL = slice(None)


def _key(slices: Slices) -> Key:
    return tuple([s.start for s in slices])


def _add_to(sums: list[Array | None], values: Sequence[Array | None]) -> None:
    for total, value in zip(sums, values, strict=True):
        if total is not None and value is not None:
            total += value


def _assemble(shape: Shape, parts: list[tuple[Slices, Any]]) -> Any:
    """One array from its parts; a part that is None is zero, and a plain number stays one."""
    arrays = [(slices, a) for slices, a in parts if isinstance(a, np.ndarray)]
    if not arrays:
        return parts[0][1]
    make = np.empty if len(arrays) == len(parts) else np.zeros
    whole = make(shape, arrays[0][1].dtype)
    for slices, a in arrays:
        whole[slices] = a
    return whole


@lru_cache(maxsize=256)
def plan_for(layout: Layout, itemsize: int) -> Plan:
    """The plan of a layout; the last ones are remembered."""
    return Plan(layout, itemsize)


def _extents(layout: Layout, block: int, limit: int) -> tuple[list[int], bool]:
    """How far a block reaches along each axis, and whether it holds its sets whole."""
    shape, over, _ = layout
    extent = [1] * len(shape)

    def grow(axes: Iterator[int], target: int) -> None:
        for axis in axes:
            room = target // max(1, prod(extent) // extent[axis])
            pieces = ceil(shape[axis] / max(1, min(shape[axis], max(room, extent[axis]))))
            extent[axis] = ceil(shape[axis] / max(1, pieces))
            if pieces > 1:
                return

    backwards = list(reversed(range(len(shape))))
    grow(iter(backwards), RUN)
    whole = prod(shape[a] if a in over else extent[a] for a in range(len(shape))) <= limit
    if whole:
        for axis in over:
            extent[axis] = shape[axis]
        grow((a for a in backwards if a not in over), block)
    else:
        grow((a for a in backwards if a in over), block)
    return extent, whole


def _cut(n: int, extent: int) -> list[slice]:
    return [slice(i, min(i + extent, n)) for i in range(0, n, extent)]


class Block:
    """One block of a plan, and the scratch memory of the thread that works on it."""

    __slots__ = ("ndim", "plan", "shape", "size", "slices", "work")

    def __init__(self, plan: Plan, slices: Slices, work: np.dtype[Any]):
        self.plan = plan
        self.slices = slices
        self.work = work
        self.shape = tuple([s.stop - s.start for s in slices])
        self.size = prod(self.shape)
        self.ndim = len(slices)

    @property
    def count(self) -> int:
        """How many elements of each set lie in this block."""
        return prod(self.shape[i] for i in self.plan.over)

    @property
    def average(self) -> Sum:
        """The average over the part of a set that lies in this block."""
        return Sum(self.plan.over, self.ndim, self.own(2), average=True)

    @property
    def set_sum(self) -> Sum:
        """The sum over the part of a set that lies in this block."""
        return Sum(self.plan.over, self.ndim, self.own(2))

    @property
    def parameter_sum(self) -> Sum:
        """The sum over the axes along which parameters do not vary."""
        return Sum(self.plan.others, self.ndim, self.own(2))

    def own(self, slot: int) -> Array:
        """Scratch of the block's shape; a thread has three slots and uses them again and again."""
        return _scratch(slot, self.size, self.work).reshape(self.shape)

    def lift(self, view: Array, slot: int) -> Array:
        """Return this block of `view` in the working dtype, contiguous; only to be read."""
        part = view[self.slices]
        if part.dtype == self.work and part.flags.c_contiguous and part.flags.aligned:
            return part
        own = self.own(slot)
        np.copyto(own, part, casting="unsafe")
        return own

    @overload
    def of_sets(self, a: Array) -> Array: ...
    @overload
    def of_sets(self, a: None) -> None: ...
    def of_sets(self, a: Array | None) -> Array | None:
        """The part of `a`, one number for each set of the plan, that belongs to this block."""
        over = self.plan.over
        return (
            None
            if a is None
            else a[tuple([slice(None) if i in over else s for i, s in enumerate(self.slices)])]
        )

    @overload
    def of_parameters(self, a: Array) -> Array: ...
    @overload
    def of_parameters(self, a: None) -> None: ...
    def of_parameters(self, a: Array | None) -> Array | None:
        """The part of a parameter that belongs to this block."""
        along = self.plan.along
        return (
            None
            if a is None
            else a[tuple([s if i in along else slice(None) for i, s in enumerate(self.slices)])]
        )

    def place(self, view: Array, slot: int) -> Array:
        """Where to compute this block of the result: in `view`, if that rounds only once."""
        return view[self.slices] if rounds_in_ufuncs(self.work, view.dtype) else self.own(slot)

    def store(self, result: Array, view: Array) -> None:
        """Round a result into its place, unless it was computed there."""
        if not rounds_in_ufuncs(self.work, view.dtype):
            round_into(view[self.slices], result)


_threads_own = threading.local()


def _scratch(slot: int, size: int, dtype: np.dtype[Any]) -> Array:
    # Kept from call to call: fresh megabytes cost more than the arithmetic on them.
    slots = _threads_own.__dict__.setdefault("slots", {})
    needed = size * dtype.itemsize
    memory = slots.get(slot)
    if memory is None or memory.nbytes < needed:
        memory = slots[slot] = np.empty(needed, np.uint8)
    return np.asarray(memory[:needed].view(dtype))

"""Work on an array block by block: lift, compute, round once; on several threads.

Nothing here knows what is computed. A `Block` lifts its part of an array into private, contiguous
memory in the working dtype, and stores a result, rounding once. What blocks find out about sets
and parameters is gathered lane by lane and merged in a fixed order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine.threads import in_threads
from .plans import Cut, Plan, Run, Shape, Slices
from .rounding import round_into, rounds_twice

Array = NDArray[Any]
Merge = Callable[[Any, Any], Any]
Visit = Callable[["Block", "Gathered"], None]
Start = tuple[int | None, ...]
Store = Callable[[Slices, Sequence[Array | None]], None]

SETTINGS = 16 * 1024  # elements below which to choose NumPy's buffer costs more than it saves


class Block:
    """One block of a plan, with scratch memory of the thread that works on it."""

    __slots__ = ("cut", "memory", "plan", "work")

    def __init__(self, plan: Plan, cut: Cut, work: np.dtype[Any], memory: _Memory):
        self.plan = plan
        self.cut = cut
        self.work = work
        self.memory = memory

    def own(self, slot: int) -> Array:
        """Scratch of the block's shape; there are two slots, used again and again."""
        return self.memory.array(slot, self.cut.shape, self.cut.size, self.work)

    def part(self, view: Array) -> Array:
        """The block's part of a view."""
        return view if self.cut.alone else view[self.cut.slices]

    def sets(self, a: Array | None) -> Any:
        """The part of `a`, which has one number for each set, that belongs to the block's sets."""
        return a if a is None or self.cut.alone else a[self.cut.of_sets]

    def parameters(self, a: Array | None) -> Any:
        """The part of a parameter that belongs to the block, in the working dtype."""
        if a is None:
            return None
        part = a if self.cut.alone else a[self.cut.of_parameters]
        return part if part.dtype is self.work else part.astype(self.work, copy=False)

    def wide(self, a: Any) -> Any:
        """Numbers for sets or parameters, repeated for rows that lie side by side."""
        axis = self.plan.beside
        if axis is None or a is None or a.shape[axis] > 1:
            return a
        return np.repeat(a, self.cut.shape[axis], axis)

    def lift(self, view: Array, slot: int) -> Array:
        """The block's part of a view, contiguous and in the working dtype; only to be read."""
        part = self.part(view)
        if part.dtype == self.work and part.flags.c_contiguous and part.flags.aligned:
            return part
        own = self.own(slot)
        np.copyto(own, part, casting="unsafe")
        return own

    def place(self, view: Array, slot: int) -> Array:
        """Where to compute the block's part of a result: in the view, if that rounds only once."""
        return self.own(slot) if rounds_twice(self.work, view.dtype) else self.part(view)

    def store(self, result: Array, view: Array) -> None:
        """Round a result into its place, unless it was computed there."""
        if rounds_twice(self.work, view.dtype):
            round_into(self.part(view), result)


class Gathered:
    """What the blocks of one lane have found out: about sets, and for the parameters."""

    __slots__ = ("parameters", "sets")

    def __init__(self) -> None:
        self.sets: dict[Start, tuple[Slices, Any]] = {}
        self.parameters: dict[Start, tuple[Slices, list[Array | None]]] = {}

    def add_sets(self, cut: Cut, values: Any, merge: Merge) -> None:
        """Take in numbers about the sets that a block has a part of."""
        self._merge(() if cut.alone else _start(cut.of_sets), cut.of_sets, values, merge)

    def _merge(self, key: Start, slices: Slices, values: Any, merge: Merge) -> None:
        seen = self.sets.get(key)
        self.sets[key] = slices, values if seen is None else merge(seen[1], values)

    def add_parameters(self, cut: Cut, values: Sequence[Array | None]) -> None:
        """Add sums for the parameters that a block has a part of, in float64 or wider."""
        self._add(() if cut.alone else _start(cut.of_parameters), cut.of_parameters, values)

    def _add(self, key: Start, slices: Slices, values: Sequence[Array | None]) -> None:
        if key in self.parameters:
            _add_to(self.parameters[key][1], values)
        else:
            self.parameters[key] = slices, [_widened(v) for v in values]


class Table:
    """Numbers for sets or parameters, each part written down where it belongs."""

    def __init__(self, shape: Shape):
        self.shape = shape
        self.made: dict[int, Any] = {}
        self.number = 0

    @property
    def arrays(self) -> list[Any]:
        return [self.made.get(i) for i in range(self.number)]

    def write(self, cut: Cut, values: Sequence[Array | None]) -> None:
        """Write the numbers for the sets that a block holds whole."""
        if cut.alone:
            self.made, self.number = dict(enumerate(values)), len(values)
        else:
            self.put(cut.of_sets, values)

    def put(self, slices: Slices, values: Sequence[Any]) -> None:
        """Write a part of each array; what is None is zero, and plain numbers are left out."""
        self.number = len(values)
        for i, a in enumerate(values):
            if isinstance(a, np.ndarray):
                whole = self.made.get(i)
                if whole is None:  # no lock, which a fork could leave taken in the child
                    whole = self.made.setdefault(i, np.zeros(self.shape, a.dtype))
                whole[slices] = a


def sweep(
    plan: Plan, visit: Visit, work: np.dtype[Any], store: Store | None = None
) -> list[Gathered]:
    """Visit every block once; return what each lane has gathered, in a fixed order.

    `store` takes the sums for a part of the parameters that no other lane has, so that they need
    not be kept.
    """
    if plan.size < SETTINGS:
        return [_along_lane(lane, plan, visit, work, store) for lane in plan.lanes]

    gathered: list[Any] = [None] * len(plan.lanes)

    def with_settings(i: int) -> None:
        with np.errstate(all="ignore"):  # of this thread; the size of the buffer ends with it
            np.setbufsize(plan.buffer)
            gathered[i] = _along_lane(plan.lanes[i], plan, visit, work, store)

    in_threads(with_settings, range(len(plan.lanes)))
    return gathered


def _along_lane(
    lane: list[Run], plan: Plan, visit: Visit, work: np.dtype[Any], store: Store | None
) -> Gathered:
    gathered, memory = Gathered(), _memory()
    for run in lane:
        for cut in run:
            visit(Block(plan, cut, work, memory), gathered)
        if store is not None and not plan.lanes_share_parts:
            while gathered.parameters:
                store(*gathered.parameters.popitem()[1])
    _of_thread.memory = memory
    return gathered


def gather_sets(plan: Plan, lanes: list[Gathered], merge: Merge) -> tuple[Any, ...]:
    """Merge what lanes have found out about the sets: arrays with one number for each set."""
    merged, *others = lanes
    for lane in others:
        for key, (slices, values) in lane.sets.items():
            merged._merge(key, slices, values, merge)
    return _assemble(plan.set_shape, list(merged.sets.values()))


def gather_parameters(plan: Plan, lanes: list[Gathered]) -> tuple[Any, ...]:
    """The sums that lanes have gathered for the parameters: arrays of the parameters' shape."""
    added, *others = lanes
    for lane in others:
        for key, (slices, sums) in lane.parameters.items():
            added._add(key, slices, sums)
    return _assemble(plan.parameter_shape, list(added.parameters.values()))


def _start(slices: Slices) -> Start:
    return tuple([s.start for s in slices])


def _assemble(shape: Shape, parts: list[tuple[Slices, Any]]) -> tuple[Any, ...]:
    if len(parts) == 1:
        return tuple(parts[0][1])
    table = Table(shape)
    for slices, values in parts:
        table.put(slices, values)
    return tuple(table.arrays)


def _widened(a: Array | None) -> Array | None:
    return a if a is None or a.dtype.itemsize >= 8 else a.astype(np.float64)


def _add_to(sums: list[Array | None], values: Sequence[Array | None]) -> None:
    for total, value in zip(sums, values, strict=True):
        if total is not None and value is not None:
            total += value


class _Memory:
    """A thread's scratch, kept from call to call.

    Fresh megabytes for each block would cost more than the arithmetic on them.
    """

    __slots__ = ("arrays", "slots")

    def __init__(self) -> None:
        self.slots: dict[int, Array] = {}
        self.arrays: dict[tuple[int, Shape, str], Array] = {}

    def array(self, slot: int, shape: Shape, size: int, dtype: np.dtype[Any]) -> Array:
        key = (slot, shape, dtype.char)
        found = self.arrays.get(key)
        return self._make(key, size * dtype.itemsize, dtype) if found is None else found

    def _make(self, key: tuple[int, Shape, str], nbytes: int, dtype: np.dtype[Any]) -> Array:
        slot, shape, _ = key
        memory = self.slots.get(slot)
        if memory is None or memory.nbytes < nbytes or len(self.arrays) > 64:
            self.arrays = {k: a for k, a in self.arrays.items() if k[0] != slot}
            if memory is None or memory.nbytes < nbytes:
                memory = self.slots[slot] = np.empty(nbytes, np.uint8)
        array = self.arrays[key] = memory[:nbytes].view(dtype).reshape(shape)
        return array


_of_thread = threading.local()


def _memory() -> _Memory:
    memory: _Memory | None = _of_thread.__dict__.pop("memory", None)  # while it is in use
    return memory or _Memory()

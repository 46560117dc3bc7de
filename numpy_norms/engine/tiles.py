"""A pass over an array, tile by tile: prepare, reduce, finish, apply; on several threads.

Where the working dtype is that of the arrays, tiles are computed on in the arrays themselves, and
results in the place of results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plans import PAYS, Cut, Plan, Slices, nothing
from .rounding import native, round_into
from .threads import in_threads

Array = NDArray[Any]
Numbers = Sequence[Any]  # arrays of one number for each set, or parameter; None is 0 for all
Table = dict[int, Any]  # numbers for all sets, under their place among such

FEW = 4 * 1024  # elements below which to choose NumPy's buffer costs more than it saves
TRIES = 6  # times a tile is reduced, the later ones lifted in another way


def run(
    plan: Plan,
    prepare: Callable[..., Numbers],
    reduce: Callable[..., tuple[Numbers, Numbers, Numbers]],
    finish: Callable[..., Numbers] | None,
    apply: Callable[..., None],
    *,
    about: Numbers = (),
    nearer: Callable[..., Numbers | None] | None = None,
    sums: Table | None = None,
    slots: int,
) -> None:
    """Prepare, reduce, finish, apply: in one sweep where tiles hold their sets whole, else in two.

    `about` says how sets are lifted: some numbers for each. `reduce` returns the arrays that
    `apply` is given, shares of averages over sets, and shares of sums for parameters; both add up
    from tile to tile. `finish` makes of averages what else `apply` is given (None: nothing is
    averaged). From both, `nearer` may say how to lift sets better, to prepare and reduce them once
    more. In a second sweep sums are known, and a tile's give None. They are rounded and put into
    the table `sums`. `slots` is how many arrays are computed on elsewhere than in results.
    """
    if not plan.size:
        return
    cut = plan.cuts.get(slots) or plan.cut(slots)

    def whole(tile: Tile) -> tuple[Numbers, Numbers]:
        here = about if tile.slices is None else tile.sets(about)
        for tries in range(TRIES):
            arrays, averages, totals = reduce(tile, *prepare(tile, *here))
            found = () if finish is None else finish(*averages)
            better = None if nearer is None else nearer(here, averages, found)
            if better is None or tries == TRIES - 1:
                break
            here, arrays = better, ()  # the old ones are freed before there are others
        apply(tile, *arrays, *here, *found)
        return (), totals

    if cut.alone:
        with np.errstate(all="ignore"):
            if plan.size > FEW:
                np.setbufsize(plan.buffer)  # ends with the errstate
            _, totals = whole(Tile(plan, cut))
        if sums is not None:
            sums.update(enumerate(totals))
        return
    if cut.whole or finish is None:
        sweep(plan, cut, whole, sums)
        return

    def gather(tile: Tile) -> tuple[Numbers, Numbers]:
        return reduce(tile, *prepare(tile, *tile.sets(about)))[1:]

    def spread(tile: Tile) -> tuple[Numbers, Numbers]:
        here = tile.sets(about)
        arrays, _, _ = reduce(tile, *prepare(tile, *here))
        apply(tile, *arrays, *here, *tile.sets(found))
        return (), ()

    for tries in range(TRIES):
        averages = sweep(plan, cut, gather, sums)
        with np.errstate(all="ignore"):
            found = finish(*averages)
            better = None if nearer is None else nearer(about, averages, found)
        if better is None or tries == TRIES - 1:
            break
        about = better
    sweep(plan, cut, spread, None, known=True)


class Tile:
    """A part of a view to work on, and memory for it."""

    __slots__ = (
        *("B", "E", "G", "M", "cut", "memory", "of_parameters", "of_sets", "plan", "slices"),
        "slot",
    )

    def __init__(self, plan: Plan, cut: Cut, known: bool = False):
        self.plan, self.cut = plan, cut
        self.slices: Any = None  # it is all
        self.of_sets: Any = None
        self.of_parameters: Any = None
        self.memory: Array | None = None
        self.slot = 0  # of the next array that is computed on elsewhere than in a result
        sums: tuple[Any, ...] = (nothing,) * 4 if known else plan.sums
        self.E, self.M, self.G, self.B = sums

    def move(self, slices: list[slice]) -> None:
        """Go to a part of the view."""
        over, along, every = self.plan.over, self.plan.along, slice(None)
        self.slices = tuple(slices)
        self.of_sets = tuple([every if a in over else s for a, s in enumerate(slices)])
        self.of_parameters = tuple([s if a in along else every for a, s in enumerate(slices)])

    def part(self, view: Array) -> Array:
        """The tile's part of a view."""
        return view if self.slices is None else view[self.slices]

    def sets(self, numbers: Numbers) -> Numbers:
        """The parts of numbers for sets that belong to the tile's."""
        part = self.of_sets
        return numbers if part is None else tuple([a if a is None else a[part] for a in numbers])

    def parameters(self, *arrays: Array | None) -> list[Any]:
        """The parts of parameters that belong to the tile."""
        part, dtype, parameters = self.of_parameters, self.plan.parameter, []
        for a in arrays:
            if a is not None and part is not None:
                a = a[part]
            parameters.append(a if a is None or a.dtype == dtype else a.astype(dtype))
        return parameters

    def own(self, view: Array) -> Array:
        """Memory of the shape of a part: that of the slots, in turn."""
        if self.plan.small:
            return np.empty_like(view, self.plan.work, "C")
        if self.memory is None:
            self.memory = np.empty(self.cut.slots * self.cut.slot, np.uint8)
        start = self.slot % self.cut.slots * self.cut.slot
        self.slot += 1
        return np.ndarray(view.shape, self.plan.work, self.memory, start)

    def lift(
        self, view: Array, pivot: Any = None, exponent: Any = None, into: Array | None = None
    ) -> Any:
        """The tile's part of a view, less a pivot and times a power of two, for each set.

        Large powers are multiplied by last, small ones first, so that nothing leaves the range. It
        is computed on in its part of the view `into`, if that is of the working dtype.
        """
        plan, part = self.plan, self.slices
        now = view if part is None else view[part]
        if into is None or into is view or not plan.in_place:
            place, into = self.own(now), None
        else:
            place = into if part is None else into[part]
        if not plan.fits(now):
            np.copyto(place, now, casting="unsafe")
            now = place
        if exponent is not None:
            now = np.multiply(now, plan.spread(plan.power(np.minimum(exponent, 0))), place)
        if pivot is not None:
            now = np.subtract(now, plan.spread(pivot) if plan.spreads else pivot, place)
        if exponent is not None:
            now = np.multiply(now, plan.spread(plan.power(np.maximum(exponent, 0))), place)
        return plan.array(now, place, plan, into)

    def unlift(self, array: Any, exponent: Array | None, power: int = 0) -> None:
        """Multiply by powers of two, in steps of their own, so that no other factor joins them."""
        if exponent is None and not power:
            return
        if exponent is None:
            exponent = np.zeros([1] * len(self.plan.shape), np.int64)
        exponent = exponent + power
        half = exponent // 2
        for part in (half, exponent - half):
            array.settle()
            array *= self.plan.power(part)
        array.settle()

    def store(self, array: Any, view: Array) -> None:
        """Round the array into its part of a view, unless it was computed there."""
        value = array.value()
        if value is not array.place or array.home is not view:
            round_into(self.part(view), value)

    def keep(self, table: Table, *numbers: Array | None) -> None:
        """Put numbers for the tile's sets where they belong; None is 0 for all."""
        if self.slices is None:
            table.update(enumerate(numbers))
            return
        for k, a in enumerate(numbers):
            if a is not None:
                _whole(table, k, self.plan.set_shape, a.dtype)[self.of_sets] = a


def _whole(table: Table, k: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    whole = table.get(k)
    return table.setdefault(k, np.zeros(shape, dtype)) if whole is None else whole


def sweep(
    plan: Plan,
    cut: Cut,
    visit: Callable[[Tile], tuple[Numbers, Numbers]],
    sums: Table | None,
    *,
    known: bool = False,
) -> Numbers:
    """Visit every tile, several at a time; return the averages that their shares add up to."""
    number = len(cut.lanes)
    tables: list[Table] = [{}] * number if cut.disjoint else [{} for _ in range(number)]
    shares: list[Numbers] = [()] * number
    count = 0

    @np.errstate(all="ignore")  # of this thread; the size of the buffer ends with it
    def along(lane: int) -> None:
        nonlocal count
        np.setbufsize(plan.buffer)
        tile = Tile(plan, cut, known)
        for part, rests in cut.lanes[lane]:
            totals: Numbers = ()
            for rest in rests:
                slices: Slices = (*part, *rest)
                tile.move([slices[i] for i in cut.order])
                averages, more = visit(tile)
                count = len(averages)
                for k, a in enumerate(averages):
                    if a is not None:
                        _whole(tables[lane], k, plan.set_shape, plan.wide)[tile.of_sets] += a
                totals = _added(plan, totals, more)
            if cut.many:
                _store(plan, sums, tile.of_parameters, totals)
            else:
                shares[lane] = totals

    in_threads(along, range(number), alone=plan.size < PAYS)
    with np.errstate(all="ignore"):
        totals: Numbers = ()
        for share in shares:
            totals = _added(plan, totals, share)
        _store(plan, sums, None, totals)
        for table in () if cut.disjoint else tables[1:]:
            for k, a in table.items():
                tables[0][k] = tables[0][k] + a if k in tables[0] else a
    averages = [tables[0].get(k) for k in range(count)]
    return tuple([None if a is None else a.astype(plan.few, copy=False) for a in averages])


def _added(plan: Plan, totals: Numbers, more: Numbers) -> Numbers:
    """Sums so far and those of one more tile."""
    if not totals:
        return tuple([None if a is None else a.astype(plan.wide, copy=False) for a in more])
    for total, a in zip(totals, more, strict=True):
        if total is not None:
            total += a.astype(plan.wide, copy=False)  # cast apart: see sums._added
    return totals


def _store(plan: Plan, sums: Table | None, part: Any, totals: Numbers) -> None:
    """Put sums for parameters where they belong; a part of many is rounded first."""
    for k, total in enumerate(totals):
        if sums is None or total is None:
            continue
        if part is None:
            sums[k] = total
        else:
            dtype: Any = (plan.asked.first, plan.asked.second, plan.wide)[k]
            round_into(_whole(sums, k, plan.parameter_shape, native(dtype))[part], total)

"""A pass over an array, tile by tile: prepare, reduce, finish, apply; on several threads.

Where the working dtype is that of the arrays, tiles are computed on in the arrays themselves, and
results in the place of results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plans import PAYS, SCRATCH, Cut, Plan, Tile, nothing
from .rounding import round_into
from .threads import get_num_threads, in_threads

Array = NDArray[Any]
Numbers = tuple[Any, ...]  # arrays of one number for each set, or parameter; None is 0 for all

FEW = 4 * 1024  # elements below which to choose NumPy's buffer costs more than it saves
TRIES = 6  # times a tile is reduced, the later ones lifted in another way
Table = dict[int, Any]  # numbers for all sets, under their place in a row of such
_kept: list[Array] = []  # scratch that no thread works in


def run(
    plan: Plan,
    prepare: Callable[..., Numbers],
    reduce: Callable[..., tuple[Numbers, Numbers, Numbers]],
    finish: Callable[..., Numbers] | None,
    apply: Callable[..., None],
    *,
    about: Numbers = (),
    nearer: Callable[..., Numbers | None] | None = None,
    sums: Numbers = (),
    slots: int,
) -> None:
    """Prepare, reduce, finish and apply: in one sweep where tiles hold their sets whole, else in two.

    `about` says how sets are lifted: some numbers for each. `reduce` returns the arrays that
    `apply` is given, shares of averages over sets, and shares of sums for parameters; both add up
    from tile to tile. `finish` makes of averages what else `apply` is given (None: nothing is
    averaged). From that, `nearer` may say how to lift sets better, to prepare and reduce them once
    more. In a second sweep sums are known, and a tile's give None. The sums are rounded into the
    arrays `sums`. `slots` is how many arrays are computed on elsewhere than in results.
    """
    if not plan.size:
        return
    cut = plan.cuts.get(slots) or plan.cut(slots)

    def whole(desk: Desk) -> tuple[Numbers, Numbers]:
        here = about if desk.tile.slices is None else desk.sets(about)
        for tries in range(TRIES):
            arrays, averages, totals = reduce(desk, *prepare(desk, *here))
            found = () if finish is None else finish(*averages)
            if nearer is None or tries == TRIES - 1 or (better := nearer(here, *found)) is None:
                break
            here = better
        apply(desk, *arrays, *here, *found)
        return (), totals

    if cut.one is not None:
        desk = Desk(plan, cut)
        desk.tile = cut.one
        with np.errstate(all="ignore"):
            if plan.size > FEW:
                np.setbufsize(plan.buffer)  # ends with the errstate
            _, totals = whole(desk)
            if sums:
                _store(plan, sums, None, totals)
        if desk.memory is not None:
            desk.leave()
        return
    if cut.whole or finish is None:
        _sweep(plan, cut, whole, sums)
        return

    def gather(desk: Desk) -> tuple[Numbers, Numbers]:
        return reduce(desk, *prepare(desk, *desk.sets(about)))[1:]

    def spread(desk: Desk) -> tuple[Numbers, Numbers]:
        here = desk.sets(about)
        arrays, _, _ = reduce(desk, *prepare(desk, *here))
        apply(desk, *arrays, *here, *desk.sets(found))
        return (), ()

    for tries in range(TRIES):
        averages = _sweep(plan, cut, gather, sums)
        with np.errstate(all="ignore"):
            found = finish(*averages)
            if nearer is None or tries == TRIES - 1 or (better := nearer(about, *found)) is None:
                break
        about = better
    _sweep(plan, cut, spread, (), known=True)


class Desk:
    """A tile to work on, and memory of the thread that works on it."""

    __slots__ = ("B", "E", "G", "M", "cut", "memory", "plan", "tile")

    def __init__(self, plan: Plan, cut: Cut, known: bool = False):
        self.plan, self.cut = plan, cut
        self.tile: Tile
        self.memory: Array | None = None
        self.E, self.M, self.G, self.B = (nothing,) * 4 if known else plan.sums

    def leave(self) -> None:
        """Put the memory back, for the next work of some thread."""
        if self.memory is not None and len(_kept) < get_num_threads():
            _kept.append(self.memory)
        self.memory = None

    def part(self, view: Array) -> Array:
        """The tile's part of a view."""
        return view if self.tile.slices is None else view[self.tile.slices]

    def sets(self, numbers: Numbers) -> Numbers:
        """The parts of numbers for sets that belong to the tile's."""
        if self.tile.slices is None:
            return numbers
        return tuple([None if a is None else a[self.tile.of_sets] for a in numbers])

    def parameters(self, *arrays: Array | None) -> Numbers:
        """The parts of parameters that belong to the tile."""
        part = self.tile.of_parameters
        return arrays if part is None else tuple([a if a is None else a[part] for a in arrays])

    def unlift(self, array: Any, exponent: Array) -> None:
        """Multiply by powers of two; in a step of its own, so that no other factor joins them."""
        array.settle()
        array *= self.plan.power(exponent)
        array.settle()

    def own(self, slot: int) -> Array:
        """Memory of the tile's shape; while it is used it is nowhere else to be found."""
        if self.plan.small:
            return np.empty(self.tile.shape, self.plan.work)
        if self.memory is None:
            self.memory = _taken()
        return np.ndarray(self.tile.shape, self.plan.work, self.memory, slot * self.cut.slot)

    def lift(
        self, view: Array, pivot: Any = None, exponent: Any = None, into: Array | None = None
    ) -> Any:
        """The tile's part of a view, less a pivot and times a power of two, for each set.

        Large powers are multiplied by last, small ones first, so that nothing leaves the range. It
        is computed on in its part of the view `into`, if that is of the working dtype.
        """
        plan, part = self.plan, self.tile.slices
        now = view if part is None else view[part]
        if into is None or into is view or not plan.fits(into):
            place = self.own(0 if into is None else self.cut.slots - 1)
            into = None
        else:
            place = into if part is None else into[part]
        if not plan.fits(now):
            np.copyto(place, now, casting="unsafe")
            now = place
        if exponent is not None:
            now = np.multiply(now, plan.wide(plan.power(np.minimum(exponent, 0))), place)
        if pivot is not None:
            now = np.subtract(now, plan.wide(pivot), place)
        if exponent is not None:
            now = np.multiply(now, plan.wide(plan.power(np.maximum(exponent, 0))), place)
        return plan.array(now, place, plan, into)

    def keep(self, table: Table, *numbers: Array | None) -> None:
        """Put numbers for the tile's sets where they belong; None is 0 for all."""
        part = self.tile.of_sets
        if part is None:
            table.update(enumerate(numbers))
            return
        for k, a in enumerate(numbers):
            if a is not None:
                _whole(table, k, self.plan, a.dtype)[part] = a

    def store(self, array: Any, view: Array) -> None:
        """Round the array into its part of a view, unless it was computed there."""
        value = array.value()
        if value is not array.place or array.home is not view:
            round_into(self.part(view), value)


def _taken() -> Array:
    try:
        return _kept.pop()
    except IndexError:
        return np.empty(SCRATCH, np.uint8)


def _sweep(
    plan: Plan,
    cut: Cut,
    visit: Callable[[Desk], tuple[Numbers, Numbers]],
    sums: Numbers,
    *,
    known: bool = False,
) -> Numbers:
    """Visit every tile, several at a time; return the averages that their shares add up to."""
    tables: list[Table] = [{} for _ in range(1 if cut.apart else len(cut.lanes))]
    shares: list[Numbers] = [()] * len(cut.lanes)
    count = 0

    def along(lane: int) -> None:
        nonlocal count
        desk = Desk(plan, cut, known)
        with np.errstate(all="ignore"):  # of this thread; the size of the buffer ends with it
            np.setbufsize(plan.buffer)
            for part, start, end in cut.lanes[lane]:
                totals: Numbers = ()
                for desk.tile in cut.tiles(part, start, end):
                    averages, more = visit(desk)
                    _add(tables[lane % len(tables)], desk, averages)
                    totals = _added(totals, more)
                    count = len(averages)
                if cut.owned:
                    _store(plan, sums, desk.tile.of_parameters, totals)
                else:
                    shares[lane] = totals
        desk.leave()

    in_threads(along, range(len(cut.lanes)), alone=plan.size < PAYS)
    with np.errstate(all="ignore"):
        if not cut.owned:
            _store_shares(plan, cut, sums, shares)
        for table in tables[1:]:
            for k, a in table.items():
                tables[0][k] = tables[0][k] + a if k in tables[0] else a
    averages = [tables[0].get(k) for k in range(count)]
    return tuple([None if a is None else a.astype(plan.work, copy=False) for a in averages])


def _whole(table: Table, k: int, plan: Plan, dtype: np.dtype[Any]) -> Array:
    whole = table.get(k)
    return table.setdefault(k, np.zeros(plan.set_shape, dtype)) if whole is None else whole


def _add(table: Table, desk: Desk, shares: Numbers) -> None:
    """Add shares of the numbers for a tile's sets, in float64 or wider."""
    for k, a in enumerate(shares):
        if a is not None:
            dtype = np.promote_types(a.dtype, np.float64)
            _whole(table, k, desk.plan, dtype)[desk.tile.of_sets] += a


def _store_shares(plan: Plan, cut: Cut, sums: Numbers, shares: list[Numbers]) -> None:
    """Add what lanes that have a part of the parameters in common have found, part by part."""
    together: dict[int, Numbers] = {}
    for ((part, start, end),), share in zip(cut.lanes, shares, strict=True):
        together[part] = _added(together.get(part, ()), share)
    for part, totals in together.items():
        _store(plan, sums, next(cut.tiles(part, 0, 1)).of_parameters, totals)


def _added(totals: Numbers, more: Numbers) -> Numbers:
    """Sums so far and those of one more tile, in float64 or wider."""
    if not totals:
        wide = [None if a is None else np.promote_types(a.dtype, np.float64) for a in more]
        return tuple([None if a is None else a.astype(w) for a, w in zip(more, wide, strict=True)])
    for total, a in zip(totals, more, strict=True):
        if total is not None:
            total += a.astype(total.dtype, copy=False)  # cast apart: see sums._added
    return totals


def _store(plan: Plan, sums: Numbers, part: Any, totals: Numbers) -> None:
    """Round sums into the part of the arrays where they belong."""
    for out, total in zip(sums, totals, strict=False):
        if out is not None and total is not None:
            out = out.reshape(plan.parameter_shape)
            round_into(out if part is None else out[part], total)

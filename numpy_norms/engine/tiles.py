"""A pass over arrays, tile by tile: reduce, finish, apply; on several threads.

A pass is ``work(tile, *views, *parameters, *options)``, which says by `Steps` what is done with a
tile. A tile is an array of its own, of a kind that comes often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .plans import FEW, MEMORY, Cut, Plan, Slices, nothing
from .programs import repeated
from .rounding import native, round_into
from .threads import in_threads

Array = NDArray[Any]
Numbers = Sequence[Any]  # arrays of one number for each set, or parameter; None is 0 for all
Table = dict[int, Any]  # numbers for all sets, under their place among such
Shares = tuple[Numbers, Numbers, Numbers]  # numbers to keep, of averages, of sums for parameters
Step = Callable[..., Shares]  # what is done on a tile, of its steps

TRIES = 6  # times a tile is reduced, the later ones lifted in another way

# Of what was given back once, as much is kept by the C library at a time. Else it would ask the
# system for the memory of each tile anew, page by page, which takes as long as the work on it.
np.empty(MEMORY, np.uint8)


class Steps(NamedTuple):
    """What a pass does with a tile, whose sets are lifted as the numbers `about` say.

    ``reduce(*about)`` returns the arrays that `apply` is given, shares of averages over sets, and
    shares of sums for parameters; both add up from tile to tile. `finish` makes of averages what
    else `apply` is given (None: nothing is averaged). ``apply(*arrays, *about, *found)`` fills
    results, and returns numbers to keep, if any. From `about`, averages and what was found of them
    `nearer` may say how to lift sets better, to reduce them once more.
    """

    reduce: Callable[..., Shares]
    finish: Callable[..., Numbers] | None
    apply: Callable[..., Numbers | None]
    nearer: Callable[..., Numbers | None] | None = None


def as_found(*averages: Any) -> Numbers:
    """The last but one step where averages themselves are what `apply` is given."""
    return averages


def run(
    work: Callable[..., Steps],
    plan: Plan,
    views: Sequence[Array | None],
    parameters: Sequence[Array | None] = (),
    about: Numbers = (),
    *options: Any,
    slots: int,
) -> tuple[Numbers, Numbers]:
    """The numbers that a pass keeps, and its sums for parameters.

    It takes one sweep where tiles hold their sets whole, else two: in the second, averages and sums
    are known, and a tile's give None. `slots` is how many arrays are computed on elsewhere than in
    results.
    """
    views, parameters = plan.views(*views), plan.parameters(*parameters)
    cut = plan.cut(slots)
    if cut.alone:
        tile, on = (plan, on_tile) if plan.small else (plan.of_tile(plan.shape), _on_tile)
        with np.errstate(all="ignore"):
            if plan.size > FEW:
                np.setbufsize(plan.buffer)  # ends with the errstate
            what = whole, work, options, len(views), len(parameters), len(about)
            kept, _, sums = on(tile, what, *views, *parameters, *about)
        return kept, sums

    def over_tiles(step: Step, about: Numbers, found: Numbers = ()) -> Shares:
        what = step, work, options, len(views), len(parameters), len(about)
        wholes = [*((a, 0) for a in views), *((a, 2) for a in parameters)]
        wholes += [(a, 1) for a in (*about, *found)]
        same = [i for i, a in enumerate(views) if a is views[0]]

        def visit(*slices: Slices) -> Shares:
            arrays: list[Any] = [a if a is None else a[slices[k]] for a, k in wholes]
            for i in same:  # as `lift` and `store` expect
                arrays[i] = arrays[0]
            shares: Shares = _on_tile(plan.of_tile(arrays[0].shape), what, *arrays)
            return shares

        return sweep(plan, cut, visit)

    steps = work(Tile(plan, *plan.sums), *views, *parameters, *options)
    if cut.whole or steps.finish is None:
        kept, _, sums = over_tiles(whole, about)
        return kept, sums
    with np.errstate(all="ignore"):
        _, about, found, sums = _reduced(steps, lambda *a: over_tiles(gather, a), about)
    kept, _, _ = over_tiles(spread, about, found)
    return kept, sums


def whole(steps: Steps, about: Numbers, _: Numbers) -> Shares:
    """All steps, where sets are whole."""
    arrays, about, found, sums = _reduced(steps, steps.reduce, about)
    return steps.apply(*arrays, *about, *found) or (), (), sums


def gather(steps: Steps, about: Numbers, _: Numbers) -> Shares:
    """A tile's shares of averages and of sums."""
    _, averages, sums = steps.reduce(*about)
    return (), averages, sums


def spread(steps: Steps, about: Numbers, found: Numbers) -> Shares:
    """What is found of the averages of all, on one tile."""
    arrays, _, _ = steps.reduce(*about)
    return steps.apply(*arrays, *about, *found) or (), (), ()


def _reduced(
    steps: Steps, reduce: Callable[..., Shares], about: Numbers
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Reduce, once more while sets can be lifted better; and how they are lifted in the end."""
    _, finish, _, nearer = steps
    for left in reversed(range(TRIES)):
        arrays, averages, sums = reduce(*about)
        found = () if finish is None else finish(*averages)
        better = nearer(about, averages, found) if nearer is not None and left else None
        if better is None:
            break
        arrays = ()  # the old ones are freed before there are others
        about = (*better, *about[len(better) :])
    return arrays, about, found, sums


def on_tile(plan: Plan, what: tuple[Any, ...], *arrays: Any) -> Shares:
    """A step of a pass on a tile, whose arrays come in a row, so many of each kind."""
    step, work, options, views, parameters, about = what
    first, second = views + parameters, views + parameters + about
    few, dtype = [], plan.parameter  # parameters as they are computed with
    for a in arrays[views:first]:
        few.append(a if a is None or a.dtype == dtype else a.astype(dtype))
    sums = (nothing,) * 4 if step is spread else plan.sums
    steps = work(Tile(plan, *sums), *arrays[:views], *few, *options)
    shares: Shares = step(steps, arrays[first:second], arrays[second:])
    return shares


_on_tile = repeated(on_tile)


class Tile:
    """What is computed on: arrays with the axes of a plan, or tiles of them."""

    __slots__ = ("B", "E", "G", "M", "plan")

    def __init__(self, plan: Plan, E: Any, M: Any, G: Any, B: Any):
        self.plan, self.E, self.M, self.G, self.B = plan, E, M, G, B

    def lift(
        self,
        view: Array,
        pivot: Any = None,
        exponent: Any = None,
        into: Array | None = None,
        zeros: Array | None = None,
    ) -> Any:
        """An array less a pivot and times a power of two, for each set.

        Large powers are multiplied by last, small ones first, so that nothing leaves the range. It
        is computed on in `into`, if that is of the working dtype, and in memory of its own if not.
        It is 0 where `zeros` says so, whatever it held there.
        """
        plan, now = self.plan, view
        if into is None or into is view or not plan.in_place:
            place, into = np.empty_like(now, plan.work, "C"), None
        else:
            place = into
        if not plan.fits(now):
            np.copyto(place, now, casting="unsafe")
            now = place
        if exponent is not None:
            now = np.multiply(now, plan.spread(plan.power(np.minimum(exponent, 0))), place)
        if pivot is not None:
            now = np.subtract(now, plan.spread(pivot) if plan.spreads else pivot, place)
        if exponent is not None:
            now = np.multiply(now, plan.spread(plan.power(np.maximum(exponent, 0))), place)
        array = plan.array(now, place, plan, into)
        if zeros is not None:
            array.blank(zeros)
        return array

    def unlift(self, array: Any, exponent: Array | None, power: int = 0) -> None:
        """Multiply by powers of two, in steps of their own, so that no other factor joins them."""
        if exponent is None and not power:
            return
        total: Any = power if exponent is None else exponent + power
        half = total // 2
        for part in (half, total - half):
            array.settle()
            array *= self.plan.power(part)
        array.settle()

    def store(self, array: Any, view: Array) -> None:
        """Round the array into its view, unless it was computed there."""
        value = array.value()
        if value is not array.place or array.home is not view:
            round_into(view, value)


def sweep(plan: Plan, cut: Cut, visit: Callable[[Slices, Slices, Slices], Shares]) -> Shares:
    """Visit every tile, several at a time; put together the numbers kept, averages and sums.

    A tile is visited by its slices of views, of numbers for sets, and of parameters.
    """
    number = len(cut.lanes)
    kept: Table = {}
    sums: Table = {}
    tables: list[Table] = [{}] * number if cut.disjoint else [{} for _ in range(number)]
    shares: list[Numbers] = [()] * number
    lengths = 0, 0, 0

    @np.errstate(all="ignore")  # of this thread; the size of the buffer ends with it
    def along(lane: int) -> None:
        nonlocal lengths
        np.setbufsize(plan.buffer)
        for tiles in cut.runs(cut.lanes[lane]):
            totals: Numbers = ()
            for slices, of_sets, of_parameters in tiles:
                numbers, averages, more = visit(slices, of_sets, of_parameters)
                lengths = len(numbers), len(averages), len(more)
                for k, a in enumerate(numbers):
                    if a is not None:
                        _whole(kept, k, plan.set_shape, a.dtype)[of_sets] = a
                for k, a in enumerate(averages):
                    if a is not None:
                        _whole(tables[lane], k, plan.set_shape, plan.wide)[of_sets] += a
                totals = _added(plan, totals, more)
            if cut.many:
                _store(plan, sums, of_parameters, totals)
            else:
                shares[lane] = totals

    in_threads(along, range(number), alone=plan.size < plan.pays)
    with np.errstate(all="ignore"):
        totals: Numbers = ()
        for share in shares:
            totals = _added(plan, totals, share)
        _store(plan, sums, None, totals)
        for table in () if cut.disjoint else tables[1:]:
            for k, a in table.items():
                tables[0][k] = tables[0][k] + a if k in tables[0] else a
    averages = [tables[0].get(k) for k in range(lengths[1])]
    few = [None if a is None else a.astype(plan.few, copy=False) for a in averages]
    return [kept.get(k) for k in range(lengths[0])], few, [sums.get(k) for k in range(lengths[2])]


def _whole(
    table: Table, k: int, shape: tuple[int, ...], dtype: np.dtype[Any], make: Any = np.zeros
) -> Any:
    whole = table.get(k)
    return table.setdefault(k, make(shape, dtype)) if whole is None else whole


def _added(plan: Plan, totals: Numbers, more: Numbers) -> Numbers:
    """Sums so far and those of one more tile."""
    if not totals:
        return tuple([None if a is None else a.astype(plan.wide, copy=False) for a in more])
    for total, a in zip(totals, more, strict=True):
        if total is not None:
            total += a.astype(plan.wide, copy=False)  # cast apart: see sums._added
    return totals


def _store(plan: Plan, sums: Table, part: Any, totals: Numbers) -> None:
    """Put sums for parameters where they belong; a part of many is rounded first."""
    for k, total in enumerate(totals):
        if total is None:
            continue
        if part is None:
            sums[k] = total
        else:
            dtype: Any = (plan.asked.first, plan.asked.second, plan.wide)[k]
            # Zeros would let another thread begin, which would make its own.
            whole = _whole(sums, k, plan.parameter_shape, native(dtype), np.empty)
            round_into(whole[part], total)

"""The conditions that separate wrong from right: on an index along an axis, and on the case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from numpy_norms.verify.faults.place import CONDITIONS, Condition, Place
from numpy_norms.verify.plain import Array

from .evidence import Piece

__all__ = ["Ground", "conditions", "places", "within"]

PERIODS = (2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Ground(NamedTuple):
    """A piece, the weight of each of its elements if it is wrong, and what it weighs if right."""

    piece: Piece
    bad: Array  # evidence that the fault is here
    good: Array  # evidence that it is not


def conditions(ground: Sequence[Ground]) -> Iterator[Condition]:
    """Yield the conditions on the case that come near to separating wrong pieces from right."""
    wrong = [g.piece.traits for g in ground if g.bad.any()]
    right = [g.piece.traits for g in ground if g.good.any() and not g.bad.any()]
    if not wrong or not right:
        return
    for trait in CONDITIONS:
        ill, well = ([float(t.get(trait, 0)) for t in traits] for traits in (wrong, right))
        if min(ill) > max(well):
            yield Condition(trait, _between(max(well), min(ill)))
        elif max(ill) < min(well):
            yield Condition(trait, _between(max(ill), min(well)), above=False)
        else:
            yield from _nearly(trait, ill, well)


def _nearly(trait: str, ill: list[float], well: list[float]) -> Iterator[Condition]:
    """Yield the bounds that leave at most a tenth of the pieces on the wrong side."""
    for bound in sorted({*ill, *well}):
        above = sum(v > bound for v in ill) / len(ill), sum(v <= bound for v in well) / len(well)
        below = sum(v <= bound for v in ill) / len(ill), sum(v > bound for v in well) / len(well)
        for yes, no, side in ((*above, True), (*below, False)):
            if yes >= 0.9 and no >= 0.9:
                yield Condition(trait, bound, above=side)


def _between(low: float, high: float) -> float:
    """Return the roundest number from which on `high`, and `low` not, is above."""
    for bound in (*(2.0**k for k in range(40)), *(10.0**k for k in range(-12, 13))):
        if low <= bound < high:
            return bound
    return low


def places(ground: Sequence[Ground]) -> Iterator[Place]:
    """Yield the index conditions that the pattern of wrong elements suggests, simplest first."""
    axes: dict[str, list[tuple[int, Array]]] = {}
    for g in ground:
        if not g.bad.any():
            continue
        for axis, size, index in g.piece.coordinates:
            bad = np.bincount(index, g.bad, size)
            total = bad + np.bincount(index, g.good, size)
            share = np.divide(bad, total, out=np.zeros(size), where=total > 0)
            ill = share > 0.4 * share.max()
            if not ill.all():
                axes.setdefault(axis, []).append((size, ill))
    for axis, patterns in axes.items():
        found: dict[tuple[str, tuple[int, ...]], None] = {}
        for size, ill in sorted(patterns, key=lambda pattern: -pattern[0])[:4]:
            found |= dict.fromkeys(_forms(size, np.flatnonzero(ill)))
        yield from (Place(axis, form, numbers) for form, numbers in found)


def _forms(size: int, ill: Array) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the forms that these indices may be an instance of."""
    low, high = int(ill[0]), int(ill[-1])
    dense = len(ill) > 0.8 * (high - low + 1)
    if dense and high == size - 1:
        yield "last", (size - low,)
        yield "from", (low,)
        for block in PERIODS:
            if size - size % block == low:
                yield "tail", (block,)
    if dense and low == 0:
        yield "first", (high + 1,)
    if dense:
        yield "range", (low, high)
    for period in PERIODS:
        if (2 * period <= size + period - 1 and len(ill) > 1) or period == 2:
            residues = np.unique(ill % period)
            first, last = int(residues[0]), int(residues[-1])
            if len(residues) < period and last - first + 1 == len(residues):
                yield "each", (first, last, period)


def within(piece: Piece, place: Place | None) -> Array | None:
    """Return which elements of a piece are meant; None if it has no such axis."""
    if place is None:
        return np.ones(piece.got.size, bool)
    along = next((c for c in piece.coordinates if c.axis == place.axis), None)
    return None if along is None else place.holds(along.size)[along.indices]

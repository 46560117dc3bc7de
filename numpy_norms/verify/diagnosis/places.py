"""The conditions that separate wrong from right: on an index along an axis, and on the case."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from numpy_norms.verify.faults.place import CONDITIONS, Condition, Place
from numpy_norms.verify.plain import Array

from .evidence import Piece

__all__ = ["Ground", "conditions", "places", "within"]

VALUES = ("mean/deviation", "eps/variance", "eps", "|x|", "deviation")
PERIODS = (2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
MOST, LIKELY = 4096, 16  # the largest block that is looked for, and how many are tried


@dataclass
class Ground:
    """A piece, and for each of its elements what speaks for a fault there; against it below 0."""

    piece: Piece
    gain: Array

    @cached_property
    def along(self) -> dict[str, tuple[Array, Array]]:
        """What speaks for the fault at each index along each axis, and what it is a part of."""
        gain, weight = self.gain, abs(self.gain)
        return {
            axis: (np.bincount(index, gain, size), np.bincount(index, weight, size))
            for axis, size, index in self.piece.coordinates
        }


def within(ground: Sequence[Ground], place: Place | None) -> list[float]:
    """Return what speaks for the fault at a place in each piece."""
    if place is None:
        return [float(g.gain.sum()) for g in ground]
    gains = [g.along[place.axis][0] if place.axis in g.along else np.zeros(0) for g in ground]
    held = {size: place.holds(size) for size in {len(gain) for gain in gains}}
    return [float(gain[held[len(gain)]].sum()) for gain in gains]


def conditions(
    calls: Sequence[tuple[dict[str, Any], float]], *, exactly: bool = False
) -> Iterator[Condition]:
    """Yield the conditions on the case that separate wrong calls from right, or come near to it.

    `calls` are the traits of each, and what speaks for a fault in it; against it below 0. Values
    hide what is wrong, too: a condition on them may have to hold `exactly`.
    """
    wrong = [traits for traits, gain in calls if gain > 0]
    right = [traits for traits, gain in calls if gain < 0]
    if not wrong or not right:
        return
    for trait in CONDITIONS:
        ill, well = ([float(t.get(trait, 0)) for t in traits] for traits in (wrong, right))
        if min(ill) > max(well):
            yield Condition(trait, _between(max(well), min(ill)))
        elif max(ill) < min(well):
            yield Condition(trait, _between(max(ill), min(well)), above=False)
        elif not (exactly and trait in VALUES):
            yield from _nearly(trait, ill, well)


def _nearly(trait: str, ill: list[float], well: list[float]) -> Iterator[Condition]:
    """Yield the bounds that leave at most a tenth of the calls on the wrong side."""
    ill, well = sorted(ill), sorted(well)
    for bound in sorted({*ill, *well}):
        below = bisect_right(ill, bound) / len(ill), bisect_right(well, bound) / len(well)
        if below[0] <= 0.1 and below[1] >= 0.9:
            yield Condition(trait, bound)
        if below[0] >= 0.9 and below[1] <= 0.1:
            yield Condition(trait, bound, above=False)


def _between(low: float, high: float) -> float:
    """Return the roundest number from which on `high`, and `low` not, is above."""
    for bound in (*(2.0**k for k in range(40)), *(10.0**k for k in range(-12, 13))):
        if low <= bound < high:
            return bound
    return low


def places(ground: Sequence[Ground], promising: Callable[[str], bool]) -> Iterator[Place]:
    """Yield the index conditions that the pattern of wrong elements suggests, simplest first."""
    axes: dict[str, list[tuple[int, Array]]] = {}
    for g in ground:
        if not (g.gain > 0).any():
            continue
        for axis, (gain, total) in g.along.items():
            share = np.divide(gain + total, total, out=np.zeros_like(total), where=total > 0)
            ill = share > 0.4 * share.max()
            if not ill.all():
                axes.setdefault(axis, []).append((len(ill), ill))
    for axis, patterns in axes.items():
        if not promising(axis):
            continue
        found: dict[tuple[str, tuple[int, ...]], None] = {}
        for size, ill in sorted(patterns, key=lambda pattern: -pattern[0])[:4]:
            found |= dict.fromkeys(_forms(size, np.flatnonzero(ill)))
        yield from (Place(axis, form, numbers) for form, numbers in found)


def _unusual(block: int) -> tuple[bool, int]:
    return block not in PERIODS, block


def _forms(size: int, ill: Array) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the forms that these indices may be an instance of."""
    low, high = int(ill[0]), int(ill[-1])
    dense = len(ill) > 0.8 * (high - low + 1)
    if dense and high == size - 1:
        yield "last", (size - low,)
        if low:
            yield "from", (low,)
        blocks = np.arange(2, MOST + 1)
        found = blocks[size - size % blocks == low].tolist()
        yield from (("tail", (block,)) for block in sorted(found, key=_unusual)[:LIKELY])
        if low in (size // 2, (size + 1) // 2):
            yield "half", (1,)
    if dense and low == 0:
        yield "first", (high + 1,)
        if high + 1 in (size // 2, (size + 1) // 2):
            yield "half", (0,)
    if dense:
        yield "range", (low, high)
    starts = ill[np.diff(ill, prepend=-2) > 1]
    own = {int(starts[1] - starts[0])} if len(starts) > 1 else set()
    for period in sorted({*PERIODS, *own}):
        if (2 * period <= size + period - 1 and len(ill) > 1) or period == 2:
            residues = np.flatnonzero(np.bincount(ill % period))
            first, last = int(residues[0]), int(residues[-1])
            if len(residues) < period and last - first + 1 == len(residues):
                yield "each", (first, last, period)

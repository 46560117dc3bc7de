"""The results of every call beside the expected ones, with what may tell wrong from right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify.arrangement import Arrangement
from numpy_norms.verify.judge import Judge
from numpy_norms.verify.plain import Array, View
from numpy_norms.verify.runs import Run

__all__ = ["Coordinate", "Piece", "log_off", "pieces"]

CAP = 1e6  # units of the tolerance: further off is no worse
PARAMETERS = ("dgamma", "dbeta")


class Coordinate(NamedTuple):
    """What an element's index along an axis is: the axis, its length and the index of each."""

    axis: str
    size: int
    indices: Array


@dataclass
class Piece:
    """One output of one call, as flat arrays in the order of the norm's own view."""

    arrangement: Arrangement
    judge: Judge
    output: str
    got: Array
    expected: Array
    tolerance: Array
    traits: dict[str, Any]
    earlier: Array | None = None

    @cached_property
    def off(self) -> Array:
        """The logarithm of the distance in units of the tolerance, as far as that is above 1."""
        return log_off(self.got, self.expected, self.tolerance)

    @cached_property
    def wrong(self) -> Array:
        """The elements that are out of tolerance."""
        return self.off > 0

    @property
    def weight(self) -> float:
        """What an element counts: all that is wrong in a piece as much as in any other."""
        return 1 / max(int(self.wrong.sum()) or self.got.size, 1)

    @property
    def view(self) -> View:
        """The four axes of the case."""
        case = self.judge.case
        inner = self.arrangement.inward(case.x)
        return self.arrangement.view(inner, case.gamma, case.num_groups)

    def flat(self, a: Array) -> Array:
        """Bring a result in the caller's order into that of this piece."""
        return (a if self.output in PARAMETERS else self.arrangement.inward(a)).reshape(-1)

    def off_of(self, prediction: Array) -> Array:
        """Return how far the results are from what a fault predicts, as a logarithm."""
        roundoff = 8 * self.judge.roundoff * np.maximum(abs(self.got), abs(prediction))
        slack = np.nan_to_num(roundoff + 1e-4 * abs(self.got - self.expected), posinf=0.0)
        return log_off(self.got, prediction, self.tolerance + slack)

    @cached_property
    def coordinates(self) -> list[Coordinate]:
        """The indices of every element along the axes that a kernel may count."""
        return list(_coordinates(self.arrangement, self.view, self.judge, self.output))


def log_off(got: Array, expected: Array, tolerance: Array) -> Array:
    """Return log of |got - expected| / tolerance, 0 where that is below 1."""
    with np.errstate(all="ignore"):
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        ratio = np.where(same, 0.0, abs(got - expected) / tolerance)
        return np.asarray(np.log(np.clip(np.nan_to_num(ratio, nan=CAP, posinf=CAP), 1.0, CAP)))


def pieces(
    arrangement: Arrangement, judges: Sequence[Judge], runs: Sequence[Run], output: str
) -> list[Piece]:
    """Return the evidence about one output: what was measured in each call, in order."""
    found: list[Piece] = []
    last: dict[tuple[int, ...], Array] = {}
    calls: dict[tuple[int, ...], int] = {}
    for judge, run in zip(judges, runs, strict=True):
        shape = judge.case.x.shape
        got, expected = run.results.get(output), judge.expected[output]
        traits = judge.traits(arrangement) | {"calls": calls.get(shape, 0)} | run.traits
        calls[shape] = calls.get(shape, 0) + 1
        if got is None or got.shape != expected.shape:
            continue
        piece = Piece(arrangement, judge, output, got, expected, got, traits, last.get(shape))
        piece.got, piece.expected, piece.tolerance = (
            np.asarray(piece.flat(a), np.float64) for a in (got, expected, judge.tolerances[output])
        )
        last[shape] = piece.got
        found.append(piece)
    if any(piece.wrong.any() for piece in found):
        return found
    # Exact cases alone may tell it from right, by less than the tolerance.
    exact = [_held_to_the_last_bit(piece) for piece in found if piece.judge.exact]
    return exact if any(piece.wrong.any() for piece in exact) else found


def _held_to_the_last_bit(piece: Piece) -> Piece:
    judge = piece.judge
    unit = judge.allowed(piece.output) + judge.roundoff * judge.scales[piece.output] / 8
    return replace(piece, tolerance=np.asarray(piece.flat(unit), np.float64))


def _coordinates(
    arrangement: Arrangement, view: View, judge: Judge, output: str
) -> Iterator[Coordinate]:
    shape = view.params if output in PARAMETERS else view.shape
    grid = [np.broadcast_to(i, shape).ravel() for i in np.indices(shape, sparse=True)]
    if arrangement.norm in FEATURE_NORMS:
        yield Coordinate("feature", shape[3], grid[3])
        yield Coordinate("row", shape[0], grid[0])
    else:
        yield Coordinate("channel", shape[1] * shape[2], grid[1] * shape[2] + grid[2])
        if arrangement.norm == "group_norm":
            yield Coordinate("group", shape[1], grid[1])
            yield Coordinate("channel of each group", shape[2], grid[2])
        yield Coordinate("sample", shape[0], grid[0])
        yield Coordinate("position", shape[3], grid[3])
    if output in PARAMETERS:
        return
    sets = [1 if axis in view.over else size for axis, size in enumerate(shape)]
    if sum(size > 1 for size in sets) > 1:
        yield _flat("set", sets, shape)
    within = [size if axis in view.over else 1 for axis, size in enumerate(shape)]
    if sum(size > 1 for size in within) > 1:
        yield _flat("position of each set", within, shape)
    inner = arrangement.inward(judge.case.x).shape
    for axis, size in enumerate(inner if len(inner) > 2 else ()):
        index = np.arange(size).reshape([-1 if a == axis else 1 for a in range(len(inner))])
        yield Coordinate(f"index of axis {axis}", size, np.broadcast_to(index, inner).ravel())
    yield Coordinate("element", math.prod(shape), np.arange(math.prod(shape)))


def _flat(axis: str, sizes: Sequence[int], shape: Sequence[int]) -> Coordinate:
    count = math.prod(sizes)
    return Coordinate(axis, count, np.broadcast_to(np.arange(count).reshape(sizes), shape).ravel())

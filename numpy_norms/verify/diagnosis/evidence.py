"""The results of every call beside the expected ones, with what may tell wrong from right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from numpy_norms.verify.arrangement import Arrangement
from numpy_norms.verify.faults.coordinates import PARAMETERS, Coordinate, coordinates
from numpy_norms.verify.judge import Judge, distances
from numpy_norms.verify.plain import Array, View
from numpy_norms.verify.runs import Run

__all__ = ["CAP", "Piece", "log_off", "pieces"]

ENOUGH = 1000
BARELY = np.log(1.5)  # what is no further off says little
CAP = 1e6  # units of the tolerance: further off is no worse


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
    earlier: Array | None = None  # of the last call with an x of this shape
    first: Judge | None = None  # of the first such call, if it is another

    @cached_property
    def off(self) -> Array:
        """The logarithm of the distance in units of the tolerance, as far as that is above 1."""
        return log_off(self.got, self.expected, self.tolerance)

    @cached_property
    def wrong(self) -> Array:
        """The elements that are out of tolerance."""
        return self.off > 0

    @cached_property
    def weight(self) -> float:
        """What an element counts: all that is wrong in a piece as much as in any other."""
        return 1 / max(int(self.wrong.sum()) or self.got.size, 1)

    @cached_property
    def total(self) -> float:
        """How far off all its elements are together, each as much as it counts."""
        return self.weight * float(self.off.sum())

    @property
    def size(self) -> int:
        """The number of elements of x."""
        return self.judge.case.x.size

    @property
    def view(self) -> View:
        """The four axes of the case."""
        case = self.judge.case
        inner = self.arrangement.inward(case.x)
        return self.arrangement.view(inner, case.gamma, case.num_groups)

    def flat(self, a: Array) -> Array:
        """Bring a result in the caller's order into that of this piece."""
        return (a if self.output in PARAMETERS else self.arrangement.inward(a)).reshape(-1)

    def rounded(self, a: Array) -> Array | None:
        """Return what a kernel has worked out as it would return it; None if it is no result."""
        case = self.judge.case
        like = {"dgamma": case.gamma, "dbeta": case.beta}.get(self.output, case.x)
        if np.size(a) != self.got.size:
            return None
        return np.asarray(np.asarray(a, like.dtype).reshape(-1), np.float64)

    @cached_property
    def some(self) -> Array:
        """The numbers of some of the elements that are wrong: enough to judge by."""
        wrong = np.flatnonzero(self.wrong)
        return wrong[:: -(-len(wrong) // ENOUGH)]

    @cached_property
    def sample(self) -> Piece:
        """Those elements alone."""
        got, expected, tolerance = (a[self.some] for a in (self.got, self.expected, self.tolerance))
        return replace(self, got=got, expected=expected, tolerance=tolerance)

    @cached_property
    def _allowed(self) -> Array:
        """How far a prediction may be off, but for its rounding."""
        return np.asarray(self.tolerance + 1e-4 * abs(self.got - self.expected))

    def off_of(self, prediction: Array) -> Array:
        """Return how far the results are from what a fault predicts, as a logarithm."""
        size = np.maximum(abs(self.got), abs(prediction))
        allowed = self._allowed + 8 * self.judge.roundoff * size
        if not np.isfinite(allowed).all():
            allowed = np.where(np.isfinite(allowed), allowed, self.tolerance)
        return log_off(self.got, prediction, allowed)

    @cached_property
    def coordinates(self) -> list[Coordinate]:
        """The indices of every element along the axes that a kernel may count."""
        inner = self.arrangement.inward(self.judge.case.x).shape
        return list(coordinates(self.arrangement.norm, self.view, inner, self.output))


def log_off(got: Array, expected: Array, tolerance: Array) -> Array:
    """Return log of |got - expected| / tolerance, 0 where that is below 1."""
    ratio = distances(got, expected, tolerance)
    if ratio.max(initial=0) <= 1:
        return np.zeros(ratio.shape)
    return np.asarray(np.log(ratio.clip(1.0, CAP)))


def pieces(
    arrangement: Arrangement, judges: Sequence[Judge], runs: Sequence[Run], output: str
) -> list[Piece]:
    """Return the evidence about one output: what was measured in each call, in order."""
    found: list[Piece] = []
    last: dict[tuple[int, ...], Array] = {}
    calls: dict[tuple[int, ...], int] = {}
    firsts: dict[tuple[int, ...], Judge] = {}
    for judge, run in zip(judges, runs, strict=True):
        shape = judge.case.x.shape
        got, expected = run.results.get(output), judge.expected[output]
        traits = judge.traits | {"calls": calls.get(shape, 0)} | run.traits
        calls[shape] = calls.get(shape, 0) + 1
        if got is None or got.shape != expected.shape:
            continue
        piece = Piece(arrangement, judge, output, got, expected, got, traits, last.get(shape))
        piece.got, piece.expected, piece.tolerance = (
            np.asarray(piece.flat(a), np.float64) for a in (got, expected, judge.tolerances[output])
        )
        last[shape] = piece.got
        first = firsts.setdefault(shape, judge)
        piece.first = first if first is not judge else None
        found.append(piece)
    if any(piece.off.max(initial=0) > BARELY for piece in found):
        return found
    # Exact cases tell best what is wrong by about a tolerance, or by less.
    exact = [_held_to_the_last_bit(piece) for piece in found if piece.judge.exact]
    return exact if any(piece.wrong.any() for piece in exact) else found


def _held_to_the_last_bit(piece: Piece) -> Piece:
    judge = piece.judge
    unit = judge.allowed(piece.output) + judge.roundoff * judge.scales[piece.output] / 8
    return replace(piece, tolerance=np.asarray(piece.flat(unit), np.float64))

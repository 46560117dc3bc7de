"""Where a fault has to be so that it explains most of the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from numpy_norms.verify.faults.grammar import Fault
from numpy_norms.verify.faults.place import Condition, Place
from numpy_norms.verify.plain import Array

from .evidence import Piece
from .places import Ground, conditions, places, within

__all__ = ["CERTAIN", "DEAREST", "Likely", "Predict", "everywhere", "placed"]

CERTAIN = 0.99
PRICE = 0.02  # of the evidence that a condition has to explain
DEAREST = 3 * PRICE  # that a place and a condition cost together, at most
AXES = ("feature", "channel", "row", "sample", "group")  # that others are measured by

Predict = Callable[[Piece, Fault], Array | None]


class Likely(NamedTuple):
    """A fault with where it is, how much it explains, and that less the price of its words."""

    fault: Fault
    share: float
    score: float
    place: Place | None = None
    when: Condition | None = None


def everywhere(
    pieces: Sequence[Piece], fault: Fault, predict: Predict, least: float = -np.inf
) -> Likely:
    """Return how much a fault explains if it is everywhere; nothing if not more than `least`."""
    gains = _gains(pieces, fault, predict, least, lambda gain: float(gain.sum()))
    share = _share(pieces, gains) if gains else -np.inf
    return Likely(fault, share, share)


def placed(
    pieces: Sequence[Piece],
    fault: Fault,
    predict: Predict,
    least: float = -np.inf,
    *,
    exactly: bool = False,
) -> Likely:
    """Return a fault with the place and the condition with which it explains most.

    What scores no more than `least` is of no interest. A condition may leave a tenth of the calls
    on the wrong side, but not if it is to hold `exactly`.
    """
    gains = _gains(pieces, fault, predict, least, _most)
    if not gains:
        return Likely(fault, -np.inf, -np.inf)
    share = _share(pieces, gains)
    best = Likely(fault, share, share)
    if share > CERTAIN:
        return best
    ground = [Ground(piece, gain) for piece, gain in zip(pieces, gains, strict=True)]
    total = _total(pieces)

    def promising(axis: str) -> bool:
        most = sum(_most(g.along[axis][0]) for g in ground if axis in g.along)
        return most / total - PRICE > max(best.score, least)

    traits = [piece.traits for piece in pieces]
    for place in chain((None,), places(ground, promising)):
        calls = list(zip(traits, within(ground, place), strict=True))
        most = sum(max(gain, 0.0) for _, gain in calls) / total
        if most - _price(place, None) <= max(best.score, least):
            continue  # under any condition
        for when in (None, *conditions(calls, exactly=exactly)):
            share = sum(gain for traits, gain in calls if when is None or when.holds(traits))
            one = Likely(fault, share / total, share / total - _price(place, when), place, when)
            best = max(best, one, key=lambda likely: likely.score)
    return best


def _price(place: Place | None, when: Condition | None) -> float:
    rare = place is not None and place.axis not in AXES
    below = when is not None and not when.above
    return PRICE * ((place is not None) + (when is not None) + rare / 2 + below / 4)


def _gains(
    pieces: Sequence[Piece],
    fault: Fault,
    predict: Predict,
    least: float,
    most: Callable[[Array], float],
) -> list[Array]:
    """Return how much nearer each element comes by a fault; nothing if it explains too little.

    `most` says how much of a piece is explained at most by what its elements gain.
    """
    gains: dict[int, Array] = {}
    spare = (1 - least) * _total(pieces)  # that may stay unexplained
    for number in sorted(range(len(pieces)), key=lambda n: pieces[n].size):
        piece = pieces[number]
        prediction = predict(piece, fault)
        after = piece.off if prediction is None else piece.off_of(prediction)
        gains[number] = piece.weight * (piece.off - after)
        spare -= piece.total - most(gains[number])
        if spare < 0:
            return []
    return [gains[number] for number in range(len(pieces))]


def _most(gain: Array) -> float:
    return float(np.maximum(gain, 0).sum())


def _total(pieces: Sequence[Piece]) -> float:
    """Return how far off all are."""
    return sum(piece.total for piece in pieces)


def _share(pieces: Sequence[Piece], gains: Sequence[Array]) -> float:
    return sum(float(gain.sum()) for gain in gains) / _total(pieces)

"""Where a fault has to be so that it explains most of the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from numpy_norms.verify.faults.grammar import Fault
from numpy_norms.verify.faults.place import Condition, Place
from numpy_norms.verify.plain import Array

from .evidence import Piece
from .places import Ground, conditions, places, within

__all__ = ["CERTAIN", "Likely", "everywhere", "placed"]

CERTAIN = 0.99
PRICE = 0.02  # of the evidence that a condition has to explain
AXES = ("feature", "channel", "row", "sample", "group")  # that others are measured by


class Likely(NamedTuple):
    """A fault with where it is, how much it explains, and that less the price of its words."""

    fault: Fault
    share: float
    score: float
    place: Place | None = None
    when: Condition | None = None


def everywhere(pieces: Sequence[Piece], fault: Fault, predicted: Sequence[Array | None]) -> Likely:
    """Return how much a fault explains if it is everywhere."""
    gains, total = _gains(pieces, predicted)
    share = sum(float(gain.sum()) for gain in gains) / total
    return Likely(fault, share, share)


def placed(pieces: Sequence[Piece], fault: Fault, predicted: Sequence[Array | None]) -> Likely:
    """Return a fault with the place and the condition with which it explains most."""
    gains, total = _gains(pieces, predicted)
    ground = [Ground(piece, gain) for piece, gain in zip(pieces, gains, strict=True)]
    share = sum(float(gain.sum()) for gain in gains) / total
    best = Likely(fault, share, share)
    if share > CERTAIN:
        return best
    traits = [piece.traits for piece in pieces]
    for place in (None, *places(ground)):
        calls = list(zip(traits, within(ground, place), strict=True))
        most = sum(max(gain, 0.0) for _, gain in calls) / total
        if most - _price(place, None) <= best.score:
            continue  # under any condition
        for when in (None, *conditions(calls)):
            share = sum(gain for traits, gain in calls if when is None or when.holds(traits))
            one = Likely(fault, share / total, share / total - _price(place, when), place, when)
            best = max(best, one, key=lambda likely: likely.score)
    return best


def _price(place: Place | None, when: Condition | None) -> float:
    rare = place is not None and place.axis not in AXES
    below = when is not None and not when.above
    return PRICE * ((place is not None) + (when is not None) + rare / 2 + below / 4)


def _gains(pieces: Sequence[Piece], predicted: Sequence[Array | None]) -> tuple[list[Array], float]:
    """Return how much nearer each element comes by a prediction, and how far off all are."""
    gains, total = [], 0.0
    for piece, prediction in zip(pieces, predicted, strict=True):
        total += piece.total
        after = piece.off if prediction is None else piece.off_of(prediction)
        gains.append(piece.weight * (piece.off - after))
    return gains, total

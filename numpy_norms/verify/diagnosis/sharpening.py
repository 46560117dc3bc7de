"""The exact bound of a condition on a size, by trying sizes in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from numpy_norms.verify.faults.place import DIVISORS, Condition

from .evidence import Piece

__all__ = ["Probe", "sharpened"]

# Called with a trait, a value and an output: the value that the case tried has, whether it is wrong
Probe = Callable[[str, int, str], tuple[int, bool] | None]
TRAITS = ("set size", "N", "rows")
MOST = 24  # sizes that are tried
MULTIPLES = {2: "m odd", **{number: f"m no multiple of {number}" for number in DIVISORS}}
POWER = "m no power of two"


def sharpened(
    when: Condition, pieces: Sequence[Piece], output: str, probe: Probe
) -> Condition | None:
    """Return the condition with the largest size that is still right as its bound.

    What sets have to be multiples of is tried, too: in the battery some traits go together. None
    if it makes no difference.
    """
    if when.trait in (POWER, *MULTIPLES.values()):
        return _multiple(output, probe, unless=when.above)
    if when.trait not in TRAITS or not when.above:
        return when
    sizes = [int(piece.traits[when.trait]) for piece in pieces]
    right = max((size for size in sizes if size <= when.bound), default=0)
    wrong = min(size for size in sizes if size > when.bound)
    for _ in range(MOST):
        if wrong - right <= 1:
            break
        middle = (right + wrong) // 2 if wrong < 2 * right else math.isqrt(max(right, 1) * wrong)
        found = probe(when.trait, max(middle, right + 1), output)
        if found is None or not right < found[0] < wrong:
            break
        right, wrong = (right, found[0]) if found[1] else (found[0], wrong)
    return replace(when, bound=float(right))


def _multiple(output: str, probe: Probe, *, unless: bool) -> Condition | None:
    """Return of what the length of a set has to be a multiple, to be right, or to be wrong."""
    powers = {3 * number: trait for number, trait in MULTIPLES.items()} | {max(DIVISORS): POWER}
    for size, trait in powers.items():
        found = probe("set size", size, output)
        if found is not None and found == (size, not unless):
            return Condition(trait, above=unless)
    return None

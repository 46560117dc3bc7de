"""The exact bound of a condition on a size, by trying sizes in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from numpy_norms.verify.faults.place import Condition

from .evidence import Piece

__all__ = ["Probe", "sharpened"]

# Called with a trait, a value and an output: the value that the case tried has, whether it is wrong
Probe = Callable[[str, int, str], tuple[int, bool] | None]
TRAITS = ("set size", "N", "rows")
MOST = 24  # sizes that are tried


def sharpened(when: Condition, pieces: Sequence[Piece], output: str, probe: Probe) -> Condition:
    """Return the condition with the largest size that is still right as its bound."""
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

"""How frameworks lay out the weights of linear maps and convolutions, each under a name.

A layout has a word for each axis of the weight: ``o`` outputs and ``i`` inputs of one group, ``g``
groups, ``go`` and ``gi`` outputs and inputs of all groups, one group after the other, and ``*`` for
the axes of the kernel, as many as there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

from . import checks

Array = NDArray[Any]
Side = Literal["o", "i"]

_CONV_FIRST, _CONV_LAST = ("go", "i", "*"), ("*", "i", "go")

LAYOUTS: dict[str, tuple[str, ...]] = {
    "pytorch-linear": ("o", "i"),
    "pytorch-conv": _CONV_FIRST,
    "pytorch-conv-transpose": ("gi", "o", "*"),
    "keras-dense": ("i", "o"),
    "keras-conv": _CONV_LAST,
    "keras-conv-transpose": ("*", "o", "i"),
    "keras-depthwise-conv": ("*", "g", "o"),
    "flax-dense": ("i", "o"),
    "flax-conv": _CONV_LAST,
    "flax-conv-transpose": ("*", "i", "o"),
    "flax-conv-transpose-kernel": ("*", "o", "i"),  # ConvTranspose(transpose_kernel=True)
}


class View(NamedTuple):
    """A weight with one axis for each letter."""

    letters: str
    shape: tuple[int, ...]

    def along(self, side: Side, a: Array) -> Array:
        """One number for each channel of a side, as they broadcast against the view."""
        kept = [letter in ("g", side) for letter in self.letters]
        if "g" in self.letters:
            a = a.reshape(self.shape[self.letters.index("g")], -1)
            if side in self.letters and self.letters.index(side) < self.letters.index("g"):
                a = a.T
        return a.reshape([n if k else 1 for k, n in zip(kept, self.shape, strict=True)])

    def sum_per_output(self, a: Array) -> Array:
        """What is in the view, summed over all but the outputs of each group."""
        others = tuple(i for i, letter in enumerate(self.letters) if letter not in "go")
        sums: Array = a.sum(axis=others)
        return sums.reshape(-1)


def view_of(weight: Array, words: Sequence[str], side: Side, channels: int) -> View | None:
    """The view of a weight that has so many channels on a side; None if it does not fit."""
    if "*" in words:
        at = words.index("*")
        kernel = weight.ndim - len(words) + 1
        words = [*words[:at], *"s" * kernel, *words[at + 1 :]]
    if len(words) != weight.ndim:
        return None
    sizes = dict(zip(words, weight.shape, strict=True))
    groups = channels // max(sizes[side], 1) if side in sizes else 1
    groups = sizes.get("g", groups)
    shape: list[int] = []
    for word, n in zip(words, weight.shape, strict=True):
        if len(word) == 2 and (groups == 0 or n % groups):
            return None
        shape += [groups, n // groups] if len(word) == 2 else [n]
    letters = "".join(words)
    found = math.prod(n for c, n in zip(letters, shape, strict=True) if c in ("g", side))
    return View(letters, tuple(shape)) if found == channels else None


def fitting(weight: Array, side: Side, channels: int) -> list[str]:
    """The names of the layouts in which a weight has so many channels on a side."""
    return [name for name, words in LAYOUTS.items() if view_of(weight, words, side, channels)]


def words_of(layout: str) -> tuple[str, ...]:
    """The words of a layout by its name."""
    return LAYOUTS[checks.choice("layout", layout, LAYOUTS)]

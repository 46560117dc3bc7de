"""Where a fault is: a condition on an index along an axis, and one on the case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_norms.verify.plain import Array

__all__ = ["CONDITIONS", "DIVISORS", "Condition", "Place"]

PLURALS = {"index": "indices"}


@dataclass(frozen=True)
class Place:
    """A set of indices along an axis, whatever its length.

    Parameters
    ----------
    axis : str
        What an index counts: "row", "feature", "channel", "sample", "position" ...
    form : {"from", "first", "last", "range", "each", "tail", "half"}
        ``from k``, ``first k``, ``last k``; ``range a, b``: both included; ``each a, b, p``: a to b
        of each p; ``tail B``: after the last whole block of B; ``half 0`` or ``half 1``: the first
        or the second.
    numbers : tuple of int
    """

    axis: str
    form: str
    numbers: tuple[int, ...]

    def holds(self, size: int) -> Array:
        """Return for each index along an axis of this length whether it is meant."""
        index, (a, *rest) = np.arange(size), self.numbers
        if self.form == "from":
            return index >= a
        if self.form == "first":
            return index < a
        if self.form == "last":
            return index >= size - a
        if self.form == "tail":
            return index >= size - size % a
        if self.form == "half":
            return np.asarray((index >= size // 2) == a)
        if self.form == "range":
            return (index >= a) & (index <= rest[0])
        return (index % rest[1] >= a) & (index % rest[1] <= rest[0])

    def __str__(self) -> str:
        one, (a, *rest) = self.axis, self.numbers
        word, _, of = one.partition(" ")
        of = of and f" {of}"
        many = PLURALS.get(word, f"{word}s")
        if self.form == "from":
            return f"{many}{of} from {a} on"
        if self.form in ("first", "last"):
            return f"the {self.form} {one} alone" if a == 1 else f"the {self.form} {a} {many}{of}"
        if self.form == "tail":
            return f"the {many}{of} after the last whole block of {a}"
        if self.form == "half":
            return f"the {'second' if a else 'first'} half of the {many}{of}"
        if self.form == "range":
            return f"{word} {a}{of} alone" if a == rest[0] else f"{many} {a}..{rest[0]}{of}"
        if rest[1] == 2:
            return f"{'odd' if a else 'even'} {many}{of}"
        return f"{many} {a if a == rest[0] else f'{a}..{rest[0]}'} of each {rest[1]}{of}"


DIVISORS = (4, 8, 16, 32, 64, 128)

# What is known of a case, and how a condition on it is said: above a number, or where it holds;
# below it, or where it does not.
CONDITIONS: dict[str, tuple[str, str]] = {
    "threads": (  # which is after other times, too
        "when several threads call it at once",
        "when one thread calls it",
    ),
    "nan": ("where x holds a NaN", "where x holds no NaN"),
    "constant": ("for sets without variance", "for sets with a variance"),
    "empty": ("for an empty batch", "for a batch that is not empty"),
    "calls": (
        "when called after more than {} other times",
        "when called after at most {} other times",
    ),
    "x strided": ("when x is strided", "when x is not strided"),
    "dy strided": ("when dy is strided", "when dy is not strided"),
    "gamma strided": (
        "when gamma and beta are strided",
        "when gamma and beta are not strided",
    ),
    "x not contiguous": ("when x is not contiguous", "when x is contiguous"),
    "dy not contiguous": ("when dy is not contiguous", "when dy is contiguous"),
    "dy of one number": (
        "when dy is one number, with strides of 0",
        "when dy is more than one number",
    ),
    "dy repeated": ("when dy has a stride of 0", "when dy has no stride of 0"),
    "not contiguous": ("when an array is not contiguous", "when all arrays are contiguous"),
    "set size": ("for sets longer than {}", "for sets of at most {}"),
    "N": ("for N > {}", "for N <= {}"),
    "rows": ("for more than {} rows", "for at most {} rows"),
    "sets": ("for more than {} sets", "for at most {} sets"),
    "C": ("for more than {} channels", "for at most {} channels"),
    "S": ("for more than {} positions", "for at most {} positions"),
    "rank": ("for x of more than {} axes", "for x of at most {} axes"),
    "size": ("for x of more than {} elements", "for x of at most {} elements"),
    "mean/deviation": (
        "where the mean is large: above {} deviations",
        "where the mean is below {} deviations",
    ),
    "eps/variance": ("where eps is above {} variances", "where eps is below {} variances"),
    "eps": ("for eps > {}", "for eps <= {}"),
    "|x|": ("where |x| exceeds {}", "where |x| stays below {}"),
    "deviation": ("where the deviation exceeds {}", "where the deviation is below {}"),
    "m odd": ("for sets of odd length", "for sets of even length"),
    **{
        f"m no multiple of {number}": (
            f"for sets whose length is no multiple of {number}",
            f"for sets whose length is a multiple of {number}",
        )
        for number in DIVISORS
    },
    "m no power of two": (
        "for sets whose length is no power of two",
        "for sets whose length is a power of two",
    ),
    "zero in gamma": ("where a gamma is 0", "where no gamma is 0"),
    "narrow weights": (
        "when gamma and beta have another dtype",
        "when gamma and beta have the dtype of x",
    ),
}


@dataclass(frozen=True)
class Condition:
    """A condition on the case: a trait alone, or on which side of a number it lies."""

    trait: str
    bound: float = 0.5
    above: bool = True

    def holds(self, traits: dict[str, Any]) -> bool:
        """Return whether a case with these traits is meant."""
        value = float(traits.get(self.trait, 0))
        return value > self.bound if self.above else value <= self.bound

    def __str__(self) -> str:
        if self.trait == "calls" and self.bound < 1:
            return f"only when called {'a second' if self.above else 'the first'} time"
        words = CONDITIONS[self.trait][not self.above]
        return f"only {words.format(f'{self.bound:.6g}')}"

"""Arithmetic on pairs of float64 that carry about 106 bits, for arrays.

A number is the unevaluated sum hi + lo with abs(lo) <= ulp(hi) / 2. The error-free
transformations are Knuth's sum and Dekker's product (T. J. Dekker, "A floating-point technique for
extending the available precision", Numerische Mathematik 18, 1971). One operation has an error of
a few 2**-104 of its result, a sum of its larger term, as long as magnitudes stay between about
1e-250 and 1e250.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
SPLITTER = 2.0**27 + 1.0


class Pair(NamedTuple):
    """An array of numbers hi + lo."""

    hi: Float64
    lo: Float64

    @classmethod
    def of(cls, values: Float64 | float) -> Self:
        """Return the float64 `values` as they are."""
        hi = np.asarray(values, np.float64)
        return cls(hi, np.zeros_like(hi))

    def plus(self, other: Pair) -> Pair:
        """Return self + other."""
        s, e = two_sum(self.hi, other.hi)
        return Pair(*fast_two_sum(s, e + (self.lo + other.lo)))

    def minus(self, other: Pair) -> Pair:
        """Return self - other."""
        return self.plus(Pair(-other.hi, -other.lo))

    def times(self, other: Pair) -> Pair:
        """Return self * other."""
        p, e = two_product(self.hi, other.hi)
        return Pair(*fast_two_sum(p, e + (self.hi * other.lo + self.lo * other.hi)))

    def over(self, other: Pair) -> Pair:
        """Return self / other: a quotient and its correction by the exact remainder."""
        q = self.hi / other.hi
        rest = self.minus(other.times(Pair.of(q)))
        return Pair.of(q).plus(Pair.of((rest.hi + rest.lo) / other.hi))

    def root(self) -> Pair:
        """Return the square root: the rounded root and one Newton step."""
        s = np.sqrt(self.hi)
        rest = self.minus(Pair(*two_product(s, s)))
        return Pair.of(s).plus(Pair.of((rest.hi + rest.lo) / (2 * s)))

    def sum(self) -> Pair:
        """Return the sums over the last axis, which is kept: halves are added until one is left."""
        total = self
        while (n := total.hi.shape[-1]) > 1:
            half, odd = n // 2, total.part(n - n % 2, n)
            total = total.part(0, half).plus(total.part(half, 2 * half))
            if n % 2:
                first = total.part(0, 1).plus(odd)
                total.hi[..., :1], total.lo[..., :1] = first
        return total

    def mean(self) -> Pair:
        """Return the means over the last axis, which is kept."""
        return self.sum().over(Pair.of(float(self.hi.shape[-1])))

    def part(self, start: int, stop: int) -> Pair:
        """Return the numbers from `start` to `stop` along the last axis."""
        return Pair(self.hi[..., start:stop], self.lo[..., start:stop])


def two_sum(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return the rounded sum and its rounding error, exactly (Knuth)."""
    s = a + b
    rest = s - a
    return s, (a - (s - rest)) + (b - rest)


def fast_two_sum(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return the rounded sum and its rounding error where abs(a) >= abs(b) (Dekker)."""
    s = a + b
    return s, b - (s - a)


def two_product(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return the rounded product and its rounding error, exactly (Dekker)."""
    p = a * b
    a_hi, a_lo = _split(a)
    b_hi, b_lo = _split(b)
    return p, a_lo * b_lo - (((p - a_hi * b_hi) - a_lo * b_hi) - a_hi * b_lo)


def _split(a: Float64) -> tuple[Float64, Float64]:
    t = SPLITTER * a
    hi = t - (t - a)
    return hi, a - hi

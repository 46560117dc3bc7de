"""Arithmetic on pairs of float64 that carry about 106 bits, for arrays.

A number is the unevaluated sum hi + lo with abs(lo) <= ulp(hi) / 2. The error-free
transformations are Knuth's sum and Dekker's product (T. J. Dekker, "A floating-point technique for
extending the available precision", Numerische Mathematik 18, 1971). One operation has an error of
a few 2**-104 of its result, a sum of its larger term, as long as magnitudes stay between about
1e-250 and 1e250.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
SPLITTER = 2.0**27 + 1.0


@dataclass(frozen=True)
class Pair:
    """An array of numbers hi + lo."""

    hi: Float64
    lo: Float64

    @classmethod
    def of(cls, values: NDArray[Any] | float) -> Self:
        """Return the `values`, which float64 can hold, as they are."""
        hi = np.asarray(values, np.float64)
        return cls(hi, np.zeros_like(hi))

    def __add__(self, other: Pair | Float64 | float) -> Pair:
        if not isinstance(other, Pair):
            s, e = two_sum(self.hi, other)
            return Pair(*fast_two_sum(s, e + self.lo))
        s, e = two_sum(self.hi, other.hi)
        return Pair(*fast_two_sum(s, e + (self.lo + other.lo)))

    def __neg__(self) -> Pair:
        return Pair(-self.hi, -self.lo)

    def __sub__(self, other: Pair | Float64 | float) -> Pair:
        return self + -other

    def __mul__(self, other: Pair | Float64 | float) -> Pair:
        if not isinstance(other, Pair):
            p, e = two_product(self.hi, other)
            return Pair(*fast_two_sum(p, e + self.lo * other))
        p, e = two_product(self.hi, other.hi)
        return Pair(*fast_two_sum(p, e + (self.hi * other.lo + self.lo * other.hi)))

    def __truediv__(self, other: Pair | Float64 | float) -> Pair:
        divisor = other if isinstance(other, Pair) else Pair.of(other)
        q = self.hi / divisor.hi
        rest = self - divisor * q
        return Pair.of(q) + (rest.hi + rest.lo) / divisor.hi

    def root(self) -> Pair:
        """Return the square root: the rounded root and one Newton step."""
        s: Float64 = np.sqrt(self.hi)
        rest = self - Pair(*two_product(s, s))
        return Pair.of(s) + (rest.hi + rest.lo) / (2 * s)

    def sum(self) -> Pair:
        """Return the sums over the last axis, which is kept: halves are added until one is left."""
        total = self
        while (n := total.hi.shape[-1]) > 1:
            half, odd = n // 2, total[..., n - n % 2 :]
            total = total[..., :half] + total[..., half : 2 * half]
            if n % 2:
                first = total[..., :1] + odd
                total.hi[..., :1], total.lo[..., :1] = first.hi, first.lo
        return total

    def mean(self) -> Pair:
        """Return the means over the last axis, which is kept."""
        return self.sum() / float(self.hi.shape[-1])

    def __getitem__(self, index: Any) -> Pair:
        return Pair(self.hi[index], self.lo[index])

    def ldexp(self, exponent: NDArray[Any]) -> Pair:
        """Return self * 2**exponent, exactly."""
        return Pair(np.ldexp(self.hi, exponent), np.ldexp(self.lo, exponent))

    def error(self, got: NDArray[Any]) -> Float64:
        """Return the absolute error of each element of `got`."""
        return np.abs((self.hi - got.astype(np.float64)) + self.lo)

    def is_nearest(self, got: NDArray[Any]) -> NDArray[np.bool_]:
        """Return for each element of `got` whether neither neighbour in its dtype is nearer."""
        up, down = (np.nextafter(got, got.dtype.type(side)) for side in (np.inf, -np.inf))
        return self.error(got) <= np.minimum(self.error(up), self.error(down))


def two_sum(a: Float64, b: Float64 | float) -> tuple[Float64, Float64]:
    """Return the rounded sum and its rounding error, exactly (Knuth)."""
    s = a + b
    rest = s - a
    return s, (a - (s - rest)) + (b - rest)


def fast_two_sum(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return the rounded sum and its rounding error where abs(a) >= abs(b) (Dekker)."""
    s = a + b
    return s, b - (s - a)


def two_product(a: Float64, b: Float64 | float) -> tuple[Float64, Float64]:
    """Return the rounded product and its rounding error, exactly (Dekker)."""
    p = a * b
    a_hi, a_lo = _split(a)
    b_hi, b_lo = _split(b)
    return p, a_lo * b_lo - (((p - a_hi * b_hi) - a_lo * b_hi) - a_hi * b_lo)


def _split(a: Any) -> tuple[Any, Any]:
    t = SPLITTER * a
    hi = t - (t - a)
    return hi, a - hi

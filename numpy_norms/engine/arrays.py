"""Large arrays as equations take them: changed in place step by step, and not where they lie.

`now` is the array as it lies, `place` where it is computed on, which is a part of the result `home`
or scratch.

``a -= b``, ``a *= b``, ``a += b``, and sums of a or of a product, are what is asked of them; a step
with None is no step. `Eager` does each step at once. `Deferred` is for arrays most of whose
neighbours share their factors: it puts steps together while they are few numbers, and touches the
array in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .rounding import round_to

if TYPE_CHECKING:
    from .plans import Plan

Array = NDArray[Any]


class Eager:
    """An array as it lies and a place to compute in: the first step goes from one to the other."""

    __slots__ = ("home", "now", "place")

    def __init__(self, now: Array, place: Array, _: Plan, home: Array | None):
        self.now, self.place, self.home = now, place, home

    def __isub__(self, b: Any) -> Eager:
        if b is not None:
            self.now = np.subtract(self.now, b.now if type(b) is Eager else b, self.place)
        return self

    def __iadd__(self, b: Any) -> Eager:
        if b is not None:
            self.now = np.add(self.now, b.now if type(b) is Eager else b, self.place)
        return self

    def __imul__(self, b: Any) -> Eager:
        if b is not None:
            self.now = np.multiply(self.now, b.now if type(b) is Eager else b, self.place)
        return self

    def round(self, dtype: np.dtype[Any]) -> None:
        """Round the array to a dtype, and go on in the working dtype."""
        np.copyto(self.place, round_to(self.now, dtype), casting="unsafe")
        self.now = self.place

    def value(self) -> Array:
        """The array that the steps have made."""
        return self.now


class Deferred:
    """(now - minus) * scale - less - drop: minus, scale and drop are few, less is such an array.

    Sums over neighbours, `ones` of now and `products` of now with another's, are taken once.
    """

    __slots__ = (
        *("drop", "home", "less", "minus", "now", "ones", "place", "plan", "products", "scale"),
    )

    def __init__(self, now: Array, place: Array, plan: Plan, home: Array | None):
        self.now, self.place, self.plan, self.home = now, place, plan, home
        self.minus: Any = None
        self.scale: Any = None
        self.drop: Any = None
        self.less: Deferred | None = None
        self.ones: Array | None = None
        self.products: tuple[Deferred, Array] | None = None

    def __isub__(self, b: Any) -> Deferred:
        if b is None:
            return self
        if type(b) is Deferred:
            if self.less is not None:
                self._settle()
            self.less = b
        elif self.minus is self.scale is self.less is None:
            self.minus = b
        else:
            self.drop = b if self.drop is None else self.drop + b
        return self

    def __iadd__(self, b: Any) -> Deferred:
        if b is None:
            return self
        if type(b) is Deferred:
            self._settle()
            self.now = np.add(self.now, b.value(), self.place)
        else:
            self.drop = -b if self.drop is None else self.drop - b
        return self

    def __imul__(self, b: Any) -> Deferred:
        if b is None:
            return self
        if type(b) is Deferred:
            self._settle()
            self.now = np.multiply(self.now, b.value(), self.place)
            return self
        if self.scale is not None and self.plan.asked.careful:
            self._settle()
        self.scale = b if self.scale is None else self.scale * b
        if self.drop is not None:
            self.drop = self.drop * b
        if self.less is not None:
            self.less *= b
        return self

    def round(self, dtype: np.dtype[Any]) -> None:
        """Round the array to a dtype, and go on in the working dtype."""
        np.copyto(self.place, round_to(self.value(), dtype), casting="unsafe")
        self.__init__(self.place, self.place, self.plan, self.home)  # type: ignore[misc]

    def value(self) -> Array:
        """The array that the steps have made."""
        a, drop = self._slope()
        if self.less is not None:
            b, less = self.less._slope()
            a = np.subtract(a, b, self.place)
            if less is not None:
                drop = -less if drop is None else drop - less
        return a if drop is None else np.subtract(a, self.plan.wide(drop), self.place)

    def _slope(self) -> tuple[Array, Any]:
        """now * scale, and what is to be subtracted from it."""
        drop = self.minus
        if self.scale is not None:
            drop = None if drop is None else drop * self.scale
        if self.drop is not None:
            drop = self.drop if drop is None else drop + self.drop
        if self.scale is None:
            return self.now, drop
        return np.multiply(self.now, self.plan.wide(self.scale), self.place), drop

    def _settle(self) -> None:
        now = self.value()
        self.__init__(now, self.place, self.plan, self.home)  # type: ignore[misc]

    @property
    def untouched(self) -> bool:
        """Whether this is the array as it lies."""
        return self.minus is self.scale is self.drop is self.less is None

    def sums(self, b: Deferred | None = None) -> Array:
        """Sums over neighbours of this, or of its product with b, made of sums of the arrays."""
        if self.less is not None:
            self._settle()
        if b is None:
            return self._of(self._ones(), self.plan.neighbours(self.now))
        if b.less is not None:
            b._settle()
        if b.products is None or b.products[0] is not self:
            b.products = self, self.plan.inner(self.now, b.now)
        s = b.products[1]
        if not b.untouched:
            s = b._of(s, self._ones())
        return s if self.untouched else self._of(s, b.sums())

    def _ones(self) -> Array:
        if self.ones is None:
            self.ones = self.plan.inner(self.now)
        return self.ones

    def _of(self, s: Array, ones: Any) -> Array:
        """Sums of something times this, from those of it times the array, and its own."""
        if self.minus is not None:
            s = s - self.minus * ones
        if self.scale is not None:
            s = s * self.scale
        return s if self.drop is None else s - self.drop * ones

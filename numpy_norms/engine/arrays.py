"""Large arrays as equations take them: changed in place step by step, and not where they lie.

`now` is the array as it lies, `place` where it is computed on, which is a part of the result `home`
or scratch. ``a -= b``, ``a *= b``, ``a += b``, and sums of a or of a product, are what is asked of
them; a step with None is no step. `Eager` does each step at once. `Deferred` is for arrays most of
whose neighbours share their factors: it puts steps together while they are few numbers, and touches
the array in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .rounding import rounded

if TYPE_CHECKING:
    from .plans import Plan

Array = NDArray[Any]


def _step(ufunc: np.ufunc) -> Callable[[Eager, Any], Eager]:
    """A step done at once, with an array like this one, a parameter, or few numbers."""

    def step(self: Eager, b: Any) -> Eager:
        if b is not None:
            place = self.place
            if type(b) is Eager:
                b = b.now
            elif b.dtype is not place.dtype:
                b = b.astype(place.dtype)
            self.now = ufunc(self.now, b, place)
        return self

    return step


class Eager:
    """An array as it lies and a place to compute in: the first step goes from one to the other."""

    __slots__ = ("home", "now", "place")

    def __init__(self, now: Array, place: Array, _: Plan, home: Array | None):
        self.now, self.place, self.home = now, place, home

    __isub__, __iadd__, __imul__ = map(_step, (np.subtract, np.add, np.multiply))

    def settle(self) -> None:
        """Do the steps that have been put together: none, each is done at once."""

    def value(self) -> Array:
        """The array that the steps have made."""
        return self.now

    def blank(self, where: Array) -> None:
        """Put zeros somewhere."""
        self.settle()
        if self.now is not self.place:
            np.copyto(self.place, self.now)
        self.now = self.place
        np.copyto(self.place, 0, where=where)

    def replace(self, where: Array, b: Eager) -> None:
        """Put what another has somewhere."""
        self.settle()
        np.copyto(self.place, b.value(), where=where)

    def round(self, dtype: np.dtype[Any]) -> None:
        """Round the array to a dtype, and go on in the working dtype."""
        self.settle()
        self.now = rounded(self.place, self.now, dtype)


class Deferred(Eager):
    """now * scale - shift - less: scale and shift are few numbers, less is an array like this one.

    Sums over neighbours, `ones` of now and `products` of now with another's, are taken once.
    """

    __slots__ = ("less", "ones", "plan", "products", "scale", "shift")

    def __init__(self, now: Array, place: Array, plan: Plan, home: Array | None):
        self.now, self.place, self.plan, self.home = now, place, plan, home
        self.scale: Any = None
        self.shift: Any = None
        self.less: Deferred | None = None
        self.ones: Array | None = None
        self.products: tuple[Any, Any] = None, None  # with whose array, and the sums

    def __isub__(self, b: Any) -> Deferred:
        if type(b) is Deferred:
            for a in (self, b):
                if a.less is not None:
                    a.settle()
            self.less = b
        elif b is not None:
            self.shift = b if self.shift is None else self.shift + b
        return self

    def __iadd__(self, b: Any) -> Deferred:
        if type(b) is Deferred:
            self.settle()
            self.now = np.add(self.now, b.value(), self.place)
        elif b is not None:
            self.shift = -b if self.shift is None else self.shift - b
        return self

    def __imul__(self, b: Any) -> Deferred:
        if type(b) is Deferred:
            self.settle()
            self.now = np.multiply(self.now, b.value(), self.place)
        elif b is not None:
            if self.scale is not None and self.plan.asked.apart:
                self.settle()
            self.scale = b if self.scale is None else self.scale * b
            if self.shift is not None:
                self.shift = self.shift * b
            if self.less is not None:
                self.less *= b
        return self

    def value(self) -> Any:
        """The array that the steps have made."""
        a, shift = self._scaled(), self.shift
        if self.less is not None:
            a, less = np.subtract(a, self.less._scaled(), self.place), self.less.shift
            if less is not None:
                shift = -less if shift is None else shift - less
        if shift is None:
            return a
        plan = self.plan
        return np.subtract(a, plan.spread(shift) if plan.spreads else shift, self.place)

    def _scaled(self) -> Any:
        scale, plan = self.scale, self.plan
        if scale is None:
            return self.now
        return np.multiply(self.now, plan.spread(scale) if plan.spreads else scale, self.place)

    def settle(self) -> None:
        """Do the steps that have been put together."""
        self.place = self.place.view()  # what another remembers of the old one holds no more
        self.__init__(self.value(), self.place, self.plan, self.home)  # type: ignore[misc]

    def sums(self, b: Deferred | None = None) -> Any:
        """Sums over neighbours of this, or of its product with b, made of sums of the arrays."""
        if self.less is not None:
            self.settle()
        scale, shift, plan = self.scale, self.shift, self.plan
        if b is None:
            if self.ones is None:
                self.ones = plan.inner_sum(self.now).astype(plan.few, copy=False)
            s, others = self.ones, self.now.shape[plan.inner or 0]
        else:
            s, others = b._products(self), None
        if scale is not None:
            s = s * scale
        if shift is not None:
            s = s - shift * (b.sums() if b is not None else others)
        return s

    def _products(self, a: Deferred) -> Any:
        """Sums over neighbours of this times the other's array as it lies."""
        if self.less is not None:
            self.settle()
        plan = self.plan
        if self.products[0] is not a.now:
            products = plan.inner_sum(a.now, self.now).astype(plan.few, copy=False)
            self.products = a.now, products
        s = self.products[1]
        if self.scale is not None:
            s = s * self.scale
        if self.shift is not None:
            if a.ones is None:
                a.ones = plan.inner_sum(a.now).astype(plan.few, copy=False)
            s = s - self.shift * a.ones
        return s

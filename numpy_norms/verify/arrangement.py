"""Where the axes of a norm lie: from the caller's order to channels second, or features last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_norms.checks import choice, shown
from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS

from .plain import Array, Kernel, View

__all__ = ["Arrangement"]


@dataclass(frozen=True)
class Arrangement:
    """The caller's order of axes; `inward` leads to the order in which this kit computes."""

    norm: str
    axis: tuple[int, ...] = (-1,)
    channel_axis: int = 1

    @classmethod
    def of(cls, norm: str, options: Mapping[str, Any]) -> Arrangement:
        """Read `axis` or `channel_axis` from keyword options.

        Raises
        ------
        TypeError
            For any other option, and for what is no axis.
        ValueError
            For an axis that is named twice, or for none.
        """
        name = "axis" if choice("norm", norm, NORMS) in FEATURE_NORMS else "channel_axis"
        unknown = sorted(set(options) - {name})
        if unknown:
            raise TypeError(f"{norm} has no option {unknown[0]!r} here; it takes {name}")
        given = options.get(name, 1 if name == "channel_axis" else -1)
        several = name == "axis" and isinstance(given, (tuple, list))
        axes = tuple(given) if several else (given,)
        if not all(isinstance(a, (int, np.integer)) and not isinstance(a, bool) for a in axes):
            kind = "a whole number" + (" or a tuple of them" if name == "axis" else "")
            raise TypeError(f"{name} is {shown(given)}; {kind} is expected")
        if not axes or len(set(axes)) < len(axes):
            raise ValueError(
                f"{name} is {shown(given)}; different axes are expected, such as (-2, -1)"
            )
        if name == "channel_axis":
            return cls(norm, channel_axis=int(given))
        return cls(norm, axis=tuple(int(a) for a in axes))

    @property
    def options(self) -> dict[str, Any]:
        """The keyword options that this library's functions take."""
        if self.norm in FEATURE_NORMS:
            return {"axis": self.axis}
        return {"channel_axis": self.channel_axis}

    @property
    def features(self) -> int:
        """The number of axes that gamma has."""
        return len(self.axis) if self.norm in FEATURE_NORMS else 1

    def inward(self, a: Array) -> Array:
        """Return a view with channels on axis 1, or with the normalized axes last."""
        return np.moveaxis(a, *self._axes(a.ndim))

    def outward(self, a: Array) -> Array:
        """Undo `inward`."""
        return np.moveaxis(a, *self._axes(a.ndim)[::-1])

    def view(self, x: Array, gamma: Array, num_groups: int | None) -> View:
        """Return the four-axis view of an `x` that has been brought inward."""
        return View.of(self.norm, x.shape, gamma.shape, num_groups or 1)

    def view_of(self, shape: tuple[int, ...], num_groups: int | None) -> View:
        """Return the four-axis view of an `x` of this shape, brought inward."""
        features = shape[-self.features :] if self.norm in FEATURE_NORMS else shape[1:2]
        return View.of(self.norm, shape, features, num_groups or 1)

    def arranged(self, forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
        """Wrap a kernel for channels second, or features last, to take the caller's order."""
        if self == Arrangement(self.norm):
            return forward, backward

        def brought(a: Array) -> Array:
            return np.ascontiguousarray(self.inward(np.asarray(a)))

        def ahead(x: Any, *rest: Any) -> Any:
            return self.outward(forward(brought(x), *rest))

        def back(dy: Any, x: Any, *rest: Any) -> Any:
            dx, *others = backward(brought(dy), brought(x), *rest)
            return (self.outward(dx), *others)

        return ahead, back

    def _axes(self, ndim: int) -> tuple[list[int], list[int]]:
        if self.norm not in FEATURE_NORMS:
            return [self.channel_axis], [1]
        theirs = sorted(axis % ndim for axis in self.axis)
        return theirs, list(range(ndim - len(theirs), ndim))

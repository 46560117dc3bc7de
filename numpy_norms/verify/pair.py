"""A pair of passes at the point where they are checked: along directions, and by laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .derivatives import (
    by_complex_step,
    by_differences,
    is_analytic,
    kink,
    natural_step,
    rounding_noise,
)
from .plain import Array
from .report import Row

__all__ = ["Pair", "copied", "several"]

_EVERY_ELEMENT = 32
_UNCERTAIN = 1e-6
_COARSE = 1e-5


class Pair:
    """The two passes at the point where they are checked."""

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        points: list[Array | None],
        rng: np.random.Generator,
        dy: Array,
        gradients: list[Array],
    ) -> None:
        self.forward, self.backward, self.points = forward, backward, points
        self.rng, self.dy, self.gradients = rng, dy, gradients
        self.methods: list[bool] = []
        self.uncertainty, self.kinked, self.overwritten = 0.0, False, False
        self.first = [None if p is None else rng.standard_normal(p.shape) for p in points]
        self.steps = [self._step(i) for i in range(len(points))]
        self.turn = rng.standard_normal(dy.shape)
        self.noise = rounding_noise(self._path, 1.0)

    def rows(self, i: int, place: int) -> Iterator[Row]:
        """Yield a row for each kind of direction of array `i`."""
        first = self.first[i]
        if first is None or not first.size:
            return
        analytic = is_analytic(self._along(i, first), self.dy, self.steps[i])
        self.methods.append(analytic)
        for kind, directions in self._directions(i, place, first).items():
            results = [
                self._compare(i, place, t, analytic)
                for t in directions
                if np.isfinite(t).all() and t.any()
            ]
            if results:
                units, got, expected = max(results)
                yield Row(
                    kind,
                    f"gradient {i}",
                    units,
                    units,
                    units,
                    passed=units <= 1,
                    got=got,
                    expected=expected,
                )

    def remarks(self) -> Iterator[str]:
        """Yield what lets mistakes pass."""
        if self.uncertainty > _UNCERTAIN:
            yield (
                f"the forward pass rounds so coarsely that differences are uncertain by "
                f"{self.uncertainty:.0e}: smaller mistakes pass"
            )
        if self.kinked:
            yield "the forward pass has a kink here: any slope between those on its sides passes"

    def linear_rows(self) -> Iterator[Row]:
        """Yield the laws that a backward pass is linear and leaves its arguments alone."""
        twice = self._gradients(2 * self.dy, self.points)
        for place, (one, two) in enumerate(zip(self.gradients, twice, strict=True)):
            off = float(abs(two - 2 * one).max(initial=0))
            scale = float(abs(one).max(initial=0)) * 2.0**-40 or math.ulp(0.0)
            units = off / scale if np.isfinite(off) else math.inf
            law = f"gradient {place} is linear in dy"
            yield Row("twice dy", law, units, units, units, units <= 1, law=True)
        law, units = "no argument is overwritten", math.inf if self.overwritten else 0.0
        yield Row("arguments", law, units, units, units, not self.overwritten, law=True)

    def rounding_rows(self) -> Iterator[Row]:
        """Yield the laws that nothing rounds more coarsely than float32, or is random."""
        steps = [
            step for step, point in zip(self.steps, self.points, strict=True) if point is not None
        ]
        here, there, again = (self._path(s) for s in (0.0, 0.5, 0.0))
        found = [float(np.fmax(_size(a), _size(b))) for a, b in zip(here, there, strict=True)]
        typical = [found[0], *(_size(self.dy) * found[0] / step for step in steps)]
        names = ["y", *(f"gradient {place}" for place in range(len(steps)))]
        for name, noise, *sizes in zip(names, self.noise, typical, found, strict=True):
            units = noise / max(*(_COARSE * size for size in sizes), math.ulp(0.0))
            law = f"{name} is not rounded more coarsely than float32"
            yield Row("nearby points", law, units, units, units, units <= 1, law=True)
        for name, one, two, size in zip(names, here, again, found, strict=True):
            units = float(abs(one - two).max(initial=0)) / max(_COARSE * size, math.ulp(0.0))
            if units > 1:
                law = f"{name} is the same when called again"
                yield Row("called again", law, units, units, units, passed=False, law=True)

    def _along(self, i: int, t: Array) -> Callable[[Any], Array]:
        def function(s: Any) -> Array:
            kind = np.complex128 if isinstance(s, complex) else np.float64
            points = [None if p is None else p.astype(kind) for p in self.points]
            points[i] = self.points[i] + s * t
            return np.asarray(self.forward(*points)[0])

        return function

    def _gradients(self, dy: Array, points: list[Array | None]) -> list[Array]:
        return self._both(dy, points)[1:]

    def _both(self, dy: Array, points: list[Array | None]) -> list[Array]:
        """Return y and the gradients."""
        *handed, given = copied((*points, dy))
        y, cache = self.forward(*handed)
        gradients = several(self.backward(given, cache))
        pairs = zip((*points, dy), (*handed, given), strict=True)
        self.overwritten |= any(a is not None and not np.array_equal(a, b) for a, b in pairs)
        found = [gradient for gradient in gradients if gradient is not None]
        return [np.asarray(array) for array in (y, *found)]

    def _directions(self, i: int, place: int, first: Array) -> dict[str, list[Array]]:
        """Return directions by kind; those of a backward pass lie in the row space of J."""
        size, shape = first.size, first.shape
        chosen = range(size) if size <= _EVERY_ELEMENT else self.rng.choice(size, 4, replace=False)
        cotangents = [self.rng.standard_normal(self.dy.shape) for _ in range(2)]
        return {
            "random": [first, self.rng.standard_normal(shape)],
            "row space": [_unit(self._gradients(w, self.points)[place]) for w in cotangents],
            "gradient": [_unit(self.gradients[place])],
            "elements": [(np.arange(size) == k).astype(float).reshape(shape) for k in chosen],
        }

    def _compare(self, i: int, place: int, t: Array, analytic: bool) -> tuple[float, float, float]:
        """Return the difference in units of its uncertainty, and the two derivatives."""
        function, gradient = self._along(i, t), self.gradients[place]
        claimed, size = float((gradient * t).sum()), float(abs(gradient * t).sum())
        bend = 0.0
        if analytic:
            value, error = by_complex_step(function, self.dy, self.steps[i] * 1e-30)
        else:
            step, dy = 2 * self.steps[i], self.dy
            noise = rounding_noise(lambda s: [dy * function(s)], step)[0] * math.sqrt(dy.size)
            value, error = by_differences(function, dy, step, noise)
            bend = kink(function, dy, step, noise)
        error += 10 * self.noise[1 + place] * float(np.sqrt((t * t).sum())) + 64 * 2.0**-53 * size
        if size > 0 and not bend:
            self.uncertainty = max(self.uncertainty, error / size)
        self.kinked |= bend > 0
        error += bend
        off = abs(claimed - value)
        units = off / error if np.isfinite(off) and error > 0 else 0.0 if off == 0 else math.inf
        return units, claimed, value

    def _step(self, i: int) -> float:
        """Return how far array `i` can be moved before y is visibly not straight."""
        point, t = self.points[i], self.first[i]
        if point is None or t is None or not point.size:
            return 1.0
        largest = float(point.std()) or float(abs(point).max()) or 1.0
        return natural_step(self._along(i, t), self.dy, largest)

    def _path(self, s: float) -> list[Array]:
        """Return y and the gradients where all arrays and dy have moved along: all are smooth."""
        points = [
            None if p is None or t is None else p + s * step * t
            for p, t, step in zip(self.points, self.first, self.steps, strict=True)
        ]
        return self._both(self.dy + s * self.turn, points)


def _size(a: Array) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt((a * a).mean())) if a.size else 0.0


def _unit(t: Array) -> Array:
    size = _size(t)
    return np.asarray(t / size if size > 0 else t)


def copied(arrays: Sequence[Array | None]) -> list[Any]:
    """Return arrays that may be written into, which spoils no other call."""
    return [None if a is None else a.copy() for a in arrays]


def several(found: Any) -> Sequence[Any]:
    """Return what a backward pass returned as a sequence of gradients."""
    return found if isinstance(found, (tuple, list)) else (found,)

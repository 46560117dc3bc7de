"""Checking the gradients of any pair of forward and backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .derivatives import by_complex_step, by_differences, is_analytic, natural_step, rounding_noise
from .plain import Array
from .report import Report, Row

__all__ = ["check_gradients"]

_EVERY_ELEMENT = 32
_UNCERTAIN = 1e-6
_COARSE = 1e-5


def check_gradients(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *arrays: ArrayLike | None,
    seed: int = 0,
) -> Report:
    """Check a backward pass against numerical derivatives of its forward pass.

    For random dy and directions t it compares sum t d(array) with the derivative of
    sum dy y(array + s t) at s = 0: by complex step if the forward pass carries complex numbers as
    an analytic function does, and otherwise by extrapolated central differences. Directions are
    random, and in the row space of the Jacobian, so that none is wasted on its null space.

    Parameters
    ----------
    forward : callable
        ``forward(*arrays) -> (y, cache)``; options are bound with `functools.partial`.
    backward : callable
        ``backward(dy, cache) ->`` one gradient for each array; more are allowed if they are None.
    *arrays : array_like or None
        What the passes are checked at. Taken to float64 first: this checks formulas, not rounding.
        None stays None, and so must its gradient.
    seed : int, default 0

    Returns
    -------
    Report
        Errors in units of the estimated error of the numerical derivative.

    Raises
    ------
    TypeError
        If an array does not hold real floating-point numbers.

    Examples
    --------
    >>> from numpy_norms import rms_norm_backward, rms_norm_forward
    >>> x, gamma = np.random.default_rng(0).standard_normal((2, 5))
    >>> check_gradients(rms_norm_forward, rms_norm_backward, x, gamma).passed
    True
    """
    points = [None if array is None else _point(array, i) for i, array in enumerate(arrays)]
    rng = np.random.default_rng(seed)
    y, cache = forward(*points)
    dy = rng.standard_normal(np.shape(y))
    gradients = _several(backward(dy, cache))
    wrong = list(_shape_rows(points, gradients))
    if wrong:
        return Report("gradients", tuple(wrong))
    checked = [i for i, point in enumerate(points) if point is not None]
    pair = _Pair(
        forward, backward, points, rng, dy, [np.asarray(g) for g in gradients if g is not None]
    )
    rows = [row for place, i in enumerate(checked) for row in pair.rows(i, place)]
    rows += [*pair.linear_rows(), *pair.rounding_rows()]
    remark = (
        f"the forward pass rounds so coarsely that differences are uncertain by "
        f"{pair.uncertainty:.0e}: smaller mistakes pass"
        if pair.uncertainty > _UNCERTAIN
        else ""
    )
    method = "complex step" if all(pair.methods) else "extrapolated differences"
    return Report(
        f"gradients against {method}",
        tuple(rows),
        unit="1 unit is the estimated error of the numerical derivative",
        remark=remark,
    )


def _point(array: ArrayLike, i: int) -> Array:
    value = np.asarray(array)
    if value.dtype.kind not in "fV":
        raise TypeError(
            f"array {i} has dtype {value.dtype}; pass real floating-point numbers, "
            "and bind other arguments with functools.partial"
        )
    return value.astype(np.float64)


def _shape_rows(points: Sequence[Array | None], gradients: Sequence[Any]) -> Iterator[Row]:
    count = len(gradients)
    if count < len(points) or any(g is not None for g in gradients[len(points) :]):
        note = f"returned {count} gradients for {len(points)} arrays"
        yield Row.failure("shapes", "gradients", note)
        return
    for i, (point, gradient) in enumerate(zip(points, gradients, strict=False)):
        expected = None if point is None else point.shape
        got = None if gradient is None else np.shape(gradient)
        if got != expected:
            note = f"is {'None' if got is None else f'of shape {got}'}; {expected} is expected"
            yield Row.failure("shapes", f"gradient {i}", note)


class _Pair:
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
        self.uncertainty = 0.0
        self.first = [None if p is None else rng.standard_normal(p.shape) for p in points]
        self.steps = [self._step(i) for i in range(len(points))]
        self.noise = self._noise()

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

    def linear_rows(self) -> Iterator[Row]:
        """Yield the laws that a backward pass is linear and leaves its arguments alone."""
        before = [None if point is None else point.copy() for point in self.points]
        twice = self._gradients(2 * self.dy, self.points)
        for place, (one, two) in enumerate(zip(self.gradients, twice, strict=True)):
            off = float(abs(two - 2 * one).max(initial=0))
            scale = float(abs(one).max(initial=0)) * 2.0**-40 or math.ulp(0.0)
            units = off / scale if np.isfinite(off) else math.inf
            law = f"gradient {place} is linear in dy"
            yield Row("twice dy", law, units, units, units, units <= 1, law=True)
        pairs = zip(before, self.points, strict=True)
        same = all(old is None or new is None or np.array_equal(old, new) for old, new in pairs)
        units = 0.0 if same else math.inf
        yield Row("arguments", "no argument is overwritten", units, units, units, same, law=True)

    def rounding_rows(self) -> Iterator[Row]:
        """Yield the laws that nothing rounds more coarsely than float32."""
        y = _size(np.asarray(self.forward(*self.points)[0]))
        steps = [
            step for step, point in zip(self.steps, self.points, strict=True) if point is not None
        ]
        typical = [y, *(_size(self.dy) * y / step for step in steps)]
        found = [y, *map(_size, self.gradients)]
        names = ["y", *(f"gradient {place}" for place in range(len(steps)))]
        for name, noise, *sizes in zip(names, self.noise, typical, found, strict=True):
            units = noise / max(*(_COARSE * size for size in sizes), math.ulp(0.0))
            law = f"{name} is not rounded more coarsely than float32"
            yield Row("nearby points", law, units, units, units, units <= 1, law=True)

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
        y, cache = self.forward(*points)
        found = [
            gradient for gradient in _several(self.backward(dy, cache)) if gradient is not None
        ]
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
        if analytic:
            value, error = by_complex_step(function, self.dy, self.steps[i] * 1e-30)
        else:
            value, error = by_differences(function, self.dy, 2 * self.steps[i])
        error += 10 * self.noise[1 + place] * float(np.sqrt((t * t).sum())) + 64 * 2.0**-53 * size
        if size > 0:
            self.uncertainty = max(self.uncertainty, error / size)
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

    def _noise(self) -> list[float]:
        """Return the rounding noise of y and each gradient, from nearby points: both are smooth."""
        w = self.rng.standard_normal(self.dy.shape) / 2**8
        table = []
        for k in range(8):
            points = [
                None if p is None or t is None else p + k * step / 2**8 * t
                for p, t, step in zip(self.points, self.first, self.steps, strict=True)
            ]
            table.append(self._both(self.dy + k * w, points))
        return [rounding_noise(values) for values in zip(*table, strict=True)]


def _size(a: Array) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt((a * a).mean())) if a.size else 0.0


def _unit(t: Array) -> Array:
    size = _size(t)
    return np.asarray(t / size if size > 0 else t)


def _several(found: Any) -> Sequence[Any]:
    return found if isinstance(found, (tuple, list)) else (found,)

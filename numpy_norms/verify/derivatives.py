"""Derivatives along a direction, by complex step or extrapolated differences, and their error."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .plain import Array

__all__ = [
    "Estimate",
    "by_complex_step",
    "by_differences",
    "is_analytic",
    "natural_step",
    "rounding_noise",
]

_U = 2.0**-53
_STEPS = 14
_SAFETY = 10.0
_VISIBLE = 1e-3
_HALVINGS = 40

Function = Callable[[Any], Array]
Estimate = tuple[float, float]


def by_complex_step(function: Function, dy: Array, step: float) -> Estimate:
    """Return d/ds sum dy f(s) at 0 and its error: Im f(i step) / step, which has no cancellation.

    The error is what relative changes of `step` by a factor leave: rounding alone.
    """
    values = [
        float((dy * function(1j * size).imag).sum() / size) for size in (step, 3 * step, 7 * step)
    ]
    terms = float(abs(dy * function(1j * step).imag / step).sum())
    return values[0], _SAFETY * (max(values) - min(values)) + 64 * _U * terms


def natural_step(function: Function, dy: Array, largest: float) -> float:
    """Return the largest step, of `largest` and its halves, at which `function` is nearly straight.

    That is where halving it changes the central differences by less than a tenth of their norm.
    """

    def slopes(size: float) -> Array:
        return np.asarray(dy * (function(size) - function(-size)) / (2 * size))

    coarse = slopes(largest)
    for size in (largest / 2**k for k in range(_HALVINGS)):
        fine = slopes(size / 2)
        if np.linalg.norm(coarse - fine) <= 0.1 * np.linalg.norm(fine):
            return float(size)
        coarse = fine
    return largest


def rounding_noise(values: Sequence[Array]) -> float:
    """Return the rounding noise of eight arrays at equal steps along a smooth path.

    It is what is left in their seventh differences, which multiply the variance of noise by
    (14 choose 7) (Hamming 1971): the root of its mean square over the elements.
    """
    weights = [(-1) ** k * math.comb(7, k) / math.sqrt(math.comb(14, 7)) for k in range(8)]
    table = np.sum([w * value for w, value in zip(weights, values, strict=True)], axis=0)
    return float(np.sqrt((table * table).mean())) if table.size else 0.0


def by_differences(function: Function, dy: Array, step: float) -> Estimate:
    """Return d/ds sum dy f(s) at 0 and its error, by Richardson's extrapolation.

    Central differences with steps `step`, `step` / 2, ... each remove one more even power of the
    step; the entry that differs least from its neighbours is taken, with that difference and the
    rounding of its differences as error (Ridders 1982). Two ladders of steps guard against
    neighbours that agree by chance.
    """
    nearby = [[dy * function(step / gap * k) for k in range(8)] for gap in (97, 389, 1543)]
    noise = max(map(rounding_noise, nearby)) * math.sqrt(dy.size)
    value, error = _extrapolated(function, dy, step, noise)
    other, its_error = _extrapolated(function, dy, 0.7 * step, noise)
    return value, _SAFETY * (max(error, its_error) + abs(value - other))


def _extrapolated(function: Function, dy: Array, step: float, noise: float) -> Estimate:
    best: Estimate = (np.nan, np.inf)
    above: list[float] = []
    for k in range(_STEPS):
        size = step / 2**k
        ahead, behind = function(size), function(-size)
        row = [float((dy * (ahead - behind)).sum() / (2 * size))]
        rounding = (noise + _U * float(abs(dy * ahead).sum())) / size
        for power, previous in enumerate(above, 1):
            row.append(row[-1] + (row[-1] - previous) / (4**power - 1))
            error = max(abs(row[-1] - row[-2]), abs(row[-1] - previous)) + rounding
            if error < best[1]:
                best = row[-1], error
        above = row
    return best


def is_analytic(function: Function, dy: Array, step: float) -> bool:
    """Return whether `function` carries complex numbers, and does so as an analytic one.

    A forward pass through ``np.var`` or ``abs`` takes complex numbers and gives a wrong derivative.
    On circles about 0 an analytic function has no Fourier coefficient of order -1, and one of order
    1 that grows with the radius exactly; circles widen until the function is visibly not linear.
    """
    turns = np.exp(2j * np.pi * np.arange(8) / 8)
    slopes = []
    for size in (step * 4.0**k for k in range(-8, 16)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                values = [function(complex(size * turn)) for turn in turns]
        except Exception:  # a forward pass may refuse complex numbers with any exception
            return False
        if not all(map(np.iscomplexobj, values)):
            return False
        orders = abs(np.fft.fft([(dy * value).sum() for value in values]))
        linear, curved, wrong = orders[1], orders[2:4].max(), orders[-1]
        slopes.append(linear / size)
        if not np.isfinite(orders).all() or abs(slopes[-1] - slopes[0]) > _VISIBLE * slopes[0]:
            return False
        if curved > _VISIBLE * linear:
            return bool(wrong < _VISIBLE * curved)
    return bool(wrong < _VISIBLE * linear)

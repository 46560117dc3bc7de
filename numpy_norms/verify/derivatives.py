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
    "kink",
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


def rounding_noise(path: Callable[[float], Sequence[Array]], step: float) -> list[float]:
    """Return the rounding noise of arrays that change with one number, from 0 to `step`.

    It is what is left in the seventh differences of eight of them at equal gaps. A kink leaves more
    than rounding, but in the stretch that it lies in alone: of two stretches, ahead and behind, the
    quieter counts. They are the shorter the more elements there are, each with kinks of its own.
    """
    finer = min(max(max(a.size for a in path(0.0)) / 24, 1), 1000)
    found = []
    for start, parts in ((0.0, 1543), (0.0, 6007), (step, 1543), (step, 6007)):
        places = [start + k * step / (parts * finer) for k in range(1, 9)]  # off a kink at 0
        sides = [[path(sign * s) for s in places] for sign in (1, -1)]
        found.append(np.min([[_seventh(a) for a in zip(*side, strict=True)] for side in sides], 0))
    return [float(noise) for noise in np.max(found, 0)]


def _seventh(values: Sequence[Array]) -> float:
    """Return the root of the mean square of seventh differences, as that of what is added to each.

    They multiply the variance of noise by (14 choose 7) (Hamming 1971).
    """
    weights = [(-1) ** k * math.comb(7, k) / math.sqrt(math.comb(14, 7)) for k in range(8)]
    table = np.sum([w * value for w, value in zip(weights, values, strict=True)], axis=0)
    return float(np.sqrt((table * table).mean())) if table.size else 0.0


def kink(function: Function, dy: Array, step: float, noise: float) -> float:
    """Return by how much the slopes of sum dy f(s) on the two sides of 0 differ; 0 if hardly."""
    size = step / 2**10
    at = function(0.0)

    def bend(size: float) -> float:
        return float((dy * (function(size) - 2 * at + function(-size))).sum() / size)

    found = abs(2 * bend(size / 2) - bend(size))  # a curve's own bend shrinks with the step
    slopes = float(abs(dy * (function(size) - function(-size))).sum() / (2 * size))
    rounding = (noise + _U * float(abs(dy * at).sum())) / size
    return found if found > 1e-8 * slopes + 100 * rounding else 0.0


def by_differences(function: Function, dy: Array, step: float, noise: float) -> Estimate:
    """Return d/ds sum dy f(s) at 0 and its error, by Richardson's extrapolation.

    Central differences with steps `step`, `step` / 2, ... each remove one more even power of the
    step; the entry that differs least from its neighbours is taken, with that difference and the
    rounding of its differences, `noise` in each sum, as error (Ridders 1982). Three ladders of
    steps guard against neighbours that agree by chance.
    """
    ladders = [_extrapolated(function, dy, part * step, noise) for part in (1.0, 0.7, 0.45)]
    values = sorted(value for value, _ in ladders)
    return values[1], _SAFETY * (max(error for _, error in ladders) + values[2] - values[0])


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
    turns = np.exp(2j * np.pi * np.arange(7) / 7)  # of 8, half would add up to 0 at a kink
    slopes: list[float] = []
    at = function(0.0)
    for size in (step * 4.0**k for k in range(-8, 16)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                values = [function(complex(size * turn)) - at for turn in turns]
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

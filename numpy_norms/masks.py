"""Masks: statistics over a part of the positions, with which every position is normalized.

A position that does not count is in no average, so the statistics are constants to it: dx is (12)
where positions count, and (14) where they do not. An average over those that count is that of the
array with zeros elsewhere, divided by their portion of the set.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from math import prod
from operator import mul
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import equations as eq
from .engine import lifting
from .engine.plans import Plan
from .engine.tiles import Table, Tile, run
from .passes import Statistics

Array = NDArray[Any]


class Mask(NamedTuple):
    """Which positions do not count, in the view of a plan, and how much of each set does."""

    hidden: Array
    portion: Array  # 1 for a set in which none counts
    empty: Array | None  # those sets, if there are any

    @property
    def counting(self) -> Array:
        """The portion of each set that counts, 0 where none does."""
        return self.portion if self.empty is None else np.where(self.empty, 0, self.portion)


def mask_of(plan: Plan, where: Array, x: Array) -> Mask:
    """The mask of a norm of x where `where`, which broadcasts to x, says what counts."""
    if not x.size:
        return Mask(where, np.ones(plan.set_shape, plan.few), None)
    seen = _in_view(plan, where, x)
    alike = prod([plan.shape[a] for a in plan.over if seen.shape[a] == 1])
    counts = alike * np.count_nonzero(seen, axis=plan.over, keepdims=True)
    portion = np.broadcast_to(np.divide(counts, plan.m, dtype=plan.wide), plan.set_shape)
    portion, empty = portion.astype(plan.few), portion == 0
    hidden = np.broadcast_to(~seen, plan.shape)
    if not empty.any():
        return Mask(hidden, portion, None)
    return Mask(hidden, np.where(empty, 1, portion).astype(plan.few), empty)


def _in_view(plan: Plan, where: Array, x: Array) -> Array:
    """`where` with the axes of the plan, of length one if it is the same along all that they hold.

    Axes of x that the plan has as one are spread out only if `where` varies along one of them.
    """
    where = where.reshape((1,) * (x.ndim - where.ndim) + where.shape)
    of_x, of_plan = ([*accumulate(shape, mul)] for shape in (x.shape, plan.shape))
    ends = sorted({*of_x} & {*of_plan})  # of runs of axes that hold the same elements
    runs, plan_runs = ([bisect_left(ends, n) for n in of] for of in (of_x, of_plan))
    varying = {run for run, n in zip(runs, where.shape, strict=True) if n > 1}
    spread = [n if run in varying else 1 for n, run in zip(x.shape, runs, strict=True)]
    view = [n if run in varying else 1 for n, run in zip(plan.shape, plan_runs, strict=True)]
    return np.broadcast_to(where, spread).reshape(view)


def forward(
    plan: Plan,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    y: Array,
    output: Callable[..., Any],
    mask: Mask,
) -> Statistics:
    """Fill y, and return the statistics; the variance of a set in which none counts is infinite."""
    x, y = plan.views(x, y)
    gamma, beta = plan.parameters(gamma, beta)
    statistics: Table = {}

    def prepare(tile: Tile, pivot: Any, exponent: Any, *_: Any) -> Any:
        return (counted(tile, x, mask, pivot, exponent),)

    def reduce(tile: Tile, x: Any) -> Any:
        mean, mean_square = eq.moments(x, tile.E, tile.M)
        return (), of_portion(tile, mask, mean, mean_square), ()

    def finish(mean: Any, mean_square: Any) -> Any:
        return mean, eq.variance(mean, mean_square)

    def apply(tile: Tile, pivot: Any, exponent: Any, mean: Any, var: Any) -> None:
        (empty,) = tile.sets((mask.empty,))
        if empty is not None:
            var = np.where(empty, np.inf, var)
        tile.keep(statistics, pivot, exponent, mean, var)
        rstd = eq.reciprocal_std(var, lifting.eps_of(plan, eps, exponent, var))
        x_hat = eq.standardized(lifted(tile, x, mask, pivot, exponent, into=y), mean, rstd)
        tile.store(output(x_hat, *tile.parameters(gamma, beta)), y)

    nearer = partial(lifting.nearer, plan, eps)
    run(plan, prepare, reduce, finish, apply, about=(None, None), nearer=nearer, slots=2)
    return Statistics.of(plan, statistics)


def backward(
    plan: Plan,
    dy: Array,
    x: Array,
    gamma: Array | None,
    eps: float,
    statistics: Statistics,
    dx: Array,
    mask: Mask,
) -> Table:
    """Fill dx; return dgamma and dbeta, to which every position adds its term."""
    x, dy, dx_view = plan.views(x, dy, dx)
    gamma, power = lifting.moderate(plan, gamma)
    (gamma,) = plan.parameters(gamma)
    sums: Table = {}

    def prepare(tile: Tile, pivot: Any, exponent: Any, mean: Any, var: Any) -> Any:
        rstd = eq.reciprocal_std(var, lifting.eps_of(plan, eps, exponent, var))
        x_tile = lifted(tile, x, mask, pivot, exponent)
        x_tile.blank(tile.part(mask.hidden) & (tile.part(dy) == 0))  # 0 times NaN is nothing here
        return tile.lift(dy, into=dx_view), eq.standardized(x_tile, mean, rstd), rstd

    def reduce(tile: Tile, dy: Any, x_hat: Any, rstd: Any) -> Any:
        gradients = eq.parameter_gradients(dy, x_hat, tile.G, tile.B)
        dx_hat = eq.scaled(dy, *tile.parameters(gamma))
        averages = eq.averages(dx_hat, x_hat, tile.E, tile.M)
        return (dx_hat, x_hat, rstd), of_portion(tile, mask, *averages), gradients

    def finish(*averages: Any) -> Any:
        return averages

    def apply(tile: Tile, dx_hat: Any, x_hat: Any, rstd: Any, *numbers: Any) -> None:
        _, exponent, _, _, *averages = numbers
        dx = eq.input_gradient(dx_hat, x_hat, rstd, *averages)
        put_constants(tile, dx, dy, gamma, rstd, mask)
        tile.unlift(dx, exponent, power)
        tile.store(dx, dx_view)

    run(plan, prepare, reduce, finish, apply, about=statistics, sums=sums, slots=3)
    return sums


def counted(tile: Tile, a: Array, mask: Mask, pivot: Any = None, exponent: Any = None) -> Any:
    """The tile's part of an array, lifted, with zeros where positions do not count."""
    tile_a = tile.lift(a, pivot, exponent)
    tile_a.blank(tile.part(mask.hidden))
    return tile_a


def lifted(
    tile: Tile,
    a: Array,
    mask: Mask,
    pivot: Any = None,
    exponent: Any = None,
    into: Array | None = None,
) -> Any:
    """The tile's part of an array, lifted, with zeros in sets in which none counts."""
    tile_a = tile.lift(a, pivot, exponent, into)
    (empty,) = tile.sets((mask.empty,))
    if empty is not None:
        tile_a.blank(empty)  # so that their x_hat is 0 where they hold NaN, too
    return tile_a


def put_constants(
    tile: Tile, dx: Any, dy: Array, gamma: Array | None, rstd: Any, mask: Mask
) -> None:
    """Have dx hold (14) where positions do not count: the statistics are constants to them."""
    hidden = eq.scaled(tile.lift(dy), *tile.parameters(gamma))
    dx.replace(tile.part(mask.hidden), eq.input_gradient_of_constants(hidden, rstd))


def of_portion(tile: Tile, mask: Mask, *averages: Any) -> Any:
    """Averages over the positions that count, from those over all."""
    (portion,) = tile.sets((mask.portion,))
    return tuple([None if a is None else a / portion for a in averages])

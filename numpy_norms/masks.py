"""Masks: statistics over a part of the positions, with which every position is normalized.

A position that does not count is in no average, so the statistics are constants to it: dx is (12)
where positions count, and (14) where they do not. An average over those that count is that of the
array with zeros elsewhere, divided by their portion of the set.
"""

from __future__ import annotations

from bisect import bisect_left
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
from .engine.tiles import Steps, Tile, as_found
from .passes import mean_and_variance, standardized

Array = NDArray[Any]
Absent = Array | None


class Mask(NamedTuple):
    """Which positions do not count, in the view of a plan, and how much of each set does."""

    hidden: Array
    portion: Array  # 1 for a set in which none counts
    empty: Absent  # those sets, if there are any

    @property
    def of_sets(self) -> tuple[Array, Absent]:
        """What steps are given of it, for each set."""
        return self.portion, self.empty

    @property
    def counting(self) -> Array:
        """The portion of each set that counts, 0 where none does."""
        return self.portion if self.empty is None else np.where(self.empty, 0, self.portion)


def mask_of(plan: Plan, where: Array, x: Array) -> Mask:
    """The mask of a norm of x where `where`, which broadcasts to x, says what counts."""
    if not x.size:
        return Mask(np.zeros(plan.shape, bool), np.ones(plan.set_shape, plan.few), None)
    seen = _in_view(plan, where, x)
    portion = np.add.reduce(seen, axis=plan.over, dtype=plan.wide, keepdims=True)
    portion *= prod([plan.shape[a] for a in plan.over if seen.shape[a] == 1])
    portion /= plan.m
    empty = portion == 0
    portion[empty] = 1
    portion = np.broadcast_to(portion.astype(plan.few, copy=False), plan.set_shape)
    empty = np.broadcast_to(empty, plan.set_shape)
    return Mask(np.broadcast_to(~seen, plan.shape), portion, empty if empty.any() else None)


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
    tile: Tile,
    x_view: Array,
    hidden: Array,
    y_view: Array,
    gamma: Absent,
    beta: Absent,
    eps: float,
    output: Any,
) -> Steps:
    """Fill y, and keep the statistics; the variance of a set in which none counts is infinite."""

    def reduce(pivot: Any, exponent: Any, portion: Any, _: Any) -> Any:
        x = tile.lift(x_view, pivot, exponent, zeros=hidden)
        return (), of_portion(portion, *eq.moments(x, tile.E, tile.M)), ()

    def apply(pivot: Any, exponent: Any, _: Any, empty: Any, mean: Any, var: Any) -> Any:
        if empty is not None:
            var = np.where(empty, np.inf, var)
        statistics = pivot, exponent, mean, var
        # Sets in which none counts are 0, so that their x_hat is where they hold NaN, too.
        x_hat, _ = standardized(tile, x_view, eps, *statistics, into=y_view, zeros=empty)
        tile.store(output(x_hat, gamma, beta), y_view)
        return statistics

    return Steps(reduce, mean_and_variance, apply, partial(lifting.nearer, tile.plan, eps))


def backward(
    tile: Tile,
    x_view: Array,
    hidden: Array,
    dy_view: Array,
    dx_view: Array,
    gamma: Absent,
    eps: float,
    power: int,
) -> Steps:
    """Fill dx; sum dgamma and dbeta, to which every position adds its term."""

    def reduce(*numbers: Any) -> Any:
        *statistics, portion, empty = numbers
        zeros = idle(hidden, dy_view)
        if empty is not None:
            zeros = np.logical_or(zeros, empty)
        x_hat, rstd = standardized(tile, x_view, eps, *statistics, zeros=zeros)
        dy = tile.lift(dy_view, into=dx_view)
        gradients = eq.parameter_gradients(dy, x_hat, tile.G, tile.B)
        dx_hat = eq.scaled(dy, gamma)
        averages = eq.averages(dx_hat, x_hat, tile.E, tile.M)
        return (dx_hat, x_hat, rstd), of_portion(portion, *averages), gradients

    def apply(dx_hat: Any, x_hat: Any, rstd: Any, *numbers: Any) -> None:
        _, exponent, _, _, _, _, *averages = numbers
        dx = eq.input_gradient(dx_hat, x_hat, rstd, *averages)
        put_constants(tile, dx, hidden, dy_view, gamma, rstd)
        tile.unlift(dx, exponent, power)
        tile.store(dx, dx_view)

    return Steps(reduce, as_found, apply)


def idle(hidden: Any, dy_view: Array) -> Any:
    """Where neither x nor dy counts: 0 times NaN is nothing there."""
    return None if hidden is None else hidden & (dy_view == 0)


def put_constants(
    tile: Tile, dx: Any, hidden: Array, dy_view: Array, gamma: Absent, rstd: Any
) -> None:
    """Have dx hold (14) where positions do not count: the statistics are constants to them."""
    dx_hat = eq.scaled(tile.lift(dy_view), gamma)
    dx.replace(hidden, eq.input_gradient_of_constants(dx_hat, rstd))


def of_portion(portion: Any, *averages: Any) -> Any:
    """Averages over the positions that count, from those over all; None is where all count."""
    return tuple([a if a is None or portion is None else a / portion for a in averages])

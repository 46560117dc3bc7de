"""The passes over an array: what is prepared, reduced, finished and applied on every tile.

A pass is given arrays with the axes of its plan: views of large ones, parameters, and numbers for
sets. It returns two tables: numbers that it has found for sets, and sums for parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import equations as eq
from .engine import lifting
from .engine.plans import Plan
from .engine.tiles import Table, Tile, run

Array = NDArray[Any]
Arrays = Sequence[Any]


class Statistics(NamedTuple):
    """Mean and variance of every set, lifted: less `pivot` and times two to the `exponent`.

    One number for each set; None is 0 for all.
    """

    pivot: Array | None
    exponent: Array | None
    mean: Array | None
    var: Array

    @classmethod
    def of(cls, plan: Plan, table: Table) -> Statistics:
        """Those that tiles have kept; of an empty array there are none."""
        if table:
            return cls._make(map(table.get, range(4)))
        zeros = np.zeros(plan.set_shape, plan.few)
        return cls(None, None, zeros if plan.asked.means else None, zeros)


def forward(
    plan: Plan,
    slots: int,
    views: Arrays,
    parameters: Arrays,
    _: Arrays,
    eps: float,
    output: Callable[..., Any],
) -> tuple[Table, Table]:
    """Fill y, and keep the statistics."""
    x, y = views
    statistics: Table = {}

    def prepare(tile: Tile, pivot: Any, exponent: Any) -> Any:
        return (tile.lift(x, pivot, exponent, into=y),)

    def reduce(tile: Tile, x: Any) -> Any:
        return (x,), eq.moments(x, tile.E, tile.M), ()

    def finish(mean: Any, mean_square: Any) -> Any:
        return mean, eq.variance(mean, mean_square)

    def apply(tile: Tile, x: Any, pivot: Any, exponent: Any, mean: Any, var: Any) -> None:
        tile.keep(statistics, pivot, exponent, mean, var)
        rstd = eq.reciprocal_std(var, lifting.eps_of(plan, eps, exponent, var))
        x_hat = eq.standardized(x, mean, rstd)
        tile.store(output(x_hat, *tile.parameters(*parameters)), y)

    nearer = partial(lifting.nearer, plan, eps)
    run(plan, prepare, reduce, finish, apply, about=(None, None), nearer=nearer, slots=slots)
    return statistics, {}


def backward(
    plan: Plan, slots: int, views: Arrays, parameters: Arrays, statistics: Arrays, eps: float
) -> tuple[Table, Table]:
    """Fill dx; return dgamma and dbeta. `ds` is what reaches x by other ways than the norm."""
    x, dy, dx_view, ds = views
    gamma, power = lifting.moderate(plan, *parameters)
    sums: Table = {}

    def prepare(tile: Tile, pivot: Any, exponent: Any, mean: Any, var: Any) -> Any:
        rstd = eq.reciprocal_std(var, lifting.eps_of(plan, eps, exponent, var))
        x_hat = eq.standardized(tile.lift(x, pivot, exponent), mean, rstd)
        return tile.lift(dy, into=dx_view), x_hat, rstd

    def reduce(tile: Tile, dy: Any, x_hat: Any, rstd: Any) -> Any:
        gradients = eq.parameter_gradients(dy, x_hat, tile.G, tile.B)
        dx_hat = eq.scaled(dy, *tile.parameters(gamma))
        return (dx_hat, x_hat, rstd), eq.averages(dx_hat, x_hat, tile.E, tile.M), gradients

    def finish(*averages: Any) -> Any:
        return averages

    def apply(tile: Tile, dx_hat: Any, x_hat: Any, rstd: Any, *numbers: Any) -> None:
        _, exponent, _, _, *averages = numbers
        dx = eq.input_gradient(dx_hat, x_hat, rstd, *averages)
        tile.unlift(dx, exponent, power)
        if ds is not None:
            dx += tile.lift(ds)
        tile.store(dx, dx_view)

    run(plan, prepare, reduce, finish, apply, about=statistics, sums=sums, slots=slots)
    return {}, sums


def inference(
    plan: Plan, slots: int, views: Arrays, parameters: Arrays, given: Arrays, eps: float
) -> tuple[Table, Table]:
    """Fill y, where mean and variance are given."""
    x, y = views
    mean, var = given
    pivot, mean = lifting.of_given(plan, mean, var, eps)

    def prepare(tile: Tile, pivot: Any, mean: Any, var: Any) -> Any:
        return (tile.lift(x, pivot, into=y),)

    def reduce(tile: Tile, x: Any) -> Any:
        return (x,), (), ()

    def apply(tile: Tile, x: Any, pivot: Any, mean: Any, var: Any) -> None:
        x_hat = eq.standardized(x, mean, eq.reciprocal_std(var, eps))
        tile.store(eq.output(x_hat, *tile.parameters(*parameters)), y)

    run(plan, prepare, reduce, None, apply, about=(pivot, mean, var), slots=slots)
    return {}, {}


def inference_backward(
    plan: Plan, slots: int, views: Arrays, parameters: Arrays, given: Arrays, eps: float
) -> tuple[Table, Table]:
    """Fill dx; return the sums of dy (x - mean) and of dy."""
    x, dy, dx_view = views
    mean, var = given
    gamma, power = lifting.moderate(plan, *parameters)
    pivot, rest = lifting.of_given(plan, mean, var, eps)
    rstd = eq.reciprocal_std(var, eps)
    sums: Table = {}

    def prepare(tile: Tile, pivot: Any, rest: Any, rstd: Any) -> Any:
        xc = tile.lift(x, pivot)
        xc -= rest
        return tile.lift(dy, into=dx_view), xc

    def reduce(tile: Tile, dy: Any, xc: Any) -> Any:
        gradients = eq.parameter_gradients(dy, xc, tile.G, tile.B)
        return (eq.scaled(dy, *tile.parameters(gamma)),), (), gradients

    def apply(tile: Tile, dx_hat: Any, pivot: Any, rest: Any, rstd: Any) -> None:
        dx = eq.input_gradient_of_constants(dx_hat, rstd)
        tile.unlift(dx, None, power)
        tile.store(dx, dx_view)

    run(plan, prepare, reduce, None, apply, about=(pivot, rest, rstd), sums=sums, slots=slots)
    return {}, sums


def inference_gradients(
    plan: Plan, sums: Table, var: Array, gamma: Array | None, eps: float
) -> tuple[Array, Array, Array, Array]:
    """dmean, dvar, dgamma and dbeta of inference, which are still to be rounded."""
    gamma, power = lifting.moderate(plan, gamma)
    rstd, nothing = eq.reciprocal_std(var, eps), np.zeros_like(var)  # of an empty array
    dy_xc, dbeta = sums.get(0, nothing), sums.get(1, nothing)
    factor = 1 if gamma is None else gamma
    dmean, dvar = eq.statistics_gradients(factor * dbeta, factor * dy_xc, rstd)
    return *(plan.times(d, np.array(power)) for d in (dmean, dvar)), rstd * dy_xc, dbeta

"""The passes: what is reduced, found of it, and applied, on every tile.

A pass is given a tile, arrays with the axes of its plan, parameters, and options. What its steps
are given first says how sets are lifted, or which statistics are given.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from numpy.typing import NDArray

from . import equations as eq
from .engine import lifting
from .engine.plans import Plan
from .engine.tiles import Numbers, Steps, Tile, as_found

Array = NDArray[Any]
Absent = Array | None


class Statistics(NamedTuple):
    """Mean and variance of every set, lifted: less `pivot` and times two to the `exponent`.

    One number for each set; None is 0 for all.
    """

    pivot: Array | None
    exponent: Array | None
    mean: Array | None
    var: Array


def mean_and_variance(mean: Any, mean_square: Any) -> tuple[Any, Any]:
    """What is found of the averages of a forward pass."""
    return mean, eq.variance(mean, mean_square)


def standardized(
    tile: Tile,
    x_view: Array,
    eps: float,
    pivot: Any,
    exponent: Any,
    mean: Any,
    var: Any,
    *,
    into: Absent = None,
    zeros: Absent = None,
) -> tuple[Any, Any]:
    """x_hat and rstd of sets whose statistics are known."""
    rstd = eq.reciprocal_std(var, lifting.eps_of(tile.plan, eps, exponent, var))
    x = tile.lift(x_view, pivot, exponent, into, zeros)
    return eq.standardized(x, mean, rstd), rstd


def forward(
    tile: Tile, x_view: Array, y_view: Array, gamma: Absent, beta: Absent, eps: float, output: Any
) -> Steps:
    """Fill y, and keep the statistics."""

    def reduce(pivot: Any, exponent: Any) -> Any:
        x = tile.lift(x_view, pivot, exponent, into=y_view)
        return (x,), eq.moments(x, tile.E, tile.M), ()

    def apply(x: Any, pivot: Any, exponent: Any, mean: Any, var: Any) -> Any:
        rstd = eq.reciprocal_std(var, lifting.eps_of(tile.plan, eps, exponent, var))
        x_hat = eq.standardized(x, mean, rstd)
        tile.store(output(x_hat, gamma, beta), y_view)
        return pivot, exponent, mean, var

    return Steps(reduce, mean_and_variance, apply, partial(lifting.nearer, tile.plan, eps))


def backward(
    tile: Tile,
    x_view: Array,
    dy_view: Array,
    dx_view: Array,
    ds_view: Absent,
    gamma: Absent,
    eps: float,
    power: int,
) -> Steps:
    """Fill dx; sum dgamma and dbeta. `ds_view` is what reaches x by other ways than the norm.

    gamma has been multiplied by two to the minus `power`.
    """

    def reduce(*statistics: Any) -> Any:
        x_hat, rstd = standardized(tile, x_view, eps, *statistics)
        dy = tile.lift(dy_view, into=dx_view)
        gradients = eq.parameter_gradients(dy, x_hat, tile.G, tile.B)
        dx_hat = eq.scaled(dy, gamma)
        return (dx_hat, x_hat, rstd), eq.averages(dx_hat, x_hat, tile.E, tile.M), gradients

    def apply(dx_hat: Any, x_hat: Any, rstd: Any, *numbers: Any) -> None:
        _, exponent, _, _, *averages = numbers
        dx = eq.input_gradient(dx_hat, x_hat, rstd, *averages)
        tile.unlift(dx, exponent, power)
        if ds_view is not None:
            dx += tile.lift(ds_view)
        tile.store(dx, dx_view)

    return Steps(reduce, as_found, apply)


def inference(
    tile: Tile, x_view: Array, y_view: Array, gamma: Absent, beta: Absent, eps: float
) -> Steps:
    """Fill y, where mean and variance are given."""

    def reduce(mean: Any, var: Any) -> Any:
        pivot, mean = lifting.of_given(tile.plan, mean, var, eps)
        x = tile.lift(x_view, pivot, into=y_view)
        return (eq.standardized(x, mean, eq.reciprocal_std(var, eps)),), (), ()

    def apply(x_hat: Any, *_: Any) -> None:
        tile.store(eq.output(x_hat, gamma, beta), y_view)

    return Steps(reduce, None, apply)


def inference_backward(
    tile: Tile,
    x_view: Array,
    dy_view: Array,
    dx_view: Array,
    gamma: Absent,
    eps: float,
    power: int,
) -> Steps:
    """Fill dx; sum dy (x - mean) and dy."""

    def reduce(mean: Any, var: Any) -> Any:
        pivot, mean = lifting.of_given(tile.plan, mean, var, eps)
        xc = tile.lift(x_view, pivot)
        xc -= mean
        dy = tile.lift(dy_view, into=dx_view)
        gradients = eq.parameter_gradients(dy, xc, tile.G, tile.B)
        return (eq.scaled(dy, gamma),), (), gradients

    def apply(dx_hat: Any, _: Any, var: Any) -> None:
        dx = eq.input_gradient_of_constants(dx_hat, eq.reciprocal_std(var, eps))
        tile.unlift(dx, None, power)
        tile.store(dx, dx_view)

    return Steps(reduce, None, apply)


def inference_gradients(
    plan: Plan, sums: Numbers, var: Array, gamma: Absent, eps: float, power: int
) -> tuple[Array, Array, Array, Array]:
    """dmean, dvar, dgamma and dbeta of inference, which are still to be rounded."""
    rstd = eq.reciprocal_std(var, eps)
    dy_xc, dbeta = sums
    factor = 1 if gamma is None else gamma
    dmean, dvar = eq.statistics_gradients(factor * dbeta, factor * dy_xc, rstd)
    return *(plan.times(d, power) for d in (dmean, dvar)), rstd * dy_xc, dbeta

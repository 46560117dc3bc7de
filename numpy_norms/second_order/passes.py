"""The passes of tangents and of the second derivative, with the steps of the first ones."""

from __future__ import annotations

from typing import Any

from .. import equations as first
from ..engine import lifting
from ..engine.tiles import Steps, Tile, as_found
from ..masks import Absent, Array, of_portion
from ..passes import standardized
from . import equations as eq

SLOTS = 5  # arrays that `cotangent` works on elsewhere than in results


def tangent(
    tile: Tile,
    x_view: Array,
    hidden: Absent,
    x_dot_view: Array,
    y_dot_view: Array,
    gamma: Absent,
    gamma_dot: Absent,
    beta_dot: Absent,
    eps: float,
    kept: bool,
) -> Steps:
    """Fill y_dot; keep E[x_dot] and E[x_dot x_hat], if `cotangent` will not find sets whole."""

    def lifted(statistics: Any, zeros: Absent) -> Any:
        x_hat, rstd = standardized(tile, x_view, eps, *statistics, zeros=zeros)
        return tile.lift(x_dot_view, None, statistics[1], y_dot_view, zeros), x_hat, rstd

    def reduce(*numbers: Any) -> Any:
        *statistics, portion, _ = numbers
        x_dot, x_hat, rstd = lifted(statistics, hidden)
        averages = of_portion(portion, *first.averages(x_dot, x_hat, tile.E, tile.M))
        return (x_dot, x_hat, rstd) if hidden is None else (None, None, None), averages, ()

    def apply(x_dot: Any, x_hat: Any, rstd: Any, *numbers: Any) -> Any:
        *statistics, _, empty, mean_x_dot, mean_x_dot_x_hat = numbers
        if hidden is not None:  # every position has a tangent, not those alone that count
            x_dot, x_hat, rstd = lifted(statistics, empty)
        x_hat_dot = first.input_gradient(x_dot, x_hat, rstd, mean_x_dot, mean_x_dot_x_hat)
        x_hat_dot.settle()  # its x_hat is used up; and a large mean of x_dot must not join beta_dot
        if gamma_dot is not None:
            x_hat, _ = standardized(tile, x_view, eps, *statistics, zeros=empty)
        tile.store(eq.output_tangent(x_hat_dot, x_hat, gamma, gamma_dot, beta_dot), y_dot_view)
        return (mean_x_dot, mean_x_dot_x_hat) if kept else ()

    return Steps(reduce, as_found, apply)


def cotangent(
    tile: Tile,
    x_view: Array,
    dy_view: Array,
    ddx_view: Array,
    d_x_view: Array,
    gamma: Absent,
    ddgamma: Absent,
    eps: float,
    power: int,
) -> Steps:
    """Fill d_x; sum d_gamma. What comes with the statistics are averages of ddx, if known."""

    def reduce(*numbers: Any) -> Any:
        *statistics, mean_ddx, mean_ddx_x_hat = numbers
        x_hat, rstd = standardized(tile, x_view, eps, *statistics)
        x_hat_dot = tile.lift(ddx_view, None, statistics[1])
        if mean_ddx_x_hat is None:
            mean_ddx, mean_ddx_x_hat = first.averages(x_hat_dot, x_hat, tile.E, tile.M)
        x_hat_dot = first.input_gradient(x_hat_dot, x_hat, rstd, mean_ddx, mean_ddx_x_hat)
        x_hat_dot.settle()  # its x_hat is used up
        x_hat, _ = standardized(tile, x_view, eps, *statistics)
        dy, dx_hat = tile.lift(dy_view), tile.lift(dy_view, into=d_x_view)
        d_gamma = eq.gamma_cotangent(dy, x_hat_dot, tile.G)
        dx_hat = first.scaled(dx_hat, gamma)
        of_dx_hat = tile.E(dx_hat, x_hat), tile.E(dx_hat, x_hat_dot)
        d_x_hat = eq.x_hat_cotangent(dy, dx_hat, ddgamma, rstd, mean_ddx_x_hat)
        averages = first.averages(d_x_hat, x_hat, tile.E, tile.M)
        exponent = statistics[1]
        rstd_of_x = rstd if exponent is None else tile.plan.times(rstd, exponent)
        return (d_x_hat, x_hat, x_hat_dot, rstd_of_x), (*averages, *of_dx_hat), (d_gamma,)

    def apply(d_x_hat: Any, x_hat: Any, x_hat_dot: Any, rstd_of_x: Any, *numbers: Any) -> None:
        d_x = eq.input_cotangent(d_x_hat, x_hat, x_hat_dot, rstd_of_x, *numbers[-4:])
        tile.unlift(d_x, None, power)
        tile.store(d_x, d_x_view)

    return Steps(reduce, as_found, apply)


def tangent_of_given(
    tile: Tile,
    x_view: Array,
    x_dot_view: Array,
    y_dot_view: Array,
    gamma: Absent,
    gamma_dot: Absent,
    beta_dot: Absent,
    eps: float,
) -> Steps:
    """Fill y_dot, where mean and variance are arguments."""

    def x_hat(mean: Any, var: Any) -> tuple[Any, Any]:
        pivot, rest = lifting.of_given(tile.plan, mean, var, eps)
        rstd = first.reciprocal_std(var, eps)
        return first.standardized(tile.lift(x_view, pivot), rest, rstd), rstd

    def reduce(mean: Any, var: Any, *_: Any) -> Any:
        return (*x_hat(mean, var), tile.lift(x_dot_view, into=y_dot_view)), (), ()

    def apply(standard: Any, rstd: Any, x_dot: Any, *numbers: Any) -> None:
        mean, var, mean_dot, var_dot = numbers
        x_hat_dot = eq.tangent_of_given(x_dot, standard, rstd, mean_dot, var_dot)
        x_hat_dot.settle()
        if gamma_dot is not None:
            standard, _ = x_hat(mean, var)
        tile.store(eq.output_tangent(x_hat_dot, standard, gamma, gamma_dot, beta_dot), y_dot_view)

    return Steps(reduce, None, apply)


def cotangent_of_given(
    tile: Tile, x_view: Array, dy_view: Array, ddx_view: Array, d_x_view: Array
) -> Steps:
    """Fill d_x; sum dy, dy (x - mean) and dy ddx."""

    def reduce(pivot: Any, rest: Any, *_: Any) -> Any:
        xc = tile.lift(x_view, pivot)
        xc -= rest
        dy, ddx = tile.lift(dy_view, into=d_x_view), tile.lift(ddx_view)
        sums = tile.B(dy), tile.G(dy, xc), tile.G(dy, ddx)
        return (dy,), (), sums

    def apply(dy: Any, *numbers: Any) -> None:
        *_, gamma, rstd, ddgamma, ddvar = numbers
        d_x = eq.input_cotangent_of_constants(dy, gamma, rstd, ddgamma, ddvar)
        tile.store(d_x, d_x_view)

    return Steps(reduce, None, apply)

"""The passes of tangents and of the second derivative: the four steps of the first ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import equations as first
from ..engine import lifting
from ..engine.plans import Plan
from ..engine.tiles import Table, Tile, run
from ..masks import Mask, counted, lifted, of_portion
from ..passes import Statistics
from . import equations as eq

Array = NDArray[Any]

SLOTS = 5  # arrays that `cotangent` works on elsewhere than in results


def tangent(
    plan: Plan,
    x: Array,
    gamma: Array | None,
    eps: float,
    statistics: Statistics,
    x_dot: Array,
    gamma_dot: Array | None,
    beta_dot: Array | None,
    y_dot: Array,
) -> Table:
    """Fill y_dot; return E[x_dot] and E[x_dot x_hat], if `cotangent` does not find sets whole."""
    x, x_dot, y_dot = plan.views(x, x_dot, y_dot)
    gamma, gamma_dot, beta_dot = plan.parameters(gamma, gamma_dot, beta_dot)
    kept: Table = {}
    whole = plan.cut(SLOTS).whole if plan.size else True

    def prepare(tile: Tile, *numbers: Any) -> Any:
        x_hat, rstd = standardized(tile, x, eps, *numbers)
        return tile.lift(x_dot, into=y_dot), x_hat, rstd

    def reduce(tile: Tile, x_dot: Any, x_hat: Any, rstd: Any) -> Any:
        return (x_dot, x_hat, rstd), first.averages(x_dot, x_hat, tile.E, tile.M), ()

    def finish(*averages: Any) -> Any:
        return averages

    def apply(tile: Tile, x_dot: Any, x_hat: Any, rstd: Any, *numbers: Any) -> None:
        *lifted, mean_x_dot, mean_x_dot_x_hat = numbers
        if not whole:
            tile.keep(kept, mean_x_dot, mean_x_dot_x_hat)
        x_hat_dot = first.input_gradient(x_dot, x_hat, rstd, mean_x_dot, mean_x_dot_x_hat)
        x_hat_dot.settle()  # its x_hat is used up; and a large mean of x_dot must not join beta_dot
        if gamma_dot is not None:
            x_hat, _ = standardized(tile, x, eps, *lifted)
        factors = tile.parameters(gamma, gamma_dot, beta_dot)
        tile.store(eq.output_tangent(x_hat_dot, x_hat, *factors), y_dot)

    run(plan, prepare, reduce, finish, apply, about=statistics, slots=2)
    return kept


def tangent_of_masked(
    plan: Plan,
    x: Array,
    gamma: Array | None,
    eps: float,
    statistics: Statistics,
    mask: Mask,
    x_dot: Array,
    gamma_dot: Array | None,
    beta_dot: Array | None,
    y_dot: Array,
) -> None:
    """Fill y_dot, where statistics are of the positions that count."""
    x, x_dot, y_dot = plan.views(x, x_dot, y_dot)
    gamma, gamma_dot, beta_dot = plan.parameters(gamma, gamma_dot, beta_dot)

    def prepare(tile: Tile, *numbers: Any) -> Any:
        pivot, exponent, mean, _ = numbers
        x_tile = counted(tile, x, mask, pivot, exponent)
        x_hat = first.standardized(x_tile, mean, rstd_of(tile, eps, *numbers)[0])
        return counted(tile, x_dot, mask), x_hat

    def reduce(tile: Tile, x_dot: Any, x_hat: Any) -> Any:
        averages = first.averages(x_dot, x_hat, tile.E, tile.M)
        return (), of_portion(tile, mask, *averages), ()

    def finish(*averages: Any) -> Any:
        return averages

    def apply(tile: Tile, *numbers: Any) -> None:
        pivot, exponent, mean, _, *averages = numbers
        lifted_rstd, rstd = rstd_of(tile, eps, *numbers[:4])

        def x_hat() -> Any:
            return first.standardized(lifted(tile, x, mask, pivot, exponent), mean, lifted_rstd)

        x_dot_tile = lifted(tile, x_dot, mask, into=y_dot)
        x_hat_dot = first.input_gradient(x_dot_tile, x_hat(), rstd, *averages)
        x_hat_dot.settle()
        factors = tile.parameters(gamma, gamma_dot, beta_dot)
        again = None if gamma_dot is None else x_hat()
        tile.store(eq.output_tangent(x_hat_dot, again, *factors), y_dot)

    run(plan, prepare, reduce, finish, apply, about=statistics, slots=3)


def cotangent(
    plan: Plan,
    dy: Array,
    x: Array,
    gamma: Array | None,
    eps: float,
    statistics: Statistics,
    ddx: Array,
    known: Table,
    ddgamma: Array | None,
    d_x: Array,
) -> Table:
    """Fill d_x; return d_gamma. `known` are averages of ddx, which `tangent` has returned."""
    gamma, ddgamma, power = lifting.moderate(plan, gamma, ddgamma)
    x, dy, ddx, d_x = plan.views(x, dy, ddx, d_x)
    gamma, ddgamma = plan.parameters(gamma, ddgamma)
    sums: Table = {}

    def prepare(tile: Tile, *numbers: Any) -> Any:
        *lifted, mean_ddx, mean_ddx_x_hat = numbers
        x_hat, rstd = standardized(tile, x, eps, *lifted)
        x_hat_dot = tile.lift(ddx)
        if not known:
            mean_ddx, mean_ddx_x_hat = first.averages(x_hat_dot, x_hat, tile.E, tile.M)
        x_hat_dot = first.input_gradient(x_hat_dot, x_hat, rstd, mean_ddx, mean_ddx_x_hat)
        x_hat_dot.settle()  # its x_hat is used up
        x_hat, _ = standardized(tile, x, eps, *lifted)
        arrays = tile.lift(dy), tile.lift(dy, into=d_x), x_hat, x_hat_dot
        return *arrays, rstd, mean_ddx_x_hat

    def reduce(tile: Tile, dy: Any, dx_hat: Any, x_hat: Any, x_hat_dot: Any, *numbers: Any) -> Any:
        rstd, mean_ddx_x_hat = numbers
        d_gamma = eq.gamma_cotangent(dy, x_hat_dot, tile.G)
        dx_hat = first.scaled(dx_hat, *tile.parameters(gamma))
        of_dx_hat = tile.E(dx_hat, x_hat), tile.E(dx_hat, x_hat_dot)
        (along,) = tile.parameters(ddgamma)
        d_x_hat = eq.x_hat_cotangent(dy, dx_hat, along, rstd, mean_ddx_x_hat)
        averages = first.averages(d_x_hat, x_hat, tile.E, tile.M)
        return (d_x_hat, x_hat, x_hat_dot, rstd), (*averages, *of_dx_hat), (d_gamma,)

    def finish(*averages: Any) -> Any:
        return averages

    def apply(
        tile: Tile, d_x_hat: Any, x_hat: Any, x_hat_dot: Any, rstd: Any, *numbers: Any
    ) -> None:
        averages = numbers[-4:]
        result = eq.input_cotangent(d_x_hat, x_hat, x_hat_dot, rstd, *averages)
        tile.unlift(result, None, power)
        tile.store(result, d_x)

    about = (*statistics, known.get(0), known.get(1))
    run(plan, prepare, reduce, finish, apply, about=about, sums=sums, slots=SLOTS)
    return sums


def standardized(tile: Tile, x: Array, eps: float, *lifted: Any) -> tuple[Any, Any]:
    """x_hat of the tile, and rstd of x itself, from statistics of x as it was lifted."""
    pivot, exponent, mean, _ = lifted
    lifted_rstd, rstd = rstd_of(tile, eps, *lifted)
    return first.standardized(tile.lift(x, pivot, exponent), mean, lifted_rstd), rstd


def rstd_of(tile: Tile, eps: float, *lifted: Any) -> tuple[Any, Any]:
    """rstd of x as it was lifted, and of x itself."""
    _, exponent, _, var = lifted
    rstd = first.reciprocal_std(var, lifting.eps_of(tile.plan, eps, exponent, var))
    return rstd, rstd if exponent is None else tile.plan.times(rstd, exponent)


def tangent_of_given(
    plan: Plan,
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array | None,
    eps: float,
    x_dot: Array,
    mean_dot: Array | None,
    var_dot: Array | None,
    gamma_dot: Array | None,
    beta_dot: Array | None,
    y_dot: Array,
) -> None:
    """Fill y_dot, where mean and variance are arguments."""
    x, x_dot, y_dot = plan.views(x, x_dot, y_dot)
    mean, var, mean_dot, var_dot = plan.parameters(mean, var, mean_dot, var_dot)
    gamma, gamma_dot, beta_dot = plan.parameters(gamma, gamma_dot, beta_dot)
    pivot, rest = lifting.of_given(plan, mean, var, eps)
    about = pivot, rest, first.reciprocal_std(var, eps), mean_dot, var_dot

    def prepare(tile: Tile, pivot: Any, rest: Any, rstd: Any, *_: Any) -> Any:
        x_hat = first.standardized(tile.lift(x, pivot), rest, rstd)
        return tile.lift(x_dot, into=y_dot), x_hat

    def reduce(tile: Tile, *arrays: Any) -> Any:
        return arrays, (), ()

    def apply(tile: Tile, x_dot: Any, x_hat: Any, *numbers: Any) -> None:
        pivot, rest, rstd, mean_dot, var_dot = numbers
        x_hat_dot = eq.tangent_of_given(x_dot, x_hat, rstd, mean_dot, var_dot)
        x_hat_dot.settle()
        if gamma_dot is not None:
            x_hat = first.standardized(tile.lift(x, pivot), rest, rstd)
        factors = tile.parameters(gamma, gamma_dot, beta_dot)
        tile.store(eq.output_tangent(x_hat_dot, x_hat, *factors), y_dot)

    run(plan, prepare, reduce, None, apply, about=about, slots=2)


def cotangent_of_given(
    plan: Plan,
    dy: Array,
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array | None,
    eps: float,
    ddx: Array,
    ddmean: Array | None,
    ddvar: Array | None,
    ddgamma: Array | None,
    d_x: Array,
) -> tuple[Any, Any, Any]:
    """Fill d_x; return d_mean, d_var and d_gamma, which are still to be rounded."""
    x, dy, ddx, d_x = plan.views(x, dy, ddx, d_x)
    mean, var, *few = plan.parameters(mean, var, gamma, ddmean, ddvar, ddgamma)
    pivot, rest = lifting.of_given(plan, mean, var, eps)
    rstd = first.reciprocal_std(var, eps)
    one, nothing = np.ones_like(mean), np.zeros_like(mean)
    absent = one, nothing, nothing, nothing
    gamma, ddmean, ddvar, ddgamma = (
        b if a is None else a.astype(plan.few) for a, b in zip(few, absent, strict=True)
    )
    sums: Table = {}

    def prepare(tile: Tile, pivot: Any, rest: Any, *_: Any) -> Any:
        xc = tile.lift(x, pivot)
        xc -= rest
        return tile.lift(dy, into=d_x), xc, tile.lift(ddx)

    def reduce(tile: Tile, dy: Any, xc: Any, ddx: Any) -> Any:
        return (dy,), (), (tile.B(dy), tile.G(dy, xc), tile.G(dy, ddx))

    def apply(tile: Tile, dy: Any, *numbers: Any) -> None:
        *_, gamma, rstd, ddgamma, ddvar = numbers
        d = eq.input_cotangent_of_constants(dy, gamma, rstd, ddgamma, ddvar)
        tile.store(d, d_x)

    about = pivot, rest, gamma, rstd, ddgamma, ddvar
    run(plan, prepare, reduce, None, apply, about=about, sums=sums, slots=3)
    dy_sum, dy_xc_sum, dy_ddx_sum = (sums.get(k, nothing) for k in range(3))
    return eq.given_cotangents(dy_sum, dy_xc_sum, dy_ddx_sum, gamma, rstd, ddmean, ddvar, ddgamma)

"""The backward pass in two: sums of a rank's part, and dx where those of all are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import equations as eq
from ..engine import lifting
from ..engine.plans import Plan
from ..engine.tiles import Table, Tile, run
from ..masks import Mask, put_constants
from ..passes import Statistics

Array = NDArray[Any]


def parameter_sums(
    plan: Plan, dy: Array, x: Array, eps: float, statistics: Statistics, mask: Mask | None
) -> tuple[Array, Array]:
    """dgamma and dbeta of this part, which are still to be rounded."""
    x, dy = plan.views(x, dy)
    sums: Table = {}

    def prepare(tile: Tile, *numbers: Any) -> Any:
        x_hat, _ = _standardized(tile, plan, x, dy, eps, mask, *numbers)
        return tile.lift(dy), x_hat

    def reduce(tile: Tile, dy: Any, x_hat: Any) -> Any:
        return (), (), eq.parameter_gradients(dy, x_hat, tile.G, tile.B)

    def apply(tile: Tile, *_: Any) -> None:
        """Nothing: dx has to wait for the sums of all."""

    run(plan, prepare, reduce, None, apply, about=statistics, sums=sums, slots=2)
    nothing = np.zeros(plan.parameter_shape, plan.wide)  # of an empty part
    return sums.get(0, nothing), sums.get(1, nothing)


def input_gradient(
    plan: Plan,
    dy: Array,
    x: Array,
    gamma: Array | None,
    power: int,
    eps: float,
    statistics: Statistics,
    averages: tuple[Array, Array],
    mask: Mask | None,
) -> Array:
    """dx of this part; `averages` are E[dx_hat] and E[dx_hat x_hat] of all.

    They and gamma have been multiplied by two to the minus `power`.
    """
    dx = np.empty(x.shape, plan.result)
    x, dy, dx_view = plan.views(x, dy, dx)
    (gamma,) = plan.parameters(gamma)

    def prepare(tile: Tile, *numbers: Any) -> Any:
        x_hat, rstd = _standardized(tile, plan, x, dy, eps, mask, *numbers[:4])
        return tile.lift(dy, into=dx_view), x_hat, rstd

    def reduce(tile: Tile, dy: Any, x_hat: Any, rstd: Any) -> Any:
        return (eq.scaled(dy, *tile.parameters(gamma)), x_hat, rstd), (), ()

    def apply(tile: Tile, dx_hat: Any, x_hat: Any, rstd: Any, *numbers: Any) -> None:
        _, exponent, _, _, *averages = numbers
        dx = eq.input_gradient(dx_hat, x_hat, rstd, *averages)
        if mask is not None:
            put_constants(tile, dx, dy, gamma, rstd, mask)
        tile.unlift(dx, exponent, power)
        tile.store(dx, dx_view)

    slots = 2 if mask is None else 3
    run(plan, prepare, reduce, None, apply, about=(*statistics, *averages), slots=slots)
    return dx


def _standardized(
    tile: Tile,
    plan: Plan,
    x: Array,
    dy: Array,
    eps: float,
    mask: Mask | None,
    pivot: Any,
    exponent: Any,
    mean: Any,
    var: Any,
) -> tuple[Any, Any]:
    """The tile's x_hat and rstd."""
    rstd = eq.reciprocal_std(var, lifting.eps_of(plan, eps, exponent, var))
    x_tile = tile.lift(x, pivot, exponent)
    if mask is not None:
        x_tile.blank(tile.part(mask.hidden) & (tile.part(dy) == 0))  # 0 times NaN is nothing here
    return eq.standardized(x_tile, mean, rstd), rstd

"""The backward pass in two: sums of a rank's part, and dx where those of all are known."""

from __future__ import annotations

from typing import Any

from .. import equations as eq
from ..engine.tiles import Steps, Tile
from ..masks import Absent, Array, idle, put_constants
from ..passes import standardized


def parameter_sums(tile: Tile, x_view: Array, dy_view: Array, hidden: Absent, eps: float) -> Steps:
    """Sum dgamma and dbeta of this part."""

    def reduce(*statistics: Any) -> Any:
        zeros = idle(hidden, dy_view)
        x_hat, _ = standardized(tile, x_view, eps, *statistics, zeros=zeros)
        return (), (), eq.parameter_gradients(tile.lift(dy_view), x_hat, tile.G, tile.B)

    def apply(*_: Any) -> None:
        """Nothing: dx has to wait for the sums of all."""

    return Steps(reduce, None, apply)


def input_gradient(
    tile: Tile,
    x_view: Array,
    dy_view: Array,
    hidden: Absent,
    dx_view: Array,
    gamma: Absent,
    eps: float,
    power: int,
) -> Steps:
    """Fill dx of this part. With the statistics come E[dx_hat] and E[dx_hat x_hat] of all.

    They and gamma have been multiplied by two to the minus `power`.
    """

    def reduce(*numbers: Any) -> Any:
        zeros = idle(hidden, dy_view)
        x_hat, rstd = standardized(tile, x_view, eps, *numbers[:4], zeros=zeros)
        return (eq.scaled(tile.lift(dy_view, into=dx_view), gamma), x_hat, rstd), (), ()

    def apply(dx_hat: Any, x_hat: Any, rstd: Any, *numbers: Any) -> None:
        _, exponent, _, _, *averages = numbers
        dx = eq.input_gradient(dx_hat, x_hat, rstd, *averages)
        if hidden is not None:
            put_constants(tile, dx, hidden, dy_view, gamma, rstd)
        tile.unlift(dx, exponent, power)
        tile.store(dx, dx_view)

    return Steps(reduce, None, apply)

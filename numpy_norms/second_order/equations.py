"""The equations (19) to (26): tangents, and the backward pass differentiated again.

``docs/twice.md`` derives them under these numbers. A tangent of a is a_dot, what reaches a result
of the backward pass is dd and its name, and what reaches an argument of it d and its name. The
Jacobian of x_hat is symmetric: `numpy_norms.equations.input_gradient`, (12), is its product with
any array, with dx_hat on the way back and with x_dot or ddx on the way here.
"""

from __future__ import annotations

from typing import Any

from ..equations import Sum, input_gradient


def output_tangent(x_hat_dot: Any, x_hat: Any, gamma: Any, gamma_dot: Any, beta_dot: Any) -> Any:
    """The tangent of y; also what reaches dy, from ddx, ddgamma and ddbeta in place of the dots."""
    y_dot = x_hat_dot
    y_dot *= gamma
    if gamma_dot is not None:
        x_hat *= gamma_dot
        y_dot += x_hat
    y_dot += beta_dot  # (19)
    return y_dot


def tangent_of_given(x_dot: Any, x_hat: Any, rstd: Any, mean_dot: Any, var_dot: Any) -> Any:
    """The tangent of x_hat where mean and variance are arguments."""
    x_hat_dot = x_dot
    x_hat_dot -= mean_dot
    x_hat_dot *= rstd
    if var_dot is not None:
        x_hat *= 0.5 * rstd**2 * var_dot
        x_hat_dot -= x_hat  # (20)
    return x_hat_dot


def gamma_cotangent(dy: Any, x_hat_dot: Any, G: Sum) -> Any:
    """What reaches gamma through dx, for the tangent of x_hat along ddx."""
    d_gamma = G(dy, x_hat_dot)  # (21)
    return d_gamma


def x_hat_cotangent(dy: Any, dx_hat: Any, ddgamma: Any, rstd: Any, mean_ddx_x_hat: Any) -> Any:
    """What reaches x_hat: through dgamma, and through E[dx_hat x_hat] in dx."""
    d_x_hat = dx_hat
    d_x_hat *= -rstd * mean_ddx_x_hat
    if ddgamma is not None:
        dy *= ddgamma
        d_x_hat += dy  # (22)
    return d_x_hat


def input_cotangent(
    d_x_hat: Any,
    x_hat: Any,
    x_hat_dot: Any,
    rstd: Any,
    mean_d_x_hat: Any,
    mean_d_x_hat_x_hat: Any,
    mean_dx_hat_x_hat: Any,
    mean_dx_hat_x_hat_dot: Any,
) -> Any:
    """What reaches x: through x_hat as in (12), and through x_hat and rstd where dx has them."""
    x_hat_dot *= mean_dx_hat_x_hat
    d_x_hat -= x_hat_dot
    along_x_hat = mean_d_x_hat_x_hat + mean_dx_hat_x_hat_dot
    d_x = input_gradient(d_x_hat, x_hat, rstd, mean_d_x_hat, along_x_hat)  # (23)
    return d_x


def input_cotangent_of_constants(dy: Any, gamma: Any, rstd: Any, ddgamma: Any, ddvar: Any) -> Any:
    """What reaches x where mean and variance are arguments."""
    d_x = dy
    d_x *= rstd * (ddgamma - 0.5 * rstd**2 * ddvar * gamma)  # (24)
    return d_x


def given_cotangents(
    dy_sum: Any,
    dy_xc_sum: Any,
    dy_ddx_sum: Any,
    gamma: Any,
    rstd: Any,
    ddmean: Any,
    ddvar: Any,
    ddgamma: Any,
) -> tuple[Any, Any, Any]:
    """What reaches a given mean and variance, and gamma, from sums of dy, dy (x - mean), dy ddx."""
    along, turn = dy_ddx_sum - ddmean * dy_sum, 0.5 * rstd**2 * ddvar  # turn: in no unit of x
    d_gamma = rstd * (along - turn * dy_xc_sum)
    d_rstd = gamma * along + (ddgamma - 3 * turn * gamma) * dy_xc_sum  # (25)
    d_var = -0.5 * rstd**2 * (rstd * d_rstd)
    d_mean = -rstd * (ddgamma - turn * gamma) * dy_sum  # (26)
    return d_mean, d_var, d_gamma

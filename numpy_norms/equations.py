"""The equations, (1) to (14) and (18), as they are derived; every norm computes this text.

``docs/derivation.md`` derives them under the same numbers. E averages over a set of positions
that share statistics. M does, too, but is None where the mean is 0 by definition (RMS norm).
G and B sum over the axes along which gamma and beta were broadcast. Each takes an array, or
two whose product it is of.

Large arrays are the caller's to use up: ``x -= mean`` is a step that needs no memory, and the
same array goes on under the name of what it has become. A step with None is no step. Each
line is holomorphic in its arrays (no abs, no conj), so that the complex step differentiates
exactly what is computed here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Average = Callable[..., Any]
Sum = Callable[..., Any]


def moments(x: Any, E: Average, M: Average) -> tuple[Any, Any]:
    """The mean and the mean square of the sets in x."""
    mean = M(x)  # (1)
    mean_square = E(x, x)
    return mean, mean_square


def variance(mean: Any, mean_square: Any) -> Any:
    """The variance; about 0, where the mean is 0 by definition."""
    var = mean_square  # (2)
    if mean is not None:
        var = mean_square - mean * mean  # (18)
    return var


def reciprocal_std(var: Any, eps: Any) -> Any:
    """The reciprocal standard deviation, eps inside the root."""
    rstd = np.reciprocal(np.sqrt(var + eps))  # (3)
    return rstd


def standardized(x: Any, mean: Any, rstd: Any) -> Any:
    """x_hat."""
    x_hat = x
    x_hat -= mean
    x_hat *= rstd  # (4)
    return x_hat


def output(x_hat: Any, gamma: Any, beta: Any) -> Any:
    """y; an absent gamma is 1, an absent beta 0."""
    y = x_hat
    y *= gamma
    y += beta  # (5)
    return y


def parameter_gradients(dy: Any, x_hat: Any, G: Sum, B: Sum) -> tuple[Any, Any]:
    """The gradients of gamma and beta: the adjoint of broadcasting is a sum."""
    dbeta = B(dy)  # (6)
    dgamma = G(dy, x_hat)  # (7)
    return dgamma, dbeta


def scaled(dy: Any, gamma: Any) -> Any:
    """The gradient of x_hat."""
    dx_hat = dy
    dx_hat *= gamma  # (8)
    return dx_hat


def statistics_gradients(dx_hat_sum: Any, dx_hat_xc_sum: Any, rstd: Any) -> tuple[Any, Any]:
    """dmean and dvar of given statistics, from sums of dx_hat and dx_hat (x - mean)."""
    drstd = dx_hat_xc_sum  # (9)
    dvar = -0.5 * rstd**3 * drstd  # (10)
    dmean = -rstd * dx_hat_sum  # (11)
    return dmean, dvar


def averages(dx_hat: Any, x_hat: Any, E: Average, M: Average) -> tuple[Any, Any]:
    """What (12) takes from dx_hat: E[dx_hat] and E[dx_hat x_hat]."""
    return M(dx_hat), E(dx_hat, x_hat)


def input_gradient(
    dx_hat: Any, x_hat: Any, rstd: Any, mean_dx_hat: Any, mean_dx_hat_x_hat: Any
) -> Any:
    """dx, through x_hat and both statistics."""
    x_hat *= mean_dx_hat_x_hat
    dx = dx_hat
    dx -= x_hat
    dx -= mean_dx_hat  # absent in (13), where the mean is 0 by definition
    dx *= rstd  # (12)
    return dx


def input_gradient_of_constants(dx_hat: Any, rstd: Any) -> Any:
    """dx where mean and variance are constants (inference)."""
    dx = dx_hat
    dx *= rstd  # (14)
    return dx

"""The backward pass differentiated again: its own backward pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .. import checks, normalize
from ..cache import Array, Cache
from ..engine.lifting import moderate, of_given
from ..engine.tiles import run
from ..equations import reciprocal_std
from . import passes
from .equations import given_cotangents
from .jvp import fill_tangent, zeros


def double_backward(
    dy: ArrayLike,
    cache: Cache,
    *,
    ddx: ArrayLike | None = None,
    ddgamma: ArrayLike | None = None,
    ddbeta: ArrayLike | None = None,
    ddrunning_mean: ArrayLike | None = None,
    ddrunning_var: ArrayLike | None = None,
) -> tuple[Array | None, ...]:
    """Return what reaches dy, x and gamma from what reaches dx, dgamma and dbeta.

    It is the backward pass of the backward pass, as a gradient penalty needs it. With x_hat_dot
    the tangent of x_hat along ddx, which is rstd * (ddx - E[ddx] - x_hat * E[ddx * x_hat])::

        d_dy = gamma * x_hat_dot + ddgamma * x_hat + ddbeta
        d_gamma = sum of dy * x_hat_dot
        d_x_hat = ddgamma * dy - rstd * E[ddx * x_hat] * dx_hat
        d_x = rstd * (d_x_hat - E[dx_hat * x_hat] * x_hat_dot - E[d_x_hat]
                      - x_hat * (E[d_x_hat * x_hat] + E[dx_hat * x_hat_dot]))

    The first line is `jvp`, whose tangents are ddx, ddgamma and ddbeta. Nothing is divided by
    gamma, so that all of it is right where gamma is 0.

    Parameters
    ----------
    dy : ndarray
        What the backward pass was given.
    cache : Cache
        What the forward pass returned; `jvp` says of which norms.
    ddx, ddgamma, ddbeta : ndarray, optional
        Gradients of dx, dgamma and dbeta, of their shapes; None is 0.
    ddrunning_mean, ddrunning_var : ndarray, optional
        Of drunning_mean and drunning_var, if the cache is of inference; None is 0.

    Returns
    -------
    d_dy, d_x, d_gamma : ndarray
        Of the shapes and dtypes of `x`, `x` and `gamma`; None for a gamma that was None. For
        inference d_dy, d_x, d_running_mean, d_running_var, d_gamma.

    Raises
    ------
    ValueError
        If a shape is wrong, a gradient is of what the norm did not have, x was overwritten, or the
        forward pass was given `where`.
    TypeError
        If `cache` is none of these norms', or a dtype is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> import numpy_norms as nn
    >>> x, dy = np.array([[1.0, 3.0, 5.0]]), np.array([[1.0, 0.0, 0.0]])
    >>> y, cache = nn.layer_norm_forward(x, eps=0)
    >>> dx, _, _ = nn.layer_norm_backward(dy, cache)
    >>> d_dy, d_x, _ = nn.double_backward(dy, cache, ddx=dx)  # of half the square of dx
    >>> d_dy.round(4), d_x.round(4)
    (array([[ 0.0625, -0.125 ,  0.0625]]), array([[ 0.0312, -0.0312,  0.    ]]))
    """
    x, gamma = checks.own_input(cache), cache.gamma
    if cache.mask is not None:
        raise ValueError(
            "cache comes from a forward pass with where=, of which only the first derivative is "
            "known here; pass the elements that count as an array of their own, or use jvp"
        )
    if x.dtype.kind == "c":
        checks.complex_parameters(cache, x)
    dy = checks.gradient("dy", dy, x)
    ddx = zeros(x) if ddx is None else checks.like("ddx", ddx, "x", x)
    ddgamma = checks.like("ddgamma", ddgamma, "gamma", gamma)
    ddbeta = checks.like("ddbeta", ddbeta, "beta", cache.beta)
    given = cache.given or (None, None)
    ddmean = checks.like("ddrunning_mean", ddrunning_mean, "running_mean", given[0])
    ddvar = checks.like("ddrunning_var", ddrunning_var, "running_var", given[1])
    d_dy, d_x = (cache.plan.result_like(x) for _ in range(2))
    known = fill_tangent(cache, x, ddx, ddmean, ddvar, ddgamma, ddbeta, d_dy)
    plan, eps, statistics, views = cache.plan, cache.eps, cache.statistics, (x, dy, ddx, d_x)
    scale = gamma if cache.scale is None else cache.scale
    if cache.given is None:
        scale, along, power = moderate(plan, scale, ddgamma)
        about, slots = (*statistics, *(known or (None, None))), passes.SLOTS
        _, sums = run(passes.cotangent, plan, views, (scale, along), about, eps, power, slots=slots)
        return d_dy, d_x, *normalize.gradients_of((gamma,), sums)
    mean, var, *few = plan.parameters(*statistics[2:], scale, ddmean, ddvar, ddgamma)
    with np.errstate(all="ignore"):
        pivot, rest = of_given(plan, mean, var, eps)
        rstd, nothing = reciprocal_std(var, eps), np.zeros_like(var)
        absent = np.ones_like(var), nothing, nothing, nothing
        scale, *factors = (
            b if a is None else a.astype(plan.few) for a, b in zip(few, absent, strict=True)
        )
        _, of_var, of_gamma = factors
        about = pivot, rest, scale, rstd, of_gamma, of_var
        _, sums = run(passes.cotangent_of_given, plan, views, (), about, slots=3)
        of_dy, of_xc, of_ddx = sums
        gradients = given_cotangents(of_dy, of_xc, of_ddx, scale, rstd, *factors)
    return d_dy, d_x, *normalize.gradients_of((*given, gamma), gradients)

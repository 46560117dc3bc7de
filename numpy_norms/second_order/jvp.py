"""Forward mode: the tangent of y along tangents of the arguments."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .. import checks
from ..cache import Array, Cache
from ..engine.tiles import Numbers, run
from . import passes


def jvp(
    cache: Cache,
    *,
    x_dot: ArrayLike | None = None,
    gamma_dot: ArrayLike | None = None,
    beta_dot: ArrayLike | None = None,
    running_mean_dot: ArrayLike | None = None,
    running_var_dot: ArrayLike | None = None,
) -> Array:
    """Return the tangent of y: how y changes along tangents of the arguments (forward mode).

    For the norm that made `cache`, with E_A its average over sets::

        x_hat_dot = rstd * (x_dot - E_A[x_dot] - x_hat * E_A[x_dot * x_hat])
        y_dot = gamma * x_hat_dot + gamma_dot * x_hat + beta_dot

    The first line is that of dx in the backward pass, with x_dot for dx_hat: the Jacobian of x_hat
    is symmetric. Where mean and variance are arguments (inference) it is::

        x_hat_dot = rstd * (x_dot - running_mean_dot) - rstd**2 / 2 * x_hat * running_var_dot

    Parameters
    ----------
    cache : Cache
        What a forward pass returned: of batch, layer, group, instance or RMS norm, of batch norm's
        inference, or of layer and RMS norm with a residual added, whose x is the sum.
    x_dot, gamma_dot, beta_dot : ndarray, optional
        Tangents, of the shapes of `x`, `gamma` and `beta`; None is 0.
    running_mean_dot, running_var_dot : ndarray, optional
        Tangents of the statistics that are arguments of inference; None is 0.

    Returns
    -------
    y_dot : ndarray, of the shape and dtype of `x`

    Raises
    ------
    ValueError
        If a shape is wrong, a tangent is of what the norm did not have, or x was overwritten.
    TypeError
        If `cache` is none of these norms', or a dtype is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> import numpy_norms as nn
    >>> y, cache = nn.layer_norm_forward(np.array([[1.0, 3.0, 5.0]]), eps=0)
    >>> nn.jvp(cache, x_dot=np.array([[1.0, 0.0, 0.0]])).round(4)
    array([[ 0.1021, -0.2041,  0.1021]])
    """
    x = checks.own_input(cache)
    x_dot = zeros(x) if x_dot is None else checks.like("x_dot", x_dot, "x", x)
    gamma_dot = checks.like("gamma_dot", gamma_dot, "gamma", cache.gamma)
    beta_dot = checks.like("beta_dot", beta_dot, "beta", cache.beta)
    given = cache.given or (None, None)
    mean_dot = checks.like("running_mean_dot", running_mean_dot, "running_mean", given[0])
    var_dot = checks.like("running_var_dot", running_var_dot, "running_var", given[1])
    y_dot = cache.plan.result_like(x)
    fill_tangent(cache, x, x_dot, mean_dot, var_dot, gamma_dot, beta_dot, y_dot)
    return y_dot


def zeros(x: Array) -> Array:
    """Zeros like x, which take no memory."""
    return np.broadcast_to(np.zeros((), x.dtype), x.shape)


def fill_tangent(
    cache: Cache,
    x: Array,
    x_dot: Array,
    mean_dot: Array | None,
    var_dot: Array | None,
    gamma_dot: Array | None,
    beta_dot: Array | None,
    y_dot: Array,
) -> Numbers:
    """Fill y_dot; return what `passes.tangent` keeps for `passes.cotangent`."""
    plan, eps, statistics, mask = cache.plan, cache.eps, cache.statistics, cache.mask
    scale = cache.gamma if cache.scale is None else cache.scale
    few, slots = (scale, gamma_dot, beta_dot), 2 if gamma_dot is None else 3
    if cache.given is not None:
        given = plan.parameters(statistics.mean, statistics.var, mean_dot, var_dot)
        run(passes.tangent_of_given, plan, (x, x_dot, y_dot), few, given, eps, slots=slots)
        return ()
    hidden, of_sets = (None, (None, None)) if mask is None else (mask.hidden, mask.of_sets)
    views, about = (x, hidden, x_dot, y_dot), (*statistics, *of_sets)
    kept = not plan.cut(passes.SLOTS).whole
    numbers, _ = run(passes.tangent, plan, views, few, about, eps, kept, slots=slots)
    return numbers

"""Batch norm in inference: each channel with statistics that are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import checks
from . import equations as eq
from .blocks import Block, Gathered, gather_parameters, sweep
from .cache import Array, Cache, Statistics
from .plans import Layout, plan_for
from .rounding import native, round_to
from .scaling import factors_fit, squares_fit

NEAR = 4.0  # standard deviations between a mean and zero that cost no digit of float32


def batch_norm_inference_forward(
    x: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    channel_axis: int = 1,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """Normalize each channel with statistics that are given, then scale and shift it.

    For each channel::

        y = gamma * (x - running_mean) / sqrt(running_var + eps) + beta

    Nothing is averaged: an element of `y` depends on one element of `x`.

    Parameters
    ----------
    x : ndarray, shape (N, C, *S)
        Or with the channels at `channel_axis`; with at least two axes.
    running_mean, running_var : ndarray, shape (C,)
        Mean and variance of each channel, as `update_running_stats` keeps them.
    gamma, beta : ndarray, shape (C,), optional
        Scale and shift of each channel; None stands for ones and zeros.
    channel_axis : int, default 1
        The axis of the channels; -1 where they are last.
    eps : float, default 1e-5
        Added to the variance; in units of `x` squared.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.
    out : ndarray, optional
        Where to write `y`; `x` itself is allowed, but then there is no backward pass.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : Cache
        For `batch_norm_inference_backward`.

    Raises
    ------
    ValueError
        If a shape, `channel_axis`, `eps` or the place of `out` is wrong, or a variance negative.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    References
    ----------
    Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> y, cache = batch_norm_inference_forward(x, np.zeros(2), np.array([1.0, 100.0]), eps=0)
    >>> y
    array([[1., 1.],
           [3., 3.]])
    """
    x = checks.array("x", x)
    c = checks.channel_axis(channel_axis, x)
    running_mean = checks.given_of_channels("running_mean", running_mean, c, x)
    running_var = checks.given_of_channels("running_var", running_var, c, x)
    checks.not_negative("running_var", running_var)
    gamma, beta = checks.per_channel(gamma, beta, c, x)
    statistics = {"running_mean": running_mean, "running_var": running_var}
    out = checks.output(out, x, gamma=gamma, beta=beta, **statistics)
    eps = checks.epsilon(eps)
    work = checks.working_dtype(x, dtype)
    layout = Layout(x.shape, over=(), along=(c,), sets=tuple(range(x.ndim)))
    y = np.empty(x.shape, native(x.dtype)) if out is None else out
    with np.errstate(all="ignore"):
        mean, var = running_mean.astype(work), running_var.astype(work)
        rstd = eq.rstd(var, eps)
        _normalize(x, y, mean, rstd, gamma, beta, layout, eps)
    kept = None if out is not None and checks.same_memory(x, out) else x
    given = Statistics(running_mean, None, running_var, rstd, None)
    return y, Cache(
        "batch_norm_inference", kept, gamma, beta, mean, var, rstd, eps, layout, given, work
    )


def _normalize(
    x: Array,
    y: Array,
    mean: Array,
    rstd: Array,
    gamma: Array | None,
    beta: Array | None,
    layout: Layout,
    eps: float,
) -> None:
    work = rstd.dtype
    plan = plan_for(layout, work.itemsize)
    x_view, y_view = plan.view(x), plan.view(y)
    numbers = _fewest_operations(mean, rstd, gamma, beta, x.dtype, eps)
    center, slope, scale, shift = [plan.parameter(a, work) for a in numbers]

    def visit(block: Block, _: Gathered) -> None:
        own, out = block.own(0), block.place(y_view, 0)
        c, s, g, b = [block.wide(block.parameters(a)) for a in (center, slope, scale, shift)]
        xc = eq.center(block.lift(x_view, 0), c, None, out=own)
        last = g is None and b is None
        x_hat = eq.standardize(xc, s, out=out if last else own)
        block.store(eq.affine(x_hat, g, b, own=own, out=out), y_view)

    sweep(plan, visit, work)


def _fewest_operations(
    mean: Array, rstd: Array, gamma: Array | None, beta: Array | None, x: np.dtype[Any], eps: float
) -> tuple[Array | None, Array, Array | None, Array | None]:
    """Center, slope, gamma and beta of each channel, with what can be computed beforehand.

    gamma joins rstd where their product is a normal number. The mean joins beta where the working
    dtype has digits to spare and every mean is near zero, in standard deviations: then one
    multiplication and one addition are left for each element.
    """
    work, slope = rstd.dtype, rstd
    if gamma is not None:
        if not (squares_fit(gamma.dtype, work) or factors_fit(gamma, eps)):
            return mean, rstd, gamma, beta
        slope = rstd * gamma.astype(work)
    if beta is None or not (x.itemsize <= 4 and work.itemsize >= 8):
        return mean, slope, None, beta
    shift = beta.astype(work) - mean * slope
    distance = np.abs(mean * rstd) + 0 * shift  # NaN where gamma is infinite
    near = np.maximum.reduce(distance, initial=0) <= NEAR
    return (None, slope, None, shift) if near else (mean, slope, None, beta)


def batch_norm_inference_backward(
    dy: ArrayLike, cache: Cache
) -> tuple[Array, Array, Array, Array | None, Array | None]:
    """Return the gradients of all array arguments of `batch_norm_inference_forward`.

    With dx_hat = gamma * dy, and sums over all axes but the channel axis::

        dx = rstd * dx_hat
        drunning_mean = -rstd * sum(dx_hat)
        drunning_var = -rstd**3 / 2 * sum(dx_hat * (x - running_mean))

    and dgamma, dbeta the sums of ``dy * x_hat`` and ``dy``.

    Parameters
    ----------
    dy : ndarray
        Gradient of `y`, of its shape.
    cache : Cache
        What `batch_norm_inference_forward` returned.

    Returns
    -------
    dx, drunning_mean, drunning_var, dgamma, dbeta : ndarray
        Of the shapes and dtypes of the arguments; None for one that was None.

    Raises
    ------
    ValueError
        If the shape of `dy` is wrong, or `cache` comes from elsewhere.
    TypeError
        If the dtype of `dy` is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> x, gamma = np.array([[1.0], [3.0]]), np.array([2.0])
    >>> y, cache = batch_norm_inference_forward(x, np.zeros(1), np.array([4.0]), gamma, eps=0)
    >>> gradients = batch_norm_inference_backward(np.array([[1.0], [0.0]]), cache)
    >>> dx, drunning_mean, drunning_var, dgamma, dbeta = gradients
    >>> dx.ravel(), drunning_mean, drunning_var, dgamma, dbeta
    (array([1., 0.]), array([-1.]), array([-0.125]), array([0.5]), None)
    """
    dy = checks.upstream(dy, cache, "batch_norm_inference")
    assert cache.x is not None
    dx = np.empty(cache.x.shape, native(cache.x.dtype))
    with np.errstate(all="ignore"):
        dbeta, dgamma, dy_xc = _differentiate(dy, dx, cache)
        gamma = 1 if cache.gamma is None else cache.gamma.astype(cache.work)
        dmean, dvar = eq.statistics_gradients(gamma * dbeta, gamma * dy_xc, cache.rstd)
        given = (cache.statistics.pivot, cache.statistics.var, cache.gamma, cache.beta)
        gradients = (dmean, dvar, dgamma, dbeta)
        rounded: Any = [
            None if a is None else round_to(da, a.dtype)
            for da, a in zip(gradients, given, strict=True)
        ]
    return dx, *rounded


def _differentiate(dy: Array, dx: Array, cache: Cache) -> tuple[Array, ...]:
    """Fill `dx`; return the sums of dy, dy * x_hat and dy * (x - mean) for each channel."""
    assert cache.x is not None
    work = cache.work
    plan = plan_for(cache.layout, work.itemsize)
    x_view, dy_view, dx_view = plan.view(cache.x), plan.view(dy), plan.view(dx)
    assert cache.mean is not None
    mean_view, rstd_view = plan.parameter(cache.mean, work), plan.parameter(cache.rstd, work)
    gamma_view = plan.parameter(cache.gamma, work)

    def visit(block: Block, gathered: Gathered) -> None:
        own, part, S = block.own(0), block.cut.of_parameters, plan.parameter_sum
        rstd = rstd_view[part]
        xc = eq.center(block.lift(x_view, 0), mean_view[part], None, out=own)
        dy = block.lift(dy_view, 1)
        dy_xc = S(dy, xc)
        x_hat = eq.standardize(xc, rstd, out=own)
        gathered.add_parameters(block.cut, (eq.dbeta(dy, S), S(dy, x_hat), dy_xc))
        gamma = None if gamma_view is None else gamma_view[part]
        dx_hat = eq.dx_hat(dy, gamma, out=block.own(1))
        block.store(eq.dx_of_constants(dx_hat, rstd, out=block.place(dx_view, 1)), dx_view)

    if not dx.size:
        return (np.zeros_like(cache.rstd),) * 3
    sums = gather_parameters(plan, sweep(plan, visit, work))
    return tuple(s.reshape(cache.rstd.shape) for s in sums)

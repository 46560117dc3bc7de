"""Batch norm in inference: each channel with statistics that are given."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import checks, normalize, passes
from .batch_norm import layout
from .cache import Array, Cache
from .engine.lifting import careful, moderate
from .engine.plans import Asked, Plan, plan_for
from .engine.programs import repeated
from .engine.tiles import run
from .normalize import Kind

ARRAYS = ("x", "running_mean", "running_var", "gamma", "beta")


def batch_norm_inference_forward(
    x: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    channel_axis: int | Sequence[int] = 1,
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
    channel_axis : int or sequence of int, default 1
        The axis of the channels; -1 where they are last. Of several, `gamma` has the shape of
        these axes, in the order in which they lie in `x`.
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
    x = _plain("x", x)
    running_mean = _plain("running_mean", running_mean)
    running_var = _plain("running_var", running_var)
    gamma = None if gamma is None else _plain("gamma", gamma)
    beta = None if beta is None else _plain("beta", beta)
    kinds = [
        None if a is None else (a.shape, a.dtype)
        for a in (x, running_mean, running_var, gamma, beta)
    ]
    dtype = None if dtype is None else checks.dtype_of(dtype)
    plan = _plan(checks.integers("channel_axis", channel_axis), dtype, *kinds)
    checks.not_negative("running_var", running_var)
    eps = checks.epsilon(eps)
    given = {"running_mean": running_mean, "running_var": running_var}
    y, kept = (None, x) if out is None else normalize.place(x, out, gamma=gamma, beta=beta, **given)
    with np.errstate(all="ignore"):
        mean, var = running_mean.astype(plan.wide), running_var.astype(plan.wide)
        y, plan = _filled(plan, x, mean, var, gamma, beta, eps, y)
    y = y if out is None else normalize.delivered(y, out)
    statistics = passes.Statistics(None, None, mean, var)
    cache = Cache("batch_norm_inference", kept, gamma, beta, eps, plan, statistics)
    return y, cache._replace(given=(running_mean, running_var))


def _plain(name: str, a: ArrayLike) -> Array:
    return a if type(a) is np.ndarray else checks.array(name, a)


@lru_cache(maxsize=256)
def _plan(channel_axis: Any, dtype: np.dtype[Any] | None, *kinds: Kind | None) -> Plan:
    """The plan for arguments of these kinds, which are checked here."""
    x, running_mean, running_var, gamma, beta = map(normalize.of_kind, ARRAYS, kinds)
    c = checks.channel_axes(channel_axis, x)
    checks.given_of_channels("running_mean", running_mean, c, x)
    checks.given_of_channels("running_var", running_var, c, x)
    work = checks.working_dtype(x, dtype)
    wide = np.promote_types(work, np.float64)
    return plan_for(layout(x, gamma, beta, c), work, x.dtype, Asked(True, wide, wide))


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
    dy, x = checks.upstream(dy, cache, "batch_norm_inference")
    _, _, mean, var = cache.statistics
    assert mean is not None
    assert cache.given is not None
    with np.errstate(all="ignore"):
        dx, *gradients = _gradients(cache.plan, dy, x, mean, var, cache.gamma, cache.eps)
    parameters = *cache.given, cache.gamma, cache.beta
    return dx, *normalize.gradients_of(parameters, gradients)


@repeated
def _filled(
    plan: Plan,
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    y: Array | None,
) -> tuple[Array, Plan]:
    """Fill y; return it, and the plan that did."""
    y = plan.result_like(x) if y is None else y
    plan, given = careful(plan, gamma, eps), plan.parameters(mean, var)
    run(passes.inference, plan, (x, y), (gamma, beta), given, eps, slots=1)
    return y, plan


@repeated
def _gradients(
    plan: Plan,
    dy: Array,
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array | None,
    eps: float,
) -> tuple[Array, ...]:
    """dx, and the gradients of the parameters, not yet rounded."""
    dx, given = plan.result_like(x), plan.parameters(mean, var)
    (gamma,), views = plan.parameters(gamma), (x, dy, dx)
    gamma, power = moderate(plan, gamma)
    work, slots = passes.inference_backward, plan.slots
    _, sums = run(work, plan, views, (gamma,), given, eps, power, slots=slots)
    return dx, *passes.inference_gradients(plan, sums, given[1], gamma, eps, power)

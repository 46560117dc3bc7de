"""Batch renorm: batch norm in training that agrees with inference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import checks, normalize, passes
from .. import equations as eq
from ..batch_norm import layout
from ..cache import Cache
from ..engine import lifting
from ..engine.plans import Asked, Plan, plan_for
from ..engine.tiles import Steps, Tile, run

Array = NDArray[Any]


class BatchRenormCache(NamedTuple):
    """What `batch_renorm_backward` needs; made by the forward pass.

    `batch` is the cache of batch norm, which `update_running_stats` takes; `r` and `d` have one
    number for each channel.
    """

    batch: Cache
    r: Array
    d: Array

    def __repr__(self) -> str:
        return repr(self.batch).replace("batch_norm", "batch_renorm")


def batch_renorm_forward(
    x: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
    channel_axis: int | Sequence[int] = 1,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
) -> tuple[Array, BatchRenormCache]:
    """Normalize as batch norm does, then correct towards statistics that are given.

    Over A, all axes but the channel axis, for each channel::

        x_hat = (x - E_A[x]) / sigma       sigma = sqrt(Var_A[x] + eps)
        y = gamma * (r * x_hat + d) + beta

        r = clip(sigma / running_sigma, 1 / r_max, r_max)    running_sigma = sqrt(running_var + eps)
        d = clip((E_A[x] - running_mean) / running_sigma, -d_max, d_max)

    Where neither is clipped, `y` is what `batch_norm_inference_forward` gives; with ``r_max=1,
    d_max=0`` it is batch norm. `update_running_stats` takes the cache, and keeps the statistics.

    Parameters
    ----------
    x : ndarray, shape (N, C, *S)
        Or with the channels at `channel_axis`; with at least two axes.
    running_mean, running_var : ndarray, shape (C,)
        Moving mean and variance of each channel.
    gamma, beta : ndarray, shape (C,), optional
        Scale and shift of each channel; None stands for ones and zeros.
    r_max, d_max : float, default 3, 5
        How far to correct: at least 1, at least 0; np.inf is allowed. Training begins at 1, 0.
    channel_axis, eps, dtype : optional
        As in `batch_norm_forward`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : BatchRenormCache
        For `batch_renorm_backward`; ``cache.r`` and ``cache.d`` tell how far statistics differ.

    Raises
    ------
    ValueError
        If a shape or an option is wrong, or a variance negative.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    References
    ----------
    Ioffe 2017, arXiv:1702.03275, algorithm 1; the (B) equations of ``docs/further_norms.md``.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> y, cache = batch_renorm_forward(x, np.zeros(1), np.full(1, 4.0), r_max=4, d_max=0.25, eps=0)
    >>> y.ravel(), cache.r, cache.d
    (array([-0.25,  0.75]), array([0.5]), array([0.25]))
    """
    x = checks.array("x", x)
    c = checks.channel_axes(checks.integers("channel_axis", channel_axis), x)
    mean = checks.given_of_channels("running_mean", running_mean, c, x)
    var = checks.given_of_channels("running_var", running_var, c, x)
    checks.not_negative("running_var", var)
    gamma, beta = checks.per_channel(gamma, beta, c, x)
    eps, clips = checks.epsilon(eps), _clips(r_max, d_max)
    work = checks.working_dtype(x, dtype)
    wide = np.promote_types(work, np.float64)
    plan = plan_for(layout(x, gamma, beta, c), work, x.dtype, Asked(True, wide, wide))
    # What r makes larger, it makes no larger than gamma / running_sigma, which eps bounds as well.
    plan = lifting.careful(plan, gamma, eps)
    y = plan.result_like(x)
    with np.errstate(all="ignore"):
        few = plan.parameters(mean.astype(wide), var.astype(wide), gamma, beta)
        kept, _ = run(_forward, plan, (x, y), (), (None, None, *few), eps, clips, slots=1)
        statistics = passes.Statistics(*kept[:4])
        r, d = map(plan.in_order, kept[4:] or _corrections(plan, statistics, few[:2], eps, clips))
        scale = r if gamma is None else r * gamma.astype(wide)
    batch = Cache("batch_norm", x, gamma, beta, eps, plan, statistics, scale=scale)
    return y, BatchRenormCache(batch, r, d)


def batch_renorm_backward(
    dy: ArrayLike, cache: BatchRenormCache
) -> tuple[Array, Array | None, Array | None]:
    """Return the gradients of `x`, `gamma` and `beta` of `batch_renorm_forward`.

    r and d are constants, and so are the moving statistics. So it is batch norm with
    ``gamma * r`` for gamma; and dgamma is the sum of ``dy * (r * x_hat + d)`` for each channel.

    Parameters
    ----------
    dy : ndarray
        Gradient of `y`, of its shape.
    cache : BatchRenormCache
        From `batch_renorm_forward`.

    Returns
    -------
    dx, dgamma, dbeta : ndarray
        Of the shapes and dtypes of `x`, `gamma` and `beta`; None for one that was None.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> y, cache = batch_renorm_forward(
    ...     x, np.zeros(1), np.full(1, 4.0), np.ones(1), r_max=4, d_max=0.25, eps=0
    ... )
    >>> dx, dgamma, dbeta = batch_renorm_backward(np.array([[1.0], [0.0]]), cache)
    >>> dx.ravel(), dgamma, dbeta
    (array([0., 0.]), array([-0.25]), None)
    """
    checks.made_by("batch_renorm", BatchRenormCache, cache)
    batch, r, d = cache
    dy, x = checks.upstream(dy, batch, "batch_norm")
    plan, gamma, beta = batch.plan, batch.gamma, batch.beta
    dx = plan.result_like(x)
    scale, power = lifting.moderate(plan, batch.scale)
    views, about, slots = (x, dy, dx, None), batch.statistics, plan.slots
    _, sums = run(passes.backward, plan, views, (scale,), about, batch.eps, power, slots=slots)
    if sums:
        sum_dy_x_hat, dbeta = (a.reshape(r.shape) for a in sums)
        with np.errstate(all="ignore"):
            sums = r * sum_dy_x_hat + d * dbeta, dbeta  # (B5)
    return dx, *normalize.gradients_of((gamma, beta), sums)


def _forward(
    tile: Tile, x_view: Array, y_view: Array, eps: float, clips: tuple[float, float]
) -> Steps:
    """Fill y; keep the statistics of the batch, r and d."""

    def reduce(pivot: Any, exponent: Any, *_: Any) -> Any:
        x = tile.lift(x_view, pivot, exponent, into=y_view)
        return (x,), eq.moments(x, tile.E, tile.M), ()

    def apply(x: Any, *numbers: Any) -> Any:
        pivot, exponent, *given, gamma, beta, mean, var = numbers
        statistics = pivot, exponent, mean, var
        r, d = _corrections(tile.plan, statistics, given, eps, clips)
        rstd = eq.reciprocal_std(var, lifting.eps_of(tile.plan, eps, exponent, var))
        x_hat = eq.standardized(x, mean, rstd)
        scale, shift = (r, d) if gamma is None else (gamma * r, gamma * d)
        tile.store(eq.output(x_hat, scale, shift if beta is None else shift + beta), y_view)  # (B4)
        return *statistics, r, d

    return Steps(reduce, passes.mean_and_variance, apply, partial(lifting.nearer, tile.plan, eps))


def _corrections(
    plan: Plan, statistics: Any, given: Any, eps: float, clips: tuple[float, float]
) -> tuple[Array, Array]:
    """r and d, which are constants: of complex numbers the real part."""
    pivot, exponent, mean, var = statistics
    running_mean, running_var = given
    r_max, d_max = clips
    running_sigma = np.sqrt(running_var + eps)
    if exponent is None:
        sigma = np.sqrt(var + eps)  # (B1)
    else:  # the root of the lifted variance, as that of x itself may be out of range
        sigma = plan.times(np.sqrt(var + np.ldexp(eps, 2 * exponent)), -exponent)
        pivot, mean = None, lifting.mean_of(plan, pivot, exponent, mean)
    ratio = np.where(sigma == running_sigma, 1, sigma / running_sigma)  # 1 where both are 0
    r = np.clip(ratio.real, 1 / plan.number(r_max), r_max)  # (B2)
    # The mean less its pivot last, so that no digit is lost where both are far from zero.
    between = mean - running_mean if pivot is None else pivot - running_mean + mean
    distance = np.where(between == 0, 0, between / running_sigma)
    d = np.clip(distance.real, -d_max, d_max)  # (B3)
    return r, d


def _clips(r_max: float, d_max: float) -> tuple[float, float]:
    r_max, d_max = checks.number("r_max", r_max, 3), checks.number("d_max", d_max, 5)
    if not (r_max >= 1 and d_max >= 0):
        raise ValueError(
            f"r_max is {r_max} and d_max is {d_max}, but r_max >= 1 and d_max >= 0 were expected; "
            "pass r_max=1, d_max=0 for batch norm"
        )
    return r_max, d_max

"""Batch norm in training: each channel over the whole batch."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike, DTypeLike

from . import checks, normalize
from .cache import Array, Cache
from .engine.plans import Layout


def batch_norm_forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    channel_axis: int | Sequence[int] = 1,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
    where: ArrayLike | None = None,
) -> tuple[Array, Cache]:
    """Normalize each channel with the statistics of the batch, then scale and shift it.

    Over A, all axes but the channel axis (N and S in (N, C, *S)), for each channel::

        y = gamma * (x - E_A[x]) / sqrt(Var_A[x] + eps) + beta

    The variance is the biased one. `update_running_stats` keeps averages for inference.

    Parameters
    ----------
    x : ndarray, shape (N, C, *S)
        Or with the channels at `channel_axis`; with at least two axes.
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
    where : ndarray of bool, optional
        What counts, True by default; it broadcasts to `x`. Mean and variance are of the elements
        that count, and every element is normalized with them. A channel in which none counts is
        refused.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : Cache
        For `batch_norm_backward` and `update_running_stats`; its statistics have shape (C,).

    Raises
    ------
    ValueError
        If a shape, `channel_axis`, `eps` or the place of `out` is wrong.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    References
    ----------
    Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = batch_norm_forward(np.array([[1.0, 10.0], [3.0, 30.0]]), eps=0)
    >>> y
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> cache.mean
    array([ 2., 20.])
    """
    axis = checks.integers("channel_axis", channel_axis)
    return normalize.forward(
        "batch_norm", layout, x, gamma, beta, (axis,), eps=eps, dtype=dtype, out=out, where=where
    )


def layout(
    x: Array, gamma: Array | None, beta: Array | None, channel_axis: int | tuple[int, ...]
) -> Layout:
    """Batch norm shares statistics over all axes but those of the channels."""
    c = checks.channel_axes(channel_axis, x)
    checks.per_channel(gamma, beta, c, x)
    over = tuple([a for a in range(x.ndim) if a not in c])
    return Layout(x.shape, over=over, along=c, sets=c)


def batch_norm_backward(dy: ArrayLike, cache: Cache) -> tuple[Array, Array | None, Array | None]:
    """Return the gradients of `x`, `gamma` and `beta` of `batch_norm_forward`.

    With dx_hat = gamma * dy and A all axes but the channel axis::

        dx = rstd * (dx_hat - E_A[dx_hat] - x_hat * E_A[dx_hat * x_hat])

    and dgamma, dbeta the sums of ``dy * x_hat`` and ``dy`` over A.

    Parameters
    ----------
    dy : ndarray
        Gradient of `y`, of its shape.
    cache : Cache
        What `batch_norm_forward` returned.

    Returns
    -------
    dx, dgamma, dbeta : ndarray
        Of the shapes and dtypes of `x`, `gamma` and `beta`; None for one that was None.

    Raises
    ------
    ValueError
        If the shape of `dy` is wrong, or `cache` comes from elsewhere.
    TypeError
        If the dtype of `dy` is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = batch_norm_forward(np.array([[1.0], [3.0], [2.0]]), np.array([2.0]))
    >>> dx, dgamma, dbeta = batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), cache)
    >>> dx.ravel().round(4), dgamma.round(4), dbeta
    (array([ 0.4083,  0.4082, -0.8165]), array([-1.2247]), None)
    """
    return normalize.backward("batch_norm", dy, cache)

"""Mean-variance normalization: zero mean, unit standard deviation, eps outside the root (ONNX)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import checks
from ..scaling import power_of_two, squares_fail
from .rows import by_rows, upstream

Array = NDArray[Any]


class MeanVarianceCache(NamedTuple):
    """What `mean_variance_norm_backward` needs; made by the forward pass."""

    x: Array
    axes: tuple[int, ...]
    eps: float
    work: np.dtype[Any]


def mean_variance_norm_forward(
    x: ArrayLike,
    *,
    axis: int | Sequence[int] = (0, 2, 3),
    eps: float = 1e-9,
    dtype: DTypeLike | None = None,
) -> tuple[Array, MeanVarianceCache]:
    """Normalize to zero mean and unit standard deviation, over the axes given.

    Over A = `axis`, with eps added to the standard deviation, not to the variance::

        y = (x - E_A[x]) / (sqrt(Var_A[x]) + eps)

    A constant set gives zeros. This is MeanVarianceNormalization of ONNX, opset 13.

    Parameters
    ----------
    x : ndarray
        Of any shape that has these axes.
    axis : int or sequence of ints, default (0, 2, 3)
        The axes that share statistics; the default is ONNX', one set per channel of (N, C, H, W).
    eps : float, default 1e-9
        Added to the standard deviation; in units of x.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : MeanVarianceCache
        For `mean_variance_norm_backward`.

    Raises
    ------
    ValueError
        If `axis` or `eps` is out of range.
    TypeError
        If `x` is no array of floats.

    References
    ----------
    ONNX, operator MeanVarianceNormalization, opset 13; the (V) equations of
    ``docs/further_norms.md``.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = mean_variance_norm_forward(np.array([[1.0, 3.0]]), axis=1, eps=1.0)
    >>> y
    array([[-0.5,  0.5]])
    """
    x = checks.array("x", x)
    work = checks.working_dtype(x, dtype)
    cache = MeanVarianceCache(x, checks.axes(axis, x), checks.epsilon(eps), work)

    def normalize(rows: Array) -> Array:
        xc, r, *_ = _statistics(rows, cache.eps)
        return r * xc  # (V4)

    return by_rows(normalize, cache), cache


def mean_variance_norm_backward(dy: ArrayLike, cache: MeanVarianceCache) -> Array:
    """Return dx for the gradient `dy` of ``y``.

    Over A = the axes of the forward pass, with sigma = sqrt(Var_A[x])::

        dx = (dy - E_A[dy] - x_hat * E_A[dy * y]) / (sigma + eps)    x_hat = (x - E_A[x]) / sigma

    In a constant set x_hat counts as zero, which makes this the derivative there too.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss with respect to ``y``, of its shape.
    cache : MeanVarianceCache
        From `mean_variance_norm_forward`.

    Returns
    -------
    dx : ndarray
        Shape and dtype of ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = mean_variance_norm_forward(np.array([[1.0, 3.0]]), axis=1, eps=1.0)
    >>> mean_variance_norm_backward(np.array([[1.0, 0.0]]), cache)
    array([[ 0.125, -0.125]])
    """
    dy = upstream(dy, cache, MeanVarianceCache, "mean_variance_norm")

    def pull_back(rows: Array, dy: Array) -> Array:
        xc, r, sigma, scale = _statistics(rows, cache.eps)
        x_hat = np.divide(xc, sigma, out=np.zeros_like(xc), where=sigma != 0)
        dx: Array = r * (dy - _mean(dy) - x_hat * _mean(dy * (r * xc)))  # (V5)
        dx *= scale
        return dx

    return by_rows(pull_back, cache, dy)


def _statistics(x: Array, eps: float) -> tuple[Array, Array, Array, Array]:
    """Of ``scale * x``: x - mu, r and sigma; and the scale, which keeps the squares in range."""
    scale = np.ones((len(x), 1), x.real.dtype)
    eps_squared = eps * eps  # may be inf, which ** would refuse
    xc, var = _moments(x)
    if x.size and squares_fail(var, eps_squared):
        extremes = np.min(x.real, axis=1, keepdims=True), np.max(x.real, axis=1, keepdims=True)
        scale = power_of_two(*extremes, eps_squared)
        xc, var = _moments(x * scale)
    sigma = np.sqrt(var)
    r = 1 / (sigma + eps * scale)  # (V3)
    return xc, r, sigma, scale


def _moments(x: Array) -> tuple[Array, Array]:
    xc = x - _mean(x)  # (V1)
    xc -= _mean(xc)  # what rounding took from the first mean
    return xc, _mean(xc * xc)  # (V2)


def _mean(rows: Array) -> Array:
    return np.asarray(np.add.reduce(rows, axis=1, keepdims=True) / rows.shape[1])

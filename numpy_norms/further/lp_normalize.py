"""L_p normalization: every set divided by its p-norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import checks
from .rows import by_rows, upstream

Array = NDArray[Any]


class LpCache(NamedTuple):
    """What `lp_normalize_backward` needs; made by the forward pass."""

    x: Array
    p: float
    axes: tuple[int, ...]
    eps: float
    work: np.dtype[Any]


class _Norm(NamedTuple):
    """The p-norm of each row: ``scale * n``, and where eps takes its place."""

    size: Array  # |x| / scale
    n: Array
    scale: Array
    below: Array  # (P2) divides by eps


def lp_normalize_forward(
    x: ArrayLike,
    *,
    p: float = 2.0,
    axis: int | Sequence[int] = -1,
    eps: float = 1e-12,
    dtype: DTypeLike | None = None,
) -> tuple[Array, LpCache]:
    """Divide each set by its p-norm, or by eps where the norm is smaller.

    Over A = `axis`::

        y = x / max(n, eps)      n = (sum over A of |x|**p) ** (1/p)

    ``p = inf`` and ``-inf`` are the largest and smallest absolute value, ``p = 0`` the number of
    elements that are not zero. With ``eps=0`` (ONNX) a set whose norm is 0 gives zeros.

    Parameters
    ----------
    x : ndarray
        Of any shape with at least one axis.
    p : float, default 2
        Any real number, inf and -inf included.
    axis : int or sequence of ints, default -1
        The axes that share a norm (PyTorch's default is 1, ONNX' is -1).
    eps : float, default 1e-12
        The smallest divisor; in units of x.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : LpCache
        For `lp_normalize_backward`.

    Raises
    ------
    ValueError
        If `p` is NaN, or `axis` or `eps` is out of range.
    TypeError
        If `x` is no array of floats.

    References
    ----------
    ONNX, operator LpNormalization, opset 22; the (P) equations of ``docs/further_norms.md``.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = lp_normalize_forward(np.array([[3.0, -4.0], [0.0, 0.0]]))
    >>> y
    array([[ 0.6, -0.8],
           [ 0. ,  0. ]])
    """
    x = checks.array("x", x)
    if np.isnan(p):
        raise ValueError("p is nan; pass a real number, such as 2, 1 or np.inf")
    work = checks.working_dtype(x, dtype)
    cache = LpCache(x, float(p), checks.axes(axis, x), checks.epsilon(eps), work)
    return by_rows(lambda rows: _divide(rows, _norm(rows, cache), cache.eps), cache), cache


def lp_normalize_backward(dy: ArrayLike, cache: LpCache) -> Array:
    """Return dx for the gradient `dy` of ``y``.

    Over A = the axes of the forward pass, with u = dn/dx::

        dx = (dy - u * sum over A of dy * y) / n      where n >= eps
        dx = dy / eps                                 where n < eps, so at x = 0
        dx = 0                                        where n = eps = 0

    Where the norm has no derivative, it is PyTorch's choice: u = 0 at an element that is 0, and
    equal shares among the elements that attain the maximum (``p = inf``) or minimum.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss with respect to ``y``, of its shape.
    cache : LpCache
        From `lp_normalize_forward`.

    Returns
    -------
    dx : ndarray
        Shape and dtype of ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = lp_normalize_forward(np.array([[3.0, -4.0], [0.0, 0.0]]), eps=0.5)
    >>> lp_normalize_backward(np.array([[1.0, 0.0], [1.0, 0.0]]), cache)
    array([[0.128, 0.096],
           [2.   , 0.   ]])
    """
    dy = upstream(dy, cache, LpCache, "lp_normalize")

    def pull_back(x: Array, dy: Array) -> Array:
        norm = _norm(x, cache)
        y = _divide(x, norm, cache.eps)
        along_y = np.add.reduce(dy * y, axis=1, keepdims=True)
        dx = (dy - _slope(x, norm, cache.p) * along_y) / norm.n / norm.scale  # (P4)
        dx = np.where(norm.below, dy / cache.eps, dx)  # (P5)
        return np.asarray(np.where(_no_divisor(norm), 0, dx))

    return by_rows(pull_back, cache, dy)


def _norm(x: Array, cache: LpCache) -> _Norm:
    p = cache.p
    size = np.where(x.real < 0, -x, x)  # |x|, without the conjugate that np.abs would take
    if p == 0:
        n = np.count_nonzero(x, axis=1, keepdims=True).astype(x.dtype)
        return _Norm(size, n, np.ones(n.shape, n.real.dtype), n.real < cache.eps)
    if p > 0:
        extreme = np.max(size, axis=1, keepdims=True, initial=0)
    else:
        extreme = np.min(size, axis=1, keepdims=True, initial=np.inf)
    scale = _power_of_two(extreme.real)
    size /= scale
    if np.isinf(p):
        n = extreme / scale
    else:
        n = np.add.reduce(size**p, axis=1, keepdims=True) ** (1 / p)  # (P1)
    return _Norm(size, n, scale, scale * n.real < cache.eps)


def _power_of_two(extreme: Array) -> Array:
    # Divided by it, the largest element (p < 0: the smallest) lies in [1, 2), so that no power
    # overflows; dividing by a power of two is exact.
    usable = np.isfinite(extreme) & (extreme > 0)
    _, exponent = np.frexp(np.where(usable, extreme, 1))
    return np.asarray(np.ldexp(np.ones_like(extreme), exponent - 1))


def _divide(x: Array, norm: _Norm, eps: float) -> Array:
    y = np.where(norm.below, x / eps, x / norm.scale / norm.n)  # (P2)
    return np.asarray(np.where(_no_divisor(norm), 0, y))


def _slope(x: Array, norm: _Norm, p: float) -> Array:
    """dn/dx."""
    if p == 0:
        return np.zeros_like(x)
    if np.isinf(p):
        attained = norm.size == norm.n
        u = attained / np.count_nonzero(attained, axis=1, keepdims=True)
    else:
        u = (norm.size / norm.n) ** (p - 1)  # (P3)
    return np.where(x == 0, 0, np.where(x.real < 0, -u, u))


def _no_divisor(norm: _Norm) -> Array:
    return np.asarray((norm.n == 0) & ~norm.below)

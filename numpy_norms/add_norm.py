"""Residual connection and norm in one: s = x + residual, and y is s normalized."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import checks, normalize
from .cache import Array, Cache
from .engine.rounding import native
from .layer_norm import layer_norm_forward
from .rms_norm import rms_norm_forward


def add_layer_norm_forward(
    x: ArrayLike,
    residual: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] = -1,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
) -> tuple[Array, Array, Cache]:
    """Add `residual` to `x`, then normalize the sum as `layer_norm_forward` does.

    Over A, the axes `axis`, for each index of the other axes::

        s = x + residual
        y = gamma * (s - E_A[s]) / sqrt(Var_A[s] + eps) + beta

    Parameters
    ----------
    x, residual : ndarray
        Of one shape and dtype: what a block of a transformer computed, and what it started from.
    gamma, beta, axis, eps, dtype : optional
        As in `layer_norm_forward`.

    Returns
    -------
    y, s : ndarray, of the shape and dtype of `x`
        `s` is rounded to that dtype before it is normalized: it is what the next block adds to.
    cache : Cache
        For `add_layer_norm_backward`; ``cache.x`` is `s`.

    Raises
    ------
    ValueError, TypeError
        As `layer_norm_forward`; if `x` and `residual` differ in shape, or in dtype.

    References
    ----------
    Vaswani et al. 2017, arXiv:1706.03762, section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> y, s, cache = add_layer_norm_forward(np.array([1.0, 2.0]), np.array([2.0, 7.0]), eps=0)
    >>> y, s
    (array([-1.,  1.]), array([3., 9.]))
    """
    s = _sum(x, residual)
    y, cache = layer_norm_forward(s, gamma, beta, axis=axis, eps=eps, dtype=dtype)
    return y, s, cache._replace(norm="add_layer_norm")


def add_layer_norm_backward(
    dy: ArrayLike, ds: ArrayLike | None, cache: Cache
) -> tuple[Array, Array, Array | None, Array | None]:
    """Return the gradients of the four arrays of `add_layer_norm_forward`.

    `s` passes its whole gradient to both of its terms: what comes back through the norm, as in
    `layer_norm_backward`, plus `ds`.

    Parameters
    ----------
    dy : ndarray
        Gradient of `y`, of its shape.
    ds : ndarray or None
        Gradient that reaches `s` by other ways than the norm; None where there is none.
    cache : Cache
        What `add_layer_norm_forward` returned.

    Returns
    -------
    dx, dresidual : ndarray
        One and the same array, twice: copy it before you change one of them in place.
    dgamma, dbeta : ndarray
        Of the shapes and dtypes of `gamma` and `beta`; None for one that was None.

    Raises
    ------
    ValueError
        If the shape of `dy` or `ds` is wrong, or `cache` comes from elsewhere.
    TypeError
        If the dtype of `dy` or `ds` is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> y, s, cache = add_layer_norm_forward(np.array([1.0, 2.0]), np.array([2.0, 7.0]), eps=1)
    >>> dx, dresidual, _, _ = add_layer_norm_backward(np.array([1.0, 0.0]), np.ones(2), cache)
    >>> dx.round(4), dresidual is dx
    (array([1.0158, 0.9842]), True)
    """
    dx, dgamma, dbeta = _backward(dy, ds, cache, "add_layer_norm")
    return dx, dx, dgamma, dbeta


def add_rms_norm_forward(
    x: ArrayLike,
    residual: ArrayLike,
    gamma: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] = -1,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
) -> tuple[Array, Array, Cache]:
    """Add `residual` to `x`, then normalize the sum as `rms_norm_forward` does.

    Over A, the axes `axis`, for each index of the other axes::

        s = x + residual
        y = gamma * s / sqrt(E_A[s**2] + eps)

    Parameters
    ----------
    x, residual : ndarray
        Of one shape and dtype: what a block of a transformer computed, and what it started from.
    gamma, axis, eps, dtype : optional
        As in `rms_norm_forward`.

    Returns
    -------
    y, s : ndarray, of the shape and dtype of `x`
        `s` is rounded to that dtype before it is normalized: it is what the next block adds to.
    cache : Cache
        For `add_rms_norm_backward`; ``cache.x`` is `s`.

    Raises
    ------
    ValueError, TypeError
        As `rms_norm_forward`; if `x` and `residual` differ in shape, or in dtype.

    References
    ----------
    Zhang and Sennrich 2019, arXiv:1910.07467, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> y, s, cache = add_rms_norm_forward(np.array([3.0, 2.0]), np.array([-2.0, 5.0]), eps=0)
    >>> y, s
    (array([0.2, 1.4]), array([1., 7.]))
    """
    s = _sum(x, residual)
    y, cache = rms_norm_forward(s, gamma, axis=axis, eps=eps, dtype=dtype)
    return y, s, cache._replace(norm="add_rms_norm")


def add_rms_norm_backward(
    dy: ArrayLike, ds: ArrayLike | None, cache: Cache
) -> tuple[Array, Array, Array | None]:
    """Return the gradients of the three arrays of `add_rms_norm_forward`.

    `s` passes its whole gradient to both of its terms: what comes back through the norm, as in
    `rms_norm_backward`, plus `ds`.

    Parameters
    ----------
    dy : ndarray
        Gradient of `y`, of its shape.
    ds : ndarray or None
        Gradient that reaches `s` by other ways than the norm; None where there is none.
    cache : Cache
        What `add_rms_norm_forward` returned.

    Returns
    -------
    dx, dresidual : ndarray
        One and the same array, twice: copy it before you change one of them in place.
    dgamma : ndarray
        Of the shape and dtype of `gamma`; None if that was None.

    Raises
    ------
    ValueError
        If the shape of `dy` or `ds` is wrong, or `cache` comes from elsewhere.
    TypeError
        If the dtype of `dy` or `ds` is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> y, s, cache = add_rms_norm_forward(np.array([3.0, 2.0]), np.array([-2.0, 5.0]), eps=0)
    >>> dx, dresidual, _ = add_rms_norm_backward(np.array([1.0, 0.0]), np.ones(2), cache)
    >>> dx, dresidual is dx
    (array([1.196, 0.972]), True)
    """
    dx, dgamma, _ = _backward(dy, ds, cache, "add_rms_norm")
    return dx, dx, dgamma


def _sum(x: ArrayLike, residual: ArrayLike) -> Array:
    x, residual = checks.array("x", x), checks.array("residual", residual)
    if residual.shape != x.shape:
        raise ValueError(
            f"residual has shape {residual.shape}, but x has {x.shape}; "
            "pass np.broadcast_to(residual, x.shape) if it is the same for many elements"
        )
    if native(residual.dtype) != native(x.dtype):
        raise TypeError(
            f"residual has dtype {residual.dtype}, but x has {x.dtype}, and their sum is stored "
            f"as one of them; pass np.asarray(x, '{residual.dtype.name}'), or "
            f"np.asarray(residual, '{x.dtype.name}')"
        )
    s = np.empty(x.shape, native(x.dtype))
    with np.errstate(all="ignore"):
        return np.add(x, residual, out=s, casting="unsafe")


def _backward(
    dy: ArrayLike, ds: ArrayLike | None, cache: Cache, norm: str
) -> tuple[Array, Array | None, Array | None]:
    if ds is not None:
        _, s = checks.upstream(dy, cache, norm)
        ds = checks.gradient("ds", ds, s)
    return normalize.backward(norm, dy, cache, ds)

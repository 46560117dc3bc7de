"""RMS norm: each sample over its own features, about zero."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike, DTypeLike

from . import checks, normalize, schemes
from .cache import Array, Cache
from .layer_norm import layout


def rms_norm_forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] = -1,
    feature_axis: int | Sequence[int] | None = None,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
    where: ArrayLike | None = None,
    scheme: schemes.Scheme = "exact",
) -> tuple[Array, Cache]:
    """Divide each sample by its root mean square over `axis`, then scale each feature.

    Over A, the axes `axis`, for each index of the other axes::

        y = gamma * x / sqrt(E_A[x**2] + eps)

    No mean is subtracted, so that a shift of `x` changes `y`.

    Parameters
    ----------
    x : ndarray
        Of any shape with at least one axis.
    gamma : ndarray, optional
        Scale, of exactly the shape of the axes `axis`, in the order in which they lie in `x`. None
        stands for ones.
    axis : int or sequence of int, default -1
        The axes averaged over, which hold the features.
    feature_axis : int or sequence of int, optional
        The axes along which `gamma` varies, `axis` by default: (-2, -1) for a scale of each head
        and feature, say, where each head is normalized over the last axis.
    eps : float, default 1e-5
        Added to the mean square; in units of `x` squared. PyTorch's default is the machine epsilon
        of the type computed in, ``np.finfo(np.float32).eps`` for float32 and narrower.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.
    out : ndarray, optional
        Where to write `y`; `x` itself is allowed, but then there is no backward pass.
    where : ndarray of bool, optional
        What counts, True by default; it broadcasts to `x`. The mean square is of the elements
        that count, and every element is normalized with it. Where none counts x_hat is 0.
    scheme : {"exact", "llama", "gemma", "onnx"}, default "exact"
        Where to round, as `numpy_norms.schemes` has it: once at the end, or as trained models in
        half precision do (they compute in ``dtype=np.float32``). "gemma" scales by 1 + gamma.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : Cache
        For `rms_norm_backward`; ``cache.rstd`` has the shape of ``np.mean(x, axis)``, and
        ``cache.mean`` is None.

    Raises
    ------
    ValueError
        If a shape, `axis`, `eps`, `scheme` or the place of `out` is wrong.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    References
    ----------
    Zhang and Sennrich 2019, arXiv:1910.07467, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = rms_norm_forward(np.array([[1.0, 7.0]]), eps=0)
    >>> y
    array([[0.2, 1.4]])
    >>> 1 / cache.rstd
    array([5.])
    """
    exact = isinstance(scheme, str) and scheme == "exact"
    forward = normalize.forward if exact else schemes.forward_of(scheme)
    axes = checks.integers("axis", axis), checks.integers_or_none("feature_axis", feature_axis)
    return forward(
        "rms_norm", layout, x, gamma, None, axes, eps=eps, dtype=dtype, out=out, where=where
    )


def rms_norm_backward(dy: ArrayLike, cache: Cache) -> tuple[Array, Array | None]:
    """Return the gradients of `x` and `gamma` of `rms_norm_forward`.

    With dx_hat = gamma * dy and A the normalized axes::

        dx = rstd * (dx_hat - x_hat * E_A[dx_hat * x_hat])

    and dgamma the sum of ``dy * x_hat`` over all other axes.

    Parameters
    ----------
    dy : ndarray
        Gradient of `y`, of its shape.
    cache : Cache
        What `rms_norm_forward` returned.

    Returns
    -------
    dx, dgamma : ndarray
        Of the shapes and dtypes of `x` and `gamma`; None for `gamma` if that was None.

    Raises
    ------
    ValueError
        If the shape of `dy` is wrong, or `cache` comes from elsewhere.
    TypeError
        If the dtype of `dy` is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = rms_norm_forward(np.array([[1.0, 7.0]]), np.array([1.0, 2.0]), eps=0)
    >>> dx, dgamma = rms_norm_backward(np.array([[1.0, 0.0]]), cache)
    >>> dx, dgamma
    (array([[ 0.196, -0.028]]), array([0.2, 0. ]))
    """
    dx, dgamma, _ = normalize.backward("rms_norm", dy, cache)
    return dx, dgamma
